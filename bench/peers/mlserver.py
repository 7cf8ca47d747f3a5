"""MLServer: a custom runtime for each model, in the process of the server (parallel_workers=0)."""

import json
import os
import sys
import tempfile
from pathlib import Path

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from bench.peers.sessions import Graph, options, paths
from bench.processes import free_port


class OnnxModel(MLModel):
    """One model."""

    async def load(self) -> bool:
        """Load the model."""
        self._graph = Graph(Path(self.settings.parameters.uri))
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Predict for a tensor."""
        outputs = self._graph.predict(NumpyCodec.decode_input(payload.inputs[0]))
        output = NumpyCodec.encode_output(self._graph.output.name, outputs)
        return InferenceResponse(model_name=self.name, outputs=[output])


def main() -> None:
    """Write the settings, and replace this process by MLServer."""
    arguments = options()
    folder = Path(tempfile.mkdtemp())
    server = {
        "host": "127.0.0.1",
        "http_port": arguments.port,
        "grpc_port": free_port(),
        "metrics_port": free_port(),
        "parallel_workers": 0,
        "debug": False,
    }
    (folder / "settings.json").write_text(json.dumps(server))
    for name, path in paths(arguments.models).items():
        (folder / name).mkdir()
        settings = {
            "name": name,
            "implementation": "bench.peers.mlserver.OnnxModel",
            "parameters": {"uri": str(path)},
        }
        (folder / name / "model-settings.json").write_text(json.dumps(settings))
    os.environ["PYTHONPATH"] = str(Path.cwd())
    program = Path(sys.executable).parent / "mlserver"
    os.execv(program, [program, "start", folder])  # noqa: S606


if __name__ == "__main__":
    main()
