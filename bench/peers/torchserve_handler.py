"""TorchServe's handler of a graph; it runs in an archive beside ``sessions.py``."""

import io
from pathlib import Path

import numpy as np
from PIL import Image
from sessions import Graph


class Handler:
    """One graph."""

    def initialize(self, context):
        """Open it."""
        folder = Path(context.system_properties["model_dir"])
        self._graph = Graph(folder / context.manifest["model"]["serializedFile"])

    def handle(self, requests, context):  # noqa: ARG002
        """Each request's rows, or its image."""
        predictions = []
        for request in requests:
            body = request.get("body") or request.get("data")
            if isinstance(body, dict):
                rows = body["instances"]
            else:
                rows = np.array(Image.open(io.BytesIO(body)).convert("L"))
            predictions.append({"predictions": self._graph.predict(rows).tolist()})
        return predictions
