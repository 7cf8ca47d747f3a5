"""Triton by pytriton: its own front end, a Python function behind its dynamic batcher."""

import socket
from pathlib import Path

import numpy as np
import pytriton
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from bench.peers.sessions import Graph, options, paths

# The interpreter inside Triton has locks without a method that Python 3.11.7's library calls.
_FIXED = """\
import threading
if not hasattr(threading.RLock(), "_recursion_count"):
    threading.RLock = threading._PyRLock
"""


def _fix_locks() -> None:
    """Put those lines before a module that pytriton hands to Triton; nothing else is changed."""
    module = Path(pytriton.__file__).parent / "proxy" / "data.py"
    text = module.read_text()
    if not text.startswith(_FIXED):
        module.write_text(_FIXED + text)


def _infer(graph):
    """The function that Triton calls with joined rows."""

    @batch
    def infer(**inputs):
        return {graph.given.name: graph.predict(inputs[graph.taken.name])}

    return infer


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def main() -> None:
    """Bind every graph."""
    given = options()
    _fix_locks()
    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=given.port,
        grpc_port=_free_port(),
        metrics_port=_free_port(),
        log_verbose=0,
    )
    with Triton(config=config) as triton:
        for name, path in paths(given.models).items():
            graph = Graph(path)
            kind = np.uint8 if graph.takes_images else np.float32
            triton.bind(
                name,
                _infer(graph),
                [Tensor(name=graph.taken.name, dtype=kind, shape=graph.taken.shape[1:])],
                [Tensor(name=graph.given.name, dtype=np.float32, shape=graph.given.shape[1:])],
                config=ModelConfig(max_batch_size=1024),
            )
        triton.serve()


if __name__ == "__main__":
    main()
