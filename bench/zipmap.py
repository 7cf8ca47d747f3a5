"""Compare a classifier of scikit-learn with ZipMap, the default of its converter, and without.

Both are bare models of one service. Each round sends three requests of 100,000 rows to one model
and then to the other, while another client measures how long its own requests wait. Run it by
``python -m bench.zipmap``; it fails if the median ratio of the times is above the limit.
"""

import json
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
from skl2onnx import to_onnx
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from bench.processes import Start, service_command, started
from tests.models import publish_bare

_ROWS, _REQUESTS, _ROUNDS = 100_000, 3, 5
_MAX_RATIO = 1.3
_OUTPUTS = {"with": "output_probability", "without": "probabilities"}


class OtherClient:
    """A client whose requests follow each other; ``longest`` is the longest wait in seconds."""

    def __init__(self, address: str) -> None:
        self.longest = 0.0
        self._url = f"{address}/health/live"
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """Stop, and return the longest wait."""
        self._ended.set()
        self._thread.join()
        return self.longest

    def _run(self) -> None:
        while not self._ended.is_set():
            sent = time.perf_counter()
            _read(urllib.request.Request(self._url))  # noqa: S310 - our own server's address
            self.longest = max(self.longest, time.perf_counter() - sent)


def main() -> int:
    """Measure; return 1 if ZipMap makes the requests slower than the limit."""
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        rows = _publish(Path(folder))
        start = Start(service_command("--poll-seconds", "0", "--models", folder))
        with started(start) as service:
            for name in _OUTPUTS:
                _measure(service.address, name, rows)
            for _ in range(_ROUNDS):
                plain, plain_wait = _measure(service.address, "without", rows)
                zipped, zipped_wait = _measure(service.address, "with", rows)
                ratios.append(zipped / plain)
                sys.stdout.write(
                    f"without {plain:.3f} s, longest wait of another client "
                    f"{plain_wait * 1e3:.0f} ms; with {zipped:.3f} s, {zipped_wait * 1e3:.0f} ms; "
                    f"ratio {ratios[-1]:.2f}\n"
                )
    ratio = statistics.median(ratios)
    sys.stdout.write(f"median ratio {ratio:.2f}, at most {_MAX_RATIO}\n")
    return int(ratio > _MAX_RATIO)


def _publish(models: Path) -> bytes:
    """Publish both models; return the rows of a request in binary."""
    flowers, species = load_iris(return_X_y=True)
    fitted = LogisticRegression(max_iter=1000).fit(flowers, np.array(["a", "b", "c"])[species])
    for name in _OUTPUTS:
        options = {id(fitted): {"zipmap": name == "with"}}
        graph = to_onnx(fitted, flowers[:1].astype(np.float32), options=options)
        publish_bare(models, name, graph.SerializeToString())
    return np.resize(flowers.astype(np.float32), (_ROWS, flowers.shape[1])).tobytes()


def _measure(address: str, name: str, rows: bytes) -> tuple[float, float]:
    """Return the seconds of all requests to a model, and the longest wait of another client."""
    tensor = {
        "name": "X",
        "datatype": "FP32",
        "shape": [_ROWS, 4],
        "parameters": {"binary_data_size": len(rows)},
    }
    output = {"name": _OUTPUTS[name], "parameters": {"binary_data": True}}
    head = json.dumps({"inputs": [tensor], "outputs": [output]}).encode()
    headers = {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(head)),
    }
    url = f"{address}/v2/models/{name}/infer"
    other = OtherClient(address)
    started_at = time.perf_counter()
    for _ in range(_REQUESTS):
        _read(urllib.request.Request(url, head + rows, headers))  # noqa: S310 - as above
    seconds = time.perf_counter() - started_at
    return seconds, other.stop()


def _read(request: urllib.request.Request) -> None:
    with urllib.request.urlopen(request) as response:  # noqa: S310 - our own server's address
        response.read()


if __name__ == "__main__":
    sys.exit(main())
