"""TorchServe's handler of a model; its archive contains ``sessions.py`` too."""

import io
from pathlib import Path

import numpy as np
from PIL import Image
from sessions import Graph


class Handler:
    """One model."""

    def initialize(self, context):
        """Load the model."""
        folder = Path(context.system_properties["model_dir"])
        self._graph = Graph(folder / context.manifest["model"]["serializedFile"])

    def handle(self, requests, context):  # noqa: ARG002
        """Predict for the rows or the image of each request."""
        predictions = []
        for request in requests:
            body = request.get("body") or request.get("data")
            if isinstance(body, dict):
                rows = body["instances"]
            else:
                rows = np.array(Image.open(io.BytesIO(body)).convert("L"))
            predictions.append({"predictions": self._graph.predict(rows).tolist()})
        return predictions
