"""Triton by pytriton: a Python function with the dynamic batcher."""

from pathlib import Path

import numpy as np
import pytriton
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from bench.peers.sessions import Graph, options, paths
from bench.processes import free_port

# The interpreter inside Triton has locks without a method that the library of Python 3.11.7 calls.
_FIXED = """\
import threading
if not hasattr(threading.RLock(), "_recursion_count"):
    threading.RLock = threading._PyRLock
"""


def _fix_locks() -> None:
    """Insert `_FIXED` into the module that pytriton passes to Triton."""
    module = Path(pytriton.__file__).parent / "proxy" / "data.py"
    text = module.read_text()
    if not text.startswith(_FIXED):
        module.write_text(_FIXED + text)


def _infer(graph):
    """The function that Triton calls with a batch of rows."""

    @batch
    def infer(**inputs):
        return {graph.output.name: graph.predict(inputs[graph.input.name])}

    return infer


def main() -> None:
    """Serve every model."""
    arguments = options()
    _fix_locks()
    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=arguments.port,
        grpc_port=free_port(),
        metrics_port=free_port(),
        log_verbose=0,
    )
    with Triton(config=config) as triton:
        for name, path in paths(arguments.models).items():
            graph = Graph(path)
            kind = np.uint8 if graph.takes_images else np.float32
            triton.bind(
                name,
                _infer(graph),
                [Tensor(name=graph.input.name, dtype=kind, shape=graph.input.shape[1:])],
                [Tensor(name=graph.output.name, dtype=np.float32, shape=graph.output.shape[1:])],
                config=ModelConfig(max_batch_size=1024),
            )
        triton.serve()


if __name__ == "__main__":
    main()
