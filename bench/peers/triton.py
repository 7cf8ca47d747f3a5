"""Triton by pytriton: its own front end, a Python function behind its dynamic batcher."""

import os
import socket
from pathlib import Path

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from bench.peers.sessions import Graph, options, paths


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
    # The interpreter in Triton is older than the library that it finds; sitecustomize mends it.
    os.environ["PYTHONPATH"] = str(Path(__file__).parent / "triton_site")
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
            kind = np.uint8 if graph.takes_pictures else np.float32
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
