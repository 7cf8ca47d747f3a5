"""A failed request leaves nothing in memory until the next garbage collection.

An exception refers to the frames of its traceback and their variables. If one of these refers to
the exception, the body of the request stays in memory until the next collection, which many
failures do not trigger.
"""

import gc
import http.client
import time
import tracemalloc
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import StartApp
from tests.image_models import publish_mirror
from tests.images import image_input
from tests.models import failing_graph, publish_admission, publish_bare

CSV = {"content-type": "text/csv"}
NDJSON = {"content-type": "application/x-ndjson"}
OCTETS = {"content-type": "application/octet-stream", "inference-header-content-length": "9"}
FORM = {"content-type": "multipart/form-data; boundary=b"}
SIZE = 400_000
REQUESTS = 6
HEADER = b"exam_1,exam_2\n"
PREDICT = "/models/admission/predict"
ROWS = b"45,85\n" * (SIZE // 6)
HALF_ROWS = b'[{"exam_1":45}' + b',{"exam_1":45}' * 20_000 + b"]"
VALUES = (
    b'{"inputs":[{"name":"features","shape":[30000,2],"datatype":"FP32","data":['
    + b",".join([b"1"] * 60_000)
    + b"]}]}"
)

FAILURES: dict[str, tuple[str, bytes, dict[str, str]]] = {
    "csv: too many columns": (PREDICT, b"ab," * (SIZE // 3) + b"b\n1,2\n", CSV),
    "csv: no column": (PREDICT, b"a,b\n" + ROWS, CSV),
    "csv: a record is too large": (
        PREDICT,
        HEADER + b"45,85\n" * 200 + b"1" * 2_000_000 + b"\n1,2\n",
        CSV,
    ),
    "csv: no text": (PREDICT, b"\x00" * SIZE, CSV),
    "ndjson: a record is too large": (PREDICT, b"1" * 2_000_000 + b"\n", NDJSON),
    "json: broken": (PREDICT, b'[{"exam_1": 45},' * (SIZE // 16), {}),
    "json: a string": (PREDICT, b'"' + b"a" * SIZE + b'"', {}),
    "json: rows that lack a feature": (PREDICT, HALF_ROWS, {}),
    "explanation": ("/models/admission/explain", HALF_ROWS, {}),
    "v1: too few values": (
        "/v1/models/admission:predict",
        b'{"instances":[[1]' + b",[1]" * 60_000 + b"]}",
        {},
    ),
    "v2: no document": ("/v2/models/admission/infer", b"{}" * (SIZE // 2), {}),
    "v2: binary without a document": ("/v2/models/admission/infer", b"\0" * SIZE, OCTETS),
    "image: none": ("/models/mirror/predict", b"a" * SIZE, {"content-type": "image/png"}),
    "image: broken": (
        "/models/mirror/predict",
        b"\x89PNG\r\n\x1a\n" + b"a" * SIZE,
        {"content-type": "image/png"},
    ),
    "form: broken": ("/models/mirror/predict", b"--b\r\n" + b"a" * SIZE, FORM),
    "the graph fails": ("/v2/models/failing/infer", VALUES, {}),
}

# The status if it is not 400. That of a table is sent before its last records arrive.
STATUS = {"csv: a record is too large": 200, "ndjson: a record is too large": 413}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failed_request_retains_no_memory(models: Path, start: StartApp, name: str) -> None:
    """Six failures leave less than half of one body each for the garbage collection."""
    publish_admission(models)
    publish_mirror(models, image_input(28, 28))
    publish_bare(models, "failing", failing_graph())
    path, body, headers = FAILURES[name]
    client = start()

    def status() -> int:
        address = client.base_url.host, client.base_url.port
        # The service closes a connection whose body it has not read to its end.
        with closing(http.client.HTTPConnection(*address)) as connection:
            connection.request("POST", path, body, headers)
            with connection.getresponse() as response:
                response.read()
                return response.status

    assert status() == STATUS.get(name, 400)
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        for _ in range(REQUESTS):
            status()
        time.sleep(0.2)  # a thread may still release the last body
        before = tracemalloc.get_traced_memory()[0]
        gc.collect()
        retained = before - tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
        gc.enable()

    assert retained < REQUESTS * len(body) / 2
