"""External data of graphs, read into memory before they are opened.

ONNX Runtime itself would map such files into memory: a file that is truncated while it serves then
ends the process by SIGBUS, and one that is rewritten changes the predictions.
"""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from service.bundle.errors import BundleError
from service.bundle.onnx_file import GraphFacts
from service.bundle.store import path_inside, read_file, require_regular
from service.engine.devices import available_memory

# What is read, and the runtime's own copy of it.
_COPIES_LOADING = 2
_MIB = 1024 * 1024


@dataclass(frozen=True)
class Weights:
    """The content of files by the names that a graph gives them.

    ``initializers`` are the graph's own. ``nested`` are those of its subgraphs, functions and
    attributes, which the runtime does not take from memory.
    """

    initializers: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    nested: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    @contextmanager
    def nested_folder(self) -> Iterator[Path]:
        """A private copy of the nested weights, for the runtime to open.

        The files are removed on leaving; what the runtime has mapped stays until it is closed.

        Raises:
            OSError: there is no room for it.
        """
        with tempfile.TemporaryDirectory(
            prefix="onward-weights-", ignore_cleanup_errors=True
        ) as name:
            folder = Path(name)
            for location, content in self.nested.items():
                path = folder / location
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            yield folder


def read_weights(folder: Path, graph: GraphFacts) -> Weights:
    """Read the files that a graph names.

    Args:
        folder: the model's version, which all of them must lie in.
        graph: what names them.

    Raises:
        BundleError: one leads elsewhere, is missing, or cannot be read; or they are too large.
    """
    paths = {name: path_inside(folder, name) for name in graph.weights | graph.nested_weights}
    size = sum(require_regular(path) for path in set(paths.values()))
    memory = available_memory()
    if _COPIES_LOADING * size > memory:
        raise BundleError(
            f"its weights take {size // _MIB:,} MiB, loading them twice that, and this process may "
            f"use {memory // _MIB:,} MiB"
        )
    contents = {path: read_file(path, size) for path in set(paths.values())}
    return Weights(
        {name: contents[paths[name]] for name in graph.weights},
        {name: contents[paths[name]] for name in graph.nested_weights},
    )
