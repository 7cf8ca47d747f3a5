"""LitServe: an API for each model, with the ZeroMQ queue that the documentation recommends."""

import io

import litserve
import numpy as np
from PIL import Image

from bench.peers.sessions import Graph, options, paths


class OnnxApi(litserve.LitAPI):
    """One model in a separate process."""

    def __init__(self, path, **settings):
        super().__init__(**settings)
        self._path = path

    def setup(self, device):  # noqa: ARG002
        """Load the model."""
        self._graph = Graph(self._path)

    def decode_request(self, request):
        """Read rows of numbers, or a form with an image."""
        if "file" in request:
            return np.array(Image.open(io.BytesIO(request["file"].file.read())).convert("L"))
        return request["instances"]

    def predict(self, rows):
        """Predict for rows."""
        return self._graph.predict(rows)

    def encode_response(self, output):
        """Return the predictions as JSON."""
        return {"predictions": output.tolist()}


if __name__ == "__main__":
    arguments = options()
    apis = [OnnxApi(path, api_path=f"/{name}") for name, path in paths(arguments.models).items()]
    server = litserve.LitServer(apis, accelerator="cpu", devices=1, fast_queue=True)
    server.run("127.0.0.1", arguments.port, generate_client_file=False, log_level="warning")
