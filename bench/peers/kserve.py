"""KServe: a `Model` for each model in v1 and v2, without gRPC and log of latencies."""

import io
import sys
from base64 import b64decode

import numpy as np
from PIL import Image

from bench.peers.sessions import Graph, options, paths

_arguments = options()
# KServe reads the command line when it is imported.
sys.argv[1:] = ["--http_port", str(_arguments.port), "--enable_grpc", "false"]
sys.argv += ["--enable_latency_logging", "false", "--configure_logging", "false"]

from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer  # noqa: E402
from kserve.utils.utils import generate_uuid  # noqa: E402


class OnnxModel(Model):
    """One model."""

    def __init__(self, name, path):
        super().__init__(name)
        self._graph = Graph(path)
        self.ready = True

    async def predict(self, payload, headers=None, response_headers=None):  # noqa: ARG002
        """Predict for tensors (v2), rows or an image (v1)."""
        if isinstance(payload, InferRequest):
            outputs = self._graph.predict(payload.inputs[0].as_numpy())
            output = InferOutput(self._graph.output.name, list(outputs.shape), "FP32")
            output.set_data_from_numpy(outputs, binary_data=payload.use_binary_outputs)
            return InferResponse(
                payload.id or generate_uuid(),
                self.name,
                [output],
                use_binary_outputs=payload.use_binary_outputs,
                requested_outputs=payload.request_outputs,
            )
        rows = payload["instances"]
        if isinstance(rows[0], dict):
            files = [io.BytesIO(b64decode(row["b64"])) for row in rows]
            rows = [np.array(Image.open(file).convert("L")) for file in files]
        return {"predictions": self._graph.predict(rows).tolist()}


if __name__ == "__main__":
    ModelServer().start([OnnxModel(name, path) for name, path in paths(_arguments.models).items()])
