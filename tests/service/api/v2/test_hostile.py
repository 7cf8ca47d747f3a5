"""Every invalid inference request gets an error, and memory stays constant."""

import gzip
import json
import resource
import socket
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from onnx import TensorProto

from tests.conftest import Serve, StartApp
from tests.models import publish_admission, publish_bare
from tests.service.api.test_invalid_requests import assert_contract
from tests.tensors import LENGTH
from tests.triton_models import identity, sum_and_difference

INFER = "/v2/models/simple/infer"
JSON_TYPE = {"content-type": "application/json"}


def tensor(name: str, **changes: object) -> dict[str, object]:
    """Return a valid input of the simple model with changes; None removes a field."""
    stated = {"name": name, "shape": [1, 16], "datatype": "INT32", "data": [1] * 16} | changes
    return {key: value for key, value in stated.items() if value is not None}


def in_bytes(size: object = 64, **changes: object) -> dict[str, object]:
    stated = {"data": None, "parameters": {"binary_data_size": size}} | changes
    return tensor("INPUT0", **stated)


def encoded(document: object) -> bytes:
    return json.dumps(document).encode()


RIGHT = tensor("INPUT1")
GOOD = encoded({"inputs": [in_bytes(), RIGHT]})
BYTES = bytes(64)


def outputs(*wanted: object) -> dict[str, object]:
    return {"inputs": [tensor("INPUT0"), RIGHT], "outputs": list(wanted)}


DOCUMENTS: list[tuple[Any, str]] = [
    ({"inputs": [tensor("INPUT0", shape=[-1, -16]), RIGHT]}, "whole numbers"),
    ({"inputs": [tensor("INPUT0", shape=[2**63, 2**63]), RIGHT]}, "expects [1, 16]"),
    ({"inputs": [tensor("INPUT0", shape=[10**25, 16]), RIGHT]}, "whole numbers"),
    ({"inputs": [tensor("INPUT0", shape=[1.0, 16]), RIGHT]}, "whole numbers"),
    ({"inputs": [tensor("INPUT0", shape=[1] * 10_000), RIGHT]}, "expects [1, 16]"),
    ({"inputs": [tensor("INPUT0", shape=None), RIGHT]}, "whole numbers"),
    ({"inputs": [tensor("INPUT0", data=[1] * 15), RIGHT]}, "data has 15 values"),
    ({"inputs": [tensor("INPUT0", data=[[1] * 16, [2] * 15]), RIGHT]}, "ragged"),
    (
        {"inputs": [tensor("INPUT0", data=[0.5] * 16), RIGHT]},
        "not all INT32 values, got 0.5; send whole",
    ),
    ({"inputs": [tensor("INPUT0", data=[2**31] * 16), RIGHT]}, "2147483648 does not fit INT32"),
    ({"inputs": [tensor("INPUT0", data=[None] * 16), RIGHT]}, "not all INT32"),
    ({"inputs": [tensor("INPUT0", data="1" * 16), RIGHT]}, "data must be a list"),
    ({"inputs": [tensor("INPUT0", data=5), RIGHT]}, "data must be a list, got 5"),
    ({"inputs": [tensor("INPUT0"), RIGHT], "model_name": "other"}, "the path has 'simple'"),
    ({"inputs": [tensor("INPUT0"), RIGHT], "model_name": 7}, "'model_name' is 7"),
    (
        {"inputs": [tensor("INPUT0"), RIGHT], "parameters": {"binary_data_output": "yes"}},
        "'binary_data_output' must be true or false",
    ),
    ({"inputs": [tensor("INPUT0", datatype="FP128"), RIGHT]}, "expects INT32"),
    ({"inputs": [tensor("INPUT0", datatype=["INT32"]), RIGHT]}, "expects INT32"),
    ({"inputs": [tensor("INPUT0"), RIGHT, RIGHT]}, "'INPUT1' is given twice"),
    ({"inputs": [tensor("INPUT0")]}, "'INPUT1' is missing; add a tensor of INT32"),
    ({"inputs": [tensor("INPUT0", parameters=7), RIGHT]}, "'parameters' must be an object"),
    ({"inputs": [tensor("INPUT0", parameters={"binary_data_size": 64}), RIGHT]}, "0 bytes left"),
    (outputs({"name": "OUTPUT0"}, {"name": "OUTPUT0"}), "'OUTPUT0' is given twice"),
    (outputs({"name": "OUTPUT2"}), "did you mean 'OUTPUT"),
    (outputs({"name": ["OUTPUT0"]}), "'name', a string"),
    (outputs({"name": "OUTPUT0", "parameters": {"classification": -1}}), "number of classes"),
    (outputs({"name": "OUTPUT0", "parameters": {"binary_data": "yes"}}), "true or false"),
    (
        outputs({"name": "OUTPUT0", "parameters": {"shared_memory_region": "r"}}),
        "'shared_memory_byte_size' must be a number of bytes, got null",
    ),
    ({"inputs": [tensor("INPUT0"), RIGHT], "parameters": []}, "'parameters' must be an object"),
    ({"inputs": [tensor("x" * 100_000), RIGHT]}, "Unknown input"),
]


@pytest.fixture(scope="module")
def client(serve: Serve) -> httpx.Client:
    """A client of the models of this file."""

    def publish(models: Path) -> None:
        publish_bare(models, "simple", sum_and_difference())
        publish_bare(models, "text", identity(TensorProto.STRING, ["n"]))
        publish_admission(models)

    return serve(publish)


@pytest.mark.parametrize(("document", "sentence"), DOCUMENTS)
def test_an_invalid_document_is_explained(
    client: httpx.Client, document: object, sentence: str
) -> None:
    """Impossible shapes, sizes, types and names each have an error."""
    response = client.post(INFER, content=encoded(document), headers=JSON_TYPE)

    assert sentence in assert_contract(response, 400)["error"]
    assert len(response.content) < 2000


def binary(size: object, **changes: object) -> bytes:
    return encoded({"inputs": [in_bytes(size, **changes), RIGHT]})


BINARIES: list[tuple[bytes, bytes, str | None, str]] = [
    (binary(63), BYTES, None, "INT32 [1, 16] takes 64 bytes, got 63"),
    (binary(64), BYTES[:-1], None, "the body has 63 bytes left"),
    (binary(64), BYTES + b"!", None, "1 bytes of the body belong to no input"),
    (binary(-64), BYTES, None, "not a number of bytes"),
    (binary("64"), BYTES, None, "not a number of bytes"),
    (binary(True), BYTES, None, "not a number of bytes"),  # noqa: FBT003 - JSON's own
    (binary(2**40), BYTES, None, "the body has 64 bytes left"),
    (binary(64, data=[1] * 16), BYTES, None, "send one of them"),
    (GOOD, BYTES, "-1", 'is "-1"; it is the number of bytes'),
    (GOOD, BYTES, "many", 'is "many"'),
    (GOOD, BYTES, "1e3", 'is "1e3"'),
    (GOOD, BYTES, "²", "it is the number of bytes"),
    (GOOD, BYTES, "9" * 40, 'is "%s", and the body has' % ("9" * 40)),
    (GOOD, BYTES, "999999", 'is "999999", and the body has'),
    (GOOD, BYTES, str(len(GOOD) - 1), "The body is not JSON"),
    (GOOD, BYTES, str(len(GOOD) + 1), "The body is not JSON"),
    (GOOD, BYTES, "0", "a model with one input; 'simple' has 2"),
    (GOOD, BYTES, "6 4", "it is the number of bytes"),
]


@pytest.mark.parametrize(("document", "content", "length", "sentence"), BINARIES)
def test_inconsistent_byte_counts_are_rejected(
    client: httpx.Client,
    document: bytes,
    content: bytes,
    length: str | None,
    sentence: str,
) -> None:
    """The header, the sizes in the JSON and the body must agree to the byte."""
    header = str(len(document)) if length is None else length

    response = client.post(
        INFER, content=document + content, headers={LENGTH.encode(): header.encode()}
    )

    assert sentence in assert_contract(response, 400)["error"]


STRINGS: list[tuple[bytes, str]] = [
    (b"\x05\0\0", "end within an element"),
    (b"\x05\0\0\0four", "end within an element"),
    (b"\xff\xff\xff\xff", "end within an element"),
    (b"\x01\0\0\0\xff", "the string b'\\xff' is not UTF-8"),
    (b"\x01\0\0\0a\x01\0\0\0b", "hold more than 1 strings, shape [1] holds 1"),
    (b"", "hold 0 strings"),
]


@pytest.mark.parametrize(("content", "sentence"), STRINGS)
def test_inconsistent_string_lengths_are_rejected(
    client: httpx.Client, content: bytes, sentence: str
) -> None:
    """The length prefix of each string is compared with the remaining bytes."""
    stated = in_bytes(len(content), shape=[1], datatype="BYTES")
    document = encoded({"inputs": [stated]})

    response = client.post(
        "/v2/models/text/infer", content=document + content, headers={LENGTH: str(len(document))}
    )

    assert sentence in assert_contract(response, 400)["error"]


def test_features_are_validated_in_binary(client: httpx.Client) -> None:
    """NaN, infinity and values out of range are rejected in every form."""
    document = encoded(
        {"inputs": [in_bytes(8, shape=[1, 2], datatype="FP32") | {"name": "features"}]}
    )
    for value in (np.nan, np.inf, 101.0):
        content = np.array([value, 50], "<f4").tobytes()

        response = client.post(
            "/v2/models/admission/infer",
            content=document + content,
            headers={LENGTH: str(len(document))},
        )

        assert "'exam_1' must be a number (points)" in assert_contract(response, 400)["error"]


NESTED = b'{"inputs":[{"name":"INPUT0","shape":[1,16],"datatype":"INT32","data":%s}]}'
PACKED: Mapping[str, tuple[bytes, str, int, str]] = {
    "nested 10,000 deep": (NESTED % (b"[" * 10_000 + b"]" * 10_000), "identity", 400, "not JSON"),
    "nested 1,000 deep": (
        NESTED % (b"[" * 900 + b"1" + b"]" * 900),
        "identity",
        400,
        "100 levels deep",
    ),
    "truncated gzip": (gzip.compress(GOOD)[:-9], "gzip", 400, "ends too early"),
    "truncated deflate": (zlib.compress(GOOD)[:-5], "deflate", 400, "ends too early"),
    "gzip that is none": (GOOD, "gzip", 400, "not gzip to its end, as its header says"),
    "nothing as gzip": (b"", "gzip", 400, "ends too early"),
    "a bomb": (gzip.compress(bytes(2**25), 9), "gzip", 413, "limit of"),
    "a bomb of deflate": (zlib.compress(bytes(2**25), 9), "deflate", 413, "limit of"),
    "junk after gzip": (gzip.compress(GOOD) + b"junk", "gzip", 400, "not gzip to its end"),
    "half a second member": ((gzip.compress(GOOD) * 2)[:-9], "gzip", 400, "ends too early"),
    "junk after deflate": (zlib.compress(GOOD) + b"junk", "deflate", 400, "goes on after the end"),
    "a bomb of members": (gzip.compress(bytes(2**16)) * 32, "gzip", 413, "more than 100 times"),
    "an unknown encoding": (GOOD, "zstd", 415, "'zstd'"),
    "two encodings": (gzip.compress(gzip.compress(GOOD)), "gzip, gzip", 415, "'gzip, gzip'"),
}


@pytest.mark.parametrize("name", PACKED)
def test_a_body_is_decompressed_only_up_to_the_limit(
    models: Path, start: StartApp, name: str
) -> None:
    """Nested compression, truncated streams and bombs are rejected."""
    publish_bare(models, "simple", sum_and_difference())
    content, encoding, status, sentence = PACKED[name]

    response = start(max_body_bytes=2**20).post(
        INFER, content=content, headers={"content-encoding": encoding}
    )

    assert sentence in assert_contract(response, status)["error"]


def test_a_declared_gigabyte_is_rejected_immediately(client: httpx.Client) -> None:
    """The 413 error is sent after ten bytes of the body."""
    with socket.create_connection((client.base_url.host, client.base_url.port or 0)) as connection:
        connection.sendall(
            f"POST {INFER} HTTP/1.1\r\nhost: x\r\ncontent-length: {2**30}\r\n\r\n".encode()
            + b'{"inputs":'
        )

        response = b""
        while not response.endswith(b"}"):
            response += connection.recv(65536)

    assert response.startswith(b"HTTP/1.1 413 ")
    assert b'"code":"body_too_large"' in response


def test_memory_stays_flat_under_hostile_requests(models: Path, start: StartApp) -> None:
    """After a first round, a hundred more raise the peak by less than a few images."""
    publish_bare(models, "simple", sum_and_difference())
    client = start(max_body_bytes=2**22)
    bomb = gzip.compress(bytes(2**26), 9)
    claims = binary(2**40), binary(64, shape=[2**31, 2**31]), NESTED % (b"[" * 10_000)

    def attack() -> None:
        client.post(INFER, content=bomb, headers={"content-encoding": "gzip"})
        for claim in claims:
            client.post(INFER, content=claim + BYTES, headers={LENGTH: str(len(claim))})

    for _ in range(5):
        attack()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(100):
        attack()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

    assert grown < 16 * 1024, f"{grown} KiB"


def test_a_request_without_a_length_of_its_json_is_json(client: httpx.Client) -> None:
    """Bytes after the JSON are invalid without the header."""
    response = client.post(INFER, content=GOOD + struct.pack("<16i", *range(16)))

    assert "The body is not JSON" in assert_contract(response, 400)["error"]


def test_a_valid_request_gets_a_prediction(client: httpx.Client) -> None:
    """The valid body, from which the invalid ones are derived, is accepted."""
    response = client.post(INFER, content=GOOD + BYTES, headers={LENGTH: str(len(GOOD))})

    assert response.json()["outputs"][0]["data"] == [1] * 16
