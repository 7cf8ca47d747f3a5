"""Limits of bodies, their decoding and their responses: enforced early, counted, and released."""

import gzip
import json
import re
import socket
import struct
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from onnx import TensorProto, helper

from service.limits import Limits
from service.settings import Settings
from tests.conftest import StartApp
from tests.image_models import publish_mirror
from tests.images import image_input
from tests.models import publish_admission, publish_bare, publish_price
from tests.service.api.test_invalid_requests import assert_contract
from tests.test_protocol import message
from tests.triton_models import identity, sum_and_difference

PREDICT = "/models/admission/predict"
EXPLAIN = "/models/admission/explain"
ROW = {"exam_1": 45, "exam_2": 85}
MIB = 2**20
PATIENCE_SECONDS = 30


def rejections(client: httpx.Client, reason: str) -> int:
    """Return how many requests a limit has rejected."""
    found = re.search(
        rf'onward_rejected_requests_total{{reason="{reason}"}} (\d+)', client.get("/metrics").text
    )
    return int(found[1]) if found else 0


def require_rejected(
    client: httpx.Client, response: httpx.Response, status: int, code: str
) -> None:
    """Check the form of a rejection, its count, and that a 429 has a retry time."""
    assert assert_contract(response, status)["code"] == code
    assert ("retry-after" in response.headers) == (status == 429)
    assert rejections(client, code) == 1


def until(holds: Callable[[], bool]) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


@contextmanager
def connection(client: httpx.Client) -> Iterator[socket.socket]:
    """Open a raw connection with a small receive buffer."""
    with socket.socket() as opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        opened.connect((client.base_url.host, client.base_url.port))
        yield opened


def head(path: str, size: int) -> bytes:
    """The head of a POST request with a Content-Length."""
    return f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {size}\r\n\r\n".encode()


def binary(
    name: str, datatype: str, shape: list[int], content: bytes
) -> tuple[bytes, dict[str, str]]:
    """Return a v2 body with one binary tensor, and its header."""
    parameters = {"binary_data_size": len(content)}
    tensor = {"name": name, "datatype": datatype, "shape": shape, "parameters": parameters}
    document = json.dumps({"inputs": [tensor]}).encode()
    return document + content, {"inference-header-content-length": str(len(document))}


ROWS: Mapping[str, tuple[str, object]] = {
    "native": (PREDICT, [[1, 2]] * 11),
    "native by name": (PREDICT, {"instances": [ROW] * 11}),
    "native, no rows at all": (PREDICT, [{}] * 11),
    "explain": (EXPLAIN, [ROW] * 11),
    "v1 rows": ("/v1/models/admission:predict", {"instances": [ROW] * 11}),
    "v1 arrays": ("/v1/models/admission:predict", {"instances": [[1, 2]] * 11}),
    "v1 columns": ("/v1/models/admission:predict", {"inputs": {"exam_1": [1] * 11}}),
    "v1 array": ("/v1/models/admission:predict", {"inputs": [[1, 2]] * 11}),
    "v1 examples": ("/v1/models/admission:classify", {"examples": [ROW] * 11}),
    "v1 bare": ("/v1/models/floats:predict", {"instances": [{"INPUT0": [1]}] * 11}),
    "v2": (
        "/v2/models/admission/infer",
        {"inputs": [{"name": "features", "datatype": "FP32", "shape": [11, 2], "data": [1] * 22}]},
    ),
    "v2 bare, lying": (
        "/v2/models/floats/infer",
        {"inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [11, 2], "data": []}]},
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_too_many_rows_are_rejected_in_every_protocol(
    models: Path, start: StartApp, name: str
) -> None:
    """The 413 error precedes the validation of rows."""
    publish_admission(models)
    publish_bare(models, "floats", identity(TensorProto.FLOAT, ["n", 2]))
    client = start(max_request_rows=10)
    path, body = ROWS[name]

    require_rejected(client, client.post(path, json=body), 413, "too_many_rows")


@pytest.mark.parametrize("path", [PREDICT, "/v1/models/admission:predict"])
def test_the_allowed_number_of_rows_is_accepted(models: Path, start: StartApp, path: str) -> None:
    """A request with exactly the limit of rows gets predictions."""
    publish_admission(models)

    response = start(max_request_rows=10).post(path, json={"instances": [[1, 2]] * 10})

    assert len(response.json()["predictions"]) == 10


IMAGE = [0, 1, 2, 3]
IMAGES: Mapping[str, tuple[str, object]] = {
    "native": ("/models/mirror/predict", [IMAGE] * 4),
    "native, nested": ("/models/mirror/predict", {"instances": [[[0, 1], [2, 3]]] * 4}),
    "v1": ("/v1/models/mirror:predict", {"instances": [{"image": IMAGE}] * 4}),
    "v1 columns": ("/v1/models/mirror:predict", {"inputs": [IMAGE] * 4}),
    "v2 files": (
        "/v2/models/mirror/infer",
        {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [4], "data": ["x"] * 4}]},
    ),
}


@pytest.mark.parametrize("name", IMAGES)
def test_images_count_as_rows(models: Path, start: StartApp, name: str) -> None:
    """Images above the limit are rejected before they are decoded."""
    publish_mirror(models, image_input(2, 2, 1))
    client = start(max_request_rows=3)
    path, body = IMAGES[name]

    require_rejected(client, client.post(path, json=body), 413, "too_many_rows")


JSON_BODIES: Mapping[str, bytes] = {
    "numbers": b"[" + b"1," * 50_000 + b"1]",
    "letters between commas": b"a," * 60_000,
    "empty objects": b"[" + b"{}," * 40_000 + b"{}]",
    "nested lists": b"[" * 70_000,
    "names": b"{" + b",".join(b'"%d":1' % number for number in range(50_000)) + b"}",
    "objects within each other": b'{"a":' * 40_000,
}


@pytest.mark.parametrize("path", [PREDICT, "/v1/models/admission:predict", EXPLAIN])
@pytest.mark.parametrize("name", JSON_BODIES)
def test_too_many_json_values_are_rejected_before_they_are_parsed(
    models: Path, start: StartApp, path: str, name: str
) -> None:
    """Values of any kind count, even in invalid JSON."""
    publish_admission(models)
    client = start(max_json_members=50_000)

    response = client.post(path, content=JSON_BODIES[name])

    require_rejected(client, response, 413, "too_many_json_members")


@pytest.mark.parametrize(("names", "status"), [(9990, 400), (10_010, 413)])
def test_names_count_twice(models: Path, start: StartApp, names: int, status: int) -> None:
    """Each takes a comma and a colon, and the object two."""
    publish_admission(models)
    client = start(max_json_members=30_000)

    response = client.post(PREDICT, json={str(number): 1 for number in range(names)})

    assert response.status_code == status


def test_binary_numbers_are_not_json_values(models: Path, start: StartApp) -> None:
    """Only the JSON before a binary tensor counts."""
    publish_bare(models, "floats", identity(TensorProto.FLOAT, ["n", 2]))
    body, headers = binary("INPUT0", "FP32", [20_000, 2], b"[[,," * 40_000)
    client = start(max_json_members=1000)

    response = client.post("/v2/models/floats/infer", content=body, headers=headers)

    assert response.status_code == 200


@pytest.mark.parametrize(
    ("shape", "content"),
    [
        ([2000], b"\0\0\0\0" * 2000),
        ([1, 2000], (struct.pack("<I", 2) + b"ab") * 2000),
        ([1, 2**40], b"\0\0\0\0" * 20_000),
    ],
)
def test_strings_of_a_binary_tensor_count_as_values(
    models: Path, start: StartApp, shape: list[int], content: bytes
) -> None:
    """Each becomes a Python object, like a value of JSON."""
    publish_bare(
        models, "strings", identity(TensorProto.STRING, ["n"] if len(shape) == 1 else ["n", "m"])
    )
    client = start(max_json_members=1000)
    body, headers = binary("INPUT0", "BYTES", shape, content)

    response = client.post("/v2/models/strings/infer", content=body, headers=headers)

    require_rejected(client, response, 413, "too_many_json_members")


def test_a_context_that_every_example_copies_counts_for_each(models: Path, start: StartApp) -> None:
    """A context of 1,000 names and 1,000 examples make a million values."""
    publish_admission(models)
    client = start(max_json_members=100_000)
    context = {str(number): 1 for number in range(1000)}

    response = client.post(
        "/v1/models/admission:classify", json={"context": context, "examples": [ROW] * 1000}
    )

    require_rejected(client, response, 413, "too_many_json_members")


@pytest.mark.parametrize(
    "query", ["&".join(["a=1"] * 40), "&" * 40, "top=1&" * 40, ";".join(["a"] * 40)]
)
@pytest.mark.parametrize("path", [PREDICT, EXPLAIN])
def test_too_many_query_parameters_are_rejected(
    models: Path, start: StartApp, path: str, query: str
) -> None:
    """The 414 error is sent before the parameters are parsed."""
    publish_admission(models)
    client = start()

    response = client.post(f"{path}?{query}", json=ROW)

    require_rejected(client, response, 414, "too_many_query_parameters")


BOMBS: Mapping[str, tuple[str, bytes]] = {
    "rows": ("gzip", gzip.compress(b"[" + b"[0,0]," * 1_000_000)),
    "empty objects": ("gzip", gzip.compress(b"[" + b"{}," * 2_000_000)),
    "spaces": ("deflate", zlib.compress(b" " * 5_000_000)),
    "members": ("gzip", gzip.compress(bytes(200_000)) * 20),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_body_that_expands_too_much_is_rejected(models: Path, start: StartApp, name: str) -> None:
    """The ratio may be a hundred, above the first megabyte."""
    publish_admission(models)
    client = start()
    encoding, content = BOMBS[name]

    response = client.post(PREDICT, content=content, headers={"content-encoding": encoding})

    require_rejected(client, response, 413, "decompression_ratio_exceeded")


def test_the_ratio_of_a_small_body_is_not_limited(models: Path, start: StartApp) -> None:
    """Below a megabyte the ratio does not count."""
    publish_admission(models)
    content = gzip.compress(json.dumps(ROW).encode() + b" " * 500_000)

    response = start().post(PREDICT, content=content, headers={"content-encoding": "gzip"})

    assert response.status_code == 200


@pytest.mark.parametrize("members", [b"", b"x"])
def test_many_tiny_gzip_members_take_linear_time(
    models: Path, start: StartApp, members: bytes
) -> None:
    """Half a megabyte of members is decompressed quickly."""
    publish_admission(models)
    body = gzip.compress(b"[" + b" " * 70_000) + gzip.compress(members) * 25_000

    response = start().post(PREDICT, content=body, headers={"content-encoding": "gzip"})

    assert_contract(response, 400)


def test_bodies_together_are_bounded_and_small_ones_exempt(models: Path, start: StartApp) -> None:
    """While an upload holds the budget, another gets 429, and small requests are served."""
    publish_admission(models)
    client = start(max_bytes_in_flight=MIB)
    large = b" " * 600_000
    with connection(client) as uploading:
        uploading.sendall(head(PREDICT, 800_000) + b" " * 700_000)
        time.sleep(1)  # polling would use a part of the budget

        response = client.post(PREDICT, content=large)
        small = client.post(PREDICT, json=ROW)

    assert assert_contract(response, 429)["code"] == "too_many_bytes_in_flight"
    assert response.headers["retry-after"] == "1"
    assert rejections(client, "too_many_bytes_in_flight") == 1
    assert small.status_code == 200
    # The client of the upload has disconnected, so its budget is free again.
    until(lambda: client.post(PREDICT, content=b" " * 300_000).status_code == 400)


@pytest.mark.parametrize(
    ("content", "encoding"),
    [(b" " * 300_000, "identity"), (gzip.compress(b" " * 300_000), "gzip"), (b"[" * 300_000, "br")],
)
def test_a_failed_request_releases_its_quotas(
    models: Path, start: StartApp, content: bytes, encoding: str
) -> None:
    """Twenty sequential requests pass, of which two together would exceed the limit."""
    publish_admission(models)
    client = start(max_bytes_in_flight=MIB, max_json_members=1000)

    found = [
        client.post(PREDICT, content=content, headers={"content-encoding": encoding}).status_code
        for _ in range(20)
    ]

    assert set(found) <= {400, 413, 415}
    assert client.post(PREDICT, content=b" " * 300_000).status_code == 400


def test_a_served_request_releases_its_quotas(models: Path, start: StartApp) -> None:
    """The body, the tensors and the response are released."""
    publish_admission(models)
    client = start(max_bytes_in_flight=16 * MIB, max_concurrent_requests=1)
    rows = [[1, 2]] * 20_000

    found = [client.post(PREDICT, json=rows).status_code for _ in range(8)]

    assert found == [200] * 8


@pytest.mark.parametrize(
    "content",
    [b"[" + b"1," * 20_000 + b"1]", b'"' + b"a" * 500_000 + b'"', b'"\xc3\xa4' + b"a" * 300_000],
)
def test_a_body_above_the_total_memory_budget_is_a_413(
    models: Path, start: StartApp, content: bytes
) -> None:
    """A retry would not help, so it is not a 429."""
    publish_admission(models)
    client = start(max_bytes_in_flight=MIB)

    response = client.post(PREDICT, content=content + b" " * 70_000)

    require_rejected(client, response, 413, "parsed_body_too_large")


@pytest.mark.parametrize("text", [b'"abc"', '"ä"'.encode(), '"💡"'.encode(), b'"\\ud83d\\udca1"'])
def test_wide_strings_count_with_their_size_in_python(text: bytes) -> None:
    """A character above U+FFFF makes every character of its string four bytes long."""
    limits = Limits(Settings(), lambda _: None)

    needed = limits.estimate_decoded_bytes(text + b" " * 1000, len(text) + 1000, strings=False)

    assert needed // (len(text) + 1000) == {7: 10, 5: 2, 4: 4, 6: 10, 14: 10}[len(text)]


def test_an_unread_response_counts_as_a_request_in_progress(models: Path, start: StartApp) -> None:
    """With a limit of one, the next request gets 429 until the first one's client disconnects."""
    publish_admission(models)
    client = start(max_concurrent_requests=1)
    rows = json.dumps([[1, 2]] * 99_999).encode()
    with connection(client) as reading:
        reading.sendall(head(PREDICT, len(rows)) + rows)
        assert reading.recv(12) == b"HTTP/1.1 200"

        response = client.post(EXPLAIN, json=ROW)

    assert assert_contract(response, 429)["code"] == "too_many_requests"
    assert response.headers["retry-after"] == "1"
    until(lambda: client.post(EXPLAIN, json=ROW).status_code == 200)


@pytest.mark.parametrize("rounds", [1, 3])
def test_requests_that_fail_are_no_longer_in_progress(
    models: Path, start: StartApp, rounds: int
) -> None:
    """That holds for invalid values, invalid JSON, limits and deadlines."""
    publish_admission(models)
    client = start(max_concurrent_requests=1, max_request_rows=1000)

    for _ in range(rounds):
        assert client.post(EXPLAIN, json={}).status_code == 400
        assert client.post(EXPLAIN, content=b"{" * 100_000).status_code == 400
        assert client.post(PREDICT, json=[[1, 2]] * 30_000).status_code == 413

    assert client.post(EXPLAIN, json=ROW).status_code == 200


def test_the_deadline_does_not_include_the_upload(models: Path, start: StartApp) -> None:
    """The deadline starts when the body is complete."""
    publish_price(models)
    client = start(deadline_seconds=0.5)

    def slowly() -> Iterator[bytes]:
        yield b'[{"size": 3}'
        for _ in range(8):
            time.sleep(0.15)
            yield b',{"size": 3}'
        yield b"]"

    response = client.post("/models/price/predict", content=slowly())

    assert len(response.json()["predictions"]) == 9


@pytest.mark.parametrize("path", ["/models/price/predict", "/models/price/explain"])
def test_the_deadline_includes_decoding_and_queueing(
    models: Path, start: StartApp, path: str
) -> None:
    """Decoding in a thread and waiting for the model count."""
    publish_price(models)

    response = start(deadline_seconds=1e-6).post(path, json=[{"size": 3}] * 3000)

    assert assert_contract(response, 504)["code"] == "deadline_exceeded"


def counting() -> bytes:
    """Return a graph that counts to ``n``, one step at a time; a million takes seconds."""
    element = TensorProto.INT64
    step = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["goes_on"]),
            helper.make_node("Add", ["count", "one"], ["next"]),
        ],
        "step",
        [
            helper.make_tensor_value_info("turn", element, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("count", element, [1]),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", element, [1]),
        ],
    )
    graph = helper.make_graph(
        [
            helper.make_node("Squeeze", ["n"], ["turns"]),
            helper.make_node("Loop", ["turns", "", "zero"], ["total"], body=step),
        ],
        "counting",
        [helper.make_tensor_value_info("n", element, [1])],
        [helper.make_tensor_value_info("total", element, [1])],
        [
            helper.make_tensor("one", element, [1], [1]),
            helper.make_tensor("zero", element, [1], [0]),
        ],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    content: bytes = made.SerializeToString()
    return content


def count_to(number: int) -> bytes:
    """Return a v2 request to the graph that counts."""
    tensor = {"name": "n", "datatype": "INT64", "shape": [1], "data": [number]}
    return json.dumps({"inputs": [tensor]}).encode()


def test_a_request_of_a_disconnected_client_is_removed_from_the_queue(
    models: Path, start: StartApp
) -> None:
    """It is counted while the previous run continues, and its row is never predicted."""
    publish_bare(models, "counting", counting())
    client = start()
    path = "/v2/models/counting/infer"

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(
            httpx.post, f"{client.base_url}{path}", content=count_to(3_000_000), timeout=60
        )
        time.sleep(0.3)
        with connection(client) as waiting:
            body = count_to(3_000_000)
            waiting.sendall(head(path, len(body)) + body)
            time.sleep(0.3)
        until(lambda: "client_disconnected" in client.get("/metrics").text)
        was_running = not running.done()
        response = running.result()

    assert was_running
    assert response.json()["outputs"][0]["data"] == [3_000_000]
    statistics = client.get("/v2/models/counting/stats").json()["model_stats"][0]
    assert statistics["execution_count"] == 1


@pytest.mark.parametrize(
    ("path", "media_type", "status"),
    [
        ("/models/nobody/predict", "application/json", 404),
        ("/models/price/versions/9/predict", "application/json", 404),
        ("/models/price/predict", "application/pdf", 415),
        ("/v2/models/nobody/infer", "application/json", 404),
    ],
)
def test_the_head_is_checked_before_the_body_is_read(
    models: Path, start: StartApp, path: str, media_type: str, status: int
) -> None:
    """The response arrives although the large body was not sent."""
    publish_price(models)
    client = start()

    with connection(client) as waiting:
        line = f"content-type: {media_type}\r\n\r\n".encode()
        waiting.sendall(head(path, 10_000_000).removesuffix(b"\r\n") + line)
        waiting.settimeout(PATIENCE_SECONDS)
        response = waiting.recv(12)

    assert response == f"HTTP/1.1 {status}".encode()


NESTED: Mapping[str, tuple[str, bytes]] = {
    "a value of lists": (PREDICT, b'{"exam_1":' + b"[" * 1000 + b"]" * 1000 + b',"exam_2":1}'),
    "a value of objects": (PREDICT, b'{"exam_1":' + b'{"a":' * 1000 + b"1" + b"}" * 1001),
    "rows": (PREDICT, b"[" * 1000 + b"]" * 1000),
    "v1": ("/v1/models/admission:predict", b'{"instances":' + b"[" * 1000 + b"]" * 1000 + b"}"),
    "v1 columns": ("/v1/models/simple:predict", b'{"inputs":' + b'{"a":' * 900 + b"1" + b"}" * 901),
    "explain": (EXPLAIN, b'[{"exam_1":' + b'{"a":' * 900 + b"1" + b"}" * 901 + b"]"),
}


@pytest.mark.parametrize("name", NESTED)
def test_deep_nesting_is_a_client_error(models: Path, start: StartApp, name: str) -> None:
    """The parser accepts a thousand levels; decoding them gets 400."""
    publish_admission(models)
    publish_bare(models, "simple", sum_and_difference())
    path, body = NESTED[name]

    response = start().post(path, content=body)

    assert_contract(response, 400)


@pytest.mark.parametrize("keys", [30_000, 100_000])
@pytest.mark.parametrize(
    "path", [PREDICT, "/v1/models/admission:predict", "/v2/models/simple/infer"]
)
def test_errors_of_many_unknown_names_stay_small(
    models: Path, start: StartApp, path: str, keys: int
) -> None:
    """The response to many long names is a few kilobytes."""
    publish_admission(models)
    publish_bare(models, "simple", sum_and_difference())
    long = {"n" * 100_000 + str(number): 1 for number in range(20)}
    body = {str(number): 1 for number in range(keys)} | long

    response = start().post(path, json=body)

    assert_contract(response, 400)
    assert len(response.content) < 64 * 1024


@pytest.mark.parametrize("name", ["accept-encoding", "accept"])
def test_only_the_first_items_of_long_header_lists_are_read(
    models: Path, start: StartApp, name: str
) -> None:
    """Thousands of further items are ignored."""
    publish_admission(models)

    response = start().post(
        PREDICT,
        json=[[1, 2]] * 200,
        headers={"accept-encoding": "identity", name: "gzip," + "a," * 20_000},
    )

    assert response.status_code == 200
    assert response.headers.get("content-encoding") == (
        "gzip" if name == "accept-encoding" else None
    )


@pytest.mark.parametrize("identity", ["x" * 1025, "x" * 100_000, 7, ["x"]])
def test_the_length_of_a_repeated_id_is_limited(
    models: Path, start: StartApp, identity: object
) -> None:
    """Clients choose the id of version 2; a kilobyte is enough."""
    publish_bare(models, "simple", sum_and_difference())

    response = start().post("/v2/models/simple/infer", json={"id": identity, "inputs": []})

    assert "'id' must be a string" in assert_contract(response, 400)["error"]


def test_the_slowest_table_is_rejected_if_the_quota_is_exhausted(
    models: Path, start: StartApp
) -> None:
    """The next table is accepted and gets its predictions."""
    publish_price(models)
    client = start(max_concurrent_tables=1, body_seconds=30)
    url = client.base_url
    headers = {"content-type": "text/csv"}
    slow = message("/models/price/predict", b"size\n" * 40_000).replace(
        b"application/json", b"text/csv"
    )

    with socket.create_connection((url.host, url.port or 0), 30) as line:
        line.sendall(slow[:300])
        time.sleep(0.1)
        recent = client.post("/models/price/predict", content=b"size\n2\n", headers=headers)
        time.sleep(5)
        rejected = client.post("/models/price/predict", content=b"size\n2\n", headers=headers)
        received = line.recv(65536)
        scored = client.post("/models/price/predict", content=b"size\n2\n", headers=headers)

    assert [recent.status_code, rejected.status_code] == [429, 429]
    assert received.startswith(b"HTTP/1.1 429 ")
    assert scored.status_code == 200


def test_the_slowest_upload_is_rejected_if_its_bytes_are_needed(
    models: Path, start: StartApp
) -> None:
    """A client that sends a body slowly cannot use the budget for long."""
    publish_price(models)
    client = start(max_bytes_in_flight=1_000_000, body_seconds=30)
    url = client.base_url
    large = b'{"size": 2}'.ljust(300_000)

    with socket.create_connection((url.host, url.port or 0), 30) as line:
        line.sendall(message("/models/price/predict", b" " * 900_000)[:890_000])
        time.sleep(5.5)
        rejected = client.post("/models/price/predict", content=large)
        received = line.recv(65536)
        response = client.post("/models/price/predict", content=large)

    assert rejected.status_code == 429
    assert received.startswith(b"HTTP/1.1 429 ")
    assert response.json()["value"] == 4
