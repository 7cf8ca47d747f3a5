"""MLServer: a custom runtime for each graph, in the server's own process (parallel_workers=0)."""

import json
import os
import socket
import sys
import tempfile
from pathlib import Path

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from bench.peers.sessions import Graph, options, paths


class OnnxModel(MLModel):
    """One graph."""

    async def load(self) -> bool:
        """Open it."""
        self._graph = Graph(Path(self.settings.parameters.uri))
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Tensors in, tensors out."""
        outputs = self._graph.predict(NumpyCodec.decode_input(payload.inputs[0]))
        output = NumpyCodec.encode_output(self._graph.given.name, outputs)
        return InferenceResponse(model_name=self.name, outputs=[output])


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def main() -> None:
    """Write the settings' files that MLServer reads, and become it."""
    given = options()
    folder = Path(tempfile.mkdtemp())
    server = {
        "host": "127.0.0.1",
        "http_port": given.port,
        "grpc_port": _free_port(),
        "metrics_port": _free_port(),
        "parallel_workers": 0,
        "debug": False,
    }
    (folder / "settings.json").write_text(json.dumps(server))
    for name, path in paths(given.models).items():
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
