"""Triton's extensions: binary data, raw bodies, compression, classification, statistics, config."""

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from onnx import TensorProto

from service.api.v2.protocol import format_classification
from service.engine.tensors import TensorSpec
from service.errors import InvalidRequest
from tests.conftest import StartApp
from tests.foreign import one_node
from tests.models import (
    admission_probability,
    publish_admission,
    publish_bare,
    sum_and_difference,
)
from tests.service.api.test_invalid_requests import assert_contract
from tests.tensors import LENGTH
from tests.triton_models import identity, image_classifier

SCORES = TensorSpec("scores", "FP32", (-1, -1))
RAW = {LENGTH: "0", "content-type": "application/octet-stream"}


def split(response: httpx.Response) -> tuple[dict[str, Any], bytes]:
    """Split a response into its JSON and the bytes after it."""
    length = int(response.headers[LENGTH])
    return orjson.loads(response.content[:length]), response.content[length:]


def test_a_raw_body_is_the_only_input_of_a_batch_of_one(models: Path, start: StartApp) -> None:
    """The request has no JSON, and the response is binary."""
    publish_admission(models)

    response = start().post(
        "/v2/models/admission/infer", content=np.array([45, 85], "<f4").tobytes(), headers=RAW
    )

    document, content = split(response)
    (probability,) = np.frombuffer(content, "<f4")
    assert probability == pytest.approx(admission_probability(45, 85), abs=1e-6)
    assert document["outputs"] == [
        {
            "name": "probability",
            "datatype": "FP32",
            "shape": [1, 1],
            "parameters": {"binary_data_size": 4},
        }
    ]


def test_a_raw_body_determines_a_dynamic_axis_and_a_raw_string_is_whole(
    models: Path, start: StartApp
) -> None:
    """The length follows from the bytes; a string has no length prefix."""
    publish_bare(models, "numbers", identity(TensorProto.INT16, ["batch", "values"]))
    publish_bare(models, "text", identity(TensorProto.STRING, ["batch"]))
    client = start()
    five = np.arange(5, dtype="<i2").tobytes()

    numbers = split(client.post("/v2/models/numbers/infer", content=five, headers=RAW))
    text = split(client.post("/v2/models/text/infer", content="über".encode(), headers=RAW))

    assert numbers[1] == five
    assert "'shape': [1, 5]" in str(numbers[0])
    assert text[1] == b"\x05\0\0\0" + "über".encode()


@pytest.mark.parametrize(
    ("model", "content", "sentence"),
    [
        ("admission", b"1234567", "FP32 [1, 2] takes 8 bytes, got 7"),
        ("simple", bytes(128), "a model with one input; 'simple' has 2"),
        ("pairs", bytes(4), "a raw request does not state the lengths"),
    ],
)
def test_a_raw_body_that_does_not_fit_is_rejected(
    models: Path, start: StartApp, model: str, content: bytes, sentence: str
) -> None:
    """Ambiguous shapes and inconsistent lengths get 400."""
    publish_admission(models)
    publish_bare(models, "simple", sum_and_difference())
    publish_bare(models, "pairs", identity(TensorProto.FLOAT, ["a", "b", "c"]))

    response = start().post(f"/v2/models/{model}/infer", content=content, headers=RAW)

    assert sentence in assert_contract(response, 400)["error"]


def test_outputs_have_the_requested_form_and_order(models: Path, start: StartApp) -> None:
    """The option of an output overrides that of the request."""
    publish_bare(models, "simple", sum_and_difference())
    inputs = [
        {"name": name, "shape": [1, 16], "datatype": "INT32", "data": list(range(16))}
        for name in ("INPUT0", "INPUT1")
    ]
    body = {
        "inputs": inputs,
        "parameters": {"binary_data_output": True, "unknown": 7},
        "outputs": [
            {"name": "OUTPUT1", "parameters": {"binary_data": False}},
            {"name": "OUTPUT0"},
        ],
    }

    document, content = split(start().post("/v2/models/simple/infer", json=body))

    difference, total = document["outputs"]
    assert (difference["name"], difference["data"]) == ("OUTPUT1", [0] * 16)
    assert (total["name"], "data" in total) == ("OUTPUT0", False)
    assert np.frombuffer(content, "<i4").tolist() == [2 * value for value in range(16)]


@pytest.mark.parametrize("packing", ["gzip", "deflate"])
@pytest.mark.parametrize("length", [10, 10_000])
def test_a_large_response_is_compressed_if_the_client_accepts_it(
    models: Path, start: StartApp, packing: str, length: int
) -> None:
    """The header has the decompressed length; a small response is not compressed."""
    publish_bare(models, "same", identity(TensorProto.INT32, ["n"]))
    values = np.arange(length, dtype="<i4")
    raw = values.tobytes()
    tensor = {
        "name": "INPUT0",
        "shape": [length],
        "datatype": "INT32",
        "parameters": {"binary_data_size": len(raw)},
    }
    document = orjson.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}})
    client = start()
    headers = {LENGTH: str(len(document)), "accept-encoding": f"br, {packing};q=0.5"}

    packed = client.post("/v2/models/same/infer", content=document + raw, headers=headers)
    plain = client.post(
        "/v2/models/same/infer", content=document + raw, headers=headers | {"accept-encoding": ""}
    )

    assert packed.headers.get("content-encoding") == (packing if length > 1000 else None)
    assert "content-encoding" not in plain.headers
    assert split(packed) == split(plain)
    assert split(plain)[1] == raw


def test_classes_are_ranked_within_each_row_with_ties_in_order() -> None:
    """The largest scores are first, and equal ones are in the order of the classes."""
    rows = np.array([[0.5, 0.25, 0.5], [-1, 7, 0]], np.float32)

    ranked = format_classification(rows, SCORES, 2, ["a", "b", "c"])

    assert ranked.tolist() == [
        ["0.500000:0:a", "0.500000:2:c"],
        ["7.000000:1:b", "0.000000:2:c"],
    ]
    assert format_classification(rows[0], SCORES, 9, []).tolist() == [
        "0.500000:0",
        "0.500000:2",
        "0.250000:1",
    ]


def test_a_single_probability_with_two_labels_is_two_classes() -> None:
    """The first is the complement; without labels it is one number."""
    column = np.array([[0.25]], np.float32)

    assert format_classification(column, SCORES, 2, ["no", "yes"]).tolist() == [
        ["0.750000:0:no", "0.250000:1:yes"]
    ]
    assert format_classification(column, SCORES, 2, []).tolist() == [["0.250000:0"]]


def test_strings_cannot_be_ranked() -> None:
    """The error message names the output and its type."""
    with pytest.raises(InvalidRequest, match="output 'word' has BYTES values"):
        format_classification(np.array(["a"], object), TensorSpec("word", "BYTES", (-1,)), 1, [])


def test_statistics_count_successes_failures_and_runs(models: Path, start: StartApp) -> None:
    """An invalid request is a failure without a run."""
    publish_admission(models)
    publish_bare(models, "same", identity(TensorProto.FLOAT, ["n"]))
    client = start()
    tensor = {"name": "features", "shape": [3, 2], "datatype": "FP32", "data": [50] * 6}
    for inputs in ([tensor], [tensor], []):
        client.post("/v2/models/admission/infer", json={"inputs": inputs})

    (counted,) = client.get("/v2/models/admission/stats").json()["model_stats"]
    everyone = client.get("/v2/models/stats").json()["model_stats"]

    phases = {name: phase["count"] for name, phase in counted["inference_stats"].items()}
    assert (phases["success"], phases["fail"], phases["compute_infer"]) == (2, 1, 2)
    assert (counted["inference_count"], counted["execution_count"]) == (6, 2)
    assert [(runs["batch_size"], runs["compute_infer"]["count"]) for runs in counted["batch_stats"]]
    assert counted["inference_stats"]["compute_infer"]["ns"] > 0
    assert counted["last_inference"] > 1.6e12
    assert [stats["name"] for stats in everyone] == ["admission", "same"]


@pytest.mark.parametrize(
    ("model", "size", "dims", "layout"),
    [
        (image_classifier(), 1024, [3, 8, 8], "FORMAT_NCHW"),
        (image_classifier(1), 1, [3, 8, 8], "FORMAT_NCHW"),
        (image_classifier(2), 0, [2, 3, 8, 8], "FORMAT_NONE"),
        (identity(TensorProto.UINT8, ["n", 28, 28, 1]), 1024, [28, 28, 1], "FORMAT_NHWC"),
        (identity(TensorProto.FLOAT, ["n", 5]), 1024, [5], "FORMAT_NONE"),
        (identity(TensorProto.FLOAT, [7, 5]), 0, [7, 5], "FORMAT_NONE"),
        (one_node("Neg"), 0, [], "FORMAT_NONE"),
    ],
)
def test_the_configuration_follows_from_the_graph(  # noqa: PLR0913, PLR0917 - a row of the table
    models: Path, start: StartApp, model: bytes, size: int, dims: list[int], layout: str
) -> None:
    """There is a batch size if every tensor has a first axis of any length, or of one."""
    publish_bare(models, "foreign", model)

    config = start().get("/v2/models/foreign/config").json()

    (stated,) = config["input"]
    assert (config["max_batch_size"], stated["dims"], stated["format"]) == (size, dims, layout)
    assert config["backend"] == "onnxruntime"
