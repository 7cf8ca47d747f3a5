"""BentoML: one service with an endpoint for each model, without access log."""

import os
import sys
from pathlib import Path
from typing import Annotated

import bentoml
import numpy as np
from PIL.Image import Image

from bench.peers.sessions import Graph, options, paths

Rows = Annotated[np.ndarray, bentoml.validators.DType("float32")]


@bentoml.service(workers=1, logging={"access": {"enabled": False}}, metrics={"enabled": False})
class Models:
    """All models."""

    def __init__(self) -> None:
        models = paths(Path(os.environ["BENCH_MODELS"]))
        self._graphs = {name: Graph(path) for name, path in models.items()}

    @bentoml.api
    async def admission(self, instances: Rows) -> np.ndarray:
        """Predict for rows of two numbers."""
        return self._graphs["admission"].predict(instances)

    @bentoml.api
    async def mlp784(self, instances: Rows) -> np.ndarray:
        """Predict for rows of 784 numbers."""
        return self._graphs["mlp784"].predict(instances)

    @bentoml.api
    async def digits_conv(self, instances: Rows) -> np.ndarray:
        """Predict for rows of pixels."""
        return self._graphs["digits_conv"].predict(instances)

    @bentoml.api
    async def digits_cnn(self, instances: Rows) -> np.ndarray:
        """Predict for rows of pixels."""
        return self._graphs["digits_cnn"].predict(instances)

    @bentoml.api
    async def image(self, file: Image) -> np.ndarray:
        """Predict for an uploaded image."""
        return self._graphs["digits_conv"].predict(np.array(file.convert("L")))


if __name__ == "__main__":
    arguments = options()
    os.environ |= {"BENCH_MODELS": str(arguments.models), "BENTOML_DO_NOT_TRACK": "True"}
    command = ["bentoml", "serve", "bench.peers.bentoml:Models", "--host", "127.0.0.1"]
    command += ["--port", str(arguments.port), "--working-dir", str(Path.cwd())]
    program = Path(sys.executable).parent / "bentoml"
    os.execv(program, command)  # noqa: S606
