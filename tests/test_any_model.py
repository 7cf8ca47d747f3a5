"""Any ONNX file is served without a manifest, or rejected with the reason of the runtime."""

import os
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from tests.conftest import StartApp
from tests.foreign import (
    brain_floats,
    constant,
    failing_shape,
    fixed_inside,
    list_of_both,
    lower_case,
    newer_format,
    one_node,
    optional_both_ways,
    other_domain,
    sequence_input,
    unknown_operator,
    weights_file,
    with_weights_at,
)
from tests.models import publish_admission, publish_bare
from tests.tensors import (
    Array,
    infer_in_binary,
    infer_in_json,
    outputs_in_binary,
    outputs_in_json,
    triton_dtype,
)
from tests.triton_models import identity

DATATYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
}


@pytest.mark.parametrize("datatype", DATATYPES)
def test_the_extremes_of_every_datatype_come_back(
    models: Path, start: StartApp, datatype: str
) -> None:
    """The smallest and largest values survive a round trip in both formats to the last bit."""
    publish_bare(models, "same", identity(DATATYPES[datatype], ["n"]))
    client = start()
    dtype = triton_dtype(datatype)
    facts = {"f": np.finfo, "i": np.iinfo, "u": np.iinfo}.get(dtype.kind)
    ends = [False, True] if facts is None else [facts(dtype).min, facts(dtype).max]
    array = {"INPUT0": np.array(ends, dtype)}

    (binary,) = outputs_in_binary(infer_in_binary(client, "same", array), ["OUTPUT0"])
    (text,) = outputs_in_json(infer_in_json(client, "same", array), ["OUTPUT0"])

    for got in (binary, text):
        assert got is not None
        assert got.dtype == dtype
        assert got.tobytes() == array["INPUT0"].tobytes()


def test_numbers_that_are_not_finite_are_exact_in_binary_and_rejected_in_json(
    models: Path, start: StartApp
) -> None:
    """JSON has no notation for them; in binary even the bits of a NaN are unchanged."""
    publish_bare(models, "same", identity(TensorProto.FLOAT, ["n", 4]))
    client = start()
    array = np.array([[np.nan, np.inf, -np.inf, 1.5]], np.float32)
    array.view(np.uint32)[0, 0] = 0x7FC0_1234

    (binary,) = outputs_in_binary(infer_in_binary(client, "same", {"INPUT0": array}), ["OUTPUT0"])
    rejected = infer_in_json(client, "same", {"INPUT0": array})

    assert binary is not None
    assert binary.tobytes() == array.tobytes()
    assert "For NaN and infinity, which JSON does not have, send binary" in rejected.json()["error"]


def test_an_output_that_is_not_finite_is_null(models: Path, start: StartApp) -> None:
    """The JSON response has null for NaN and infinity."""
    publish_bare(models, "log", one_node("Log"))
    client = start()

    response = infer_in_json(client, "log", {"x": np.array([0, -1, 1], np.float32)})

    assert response.json()["outputs"][0]["data"] == [None, None, 0.0]


@pytest.mark.parametrize("shape", [(), (1,), (0,), (2, 0, 3), (2, 3), (1, 1, 1, 1, 2)])
def test_a_rank_that_the_graph_leaves_open_is_chosen_by_the_client(
    models: Path, start: StartApp, shape: tuple[int, ...]
) -> None:
    """Scalars, empty tensors and any number of axes; both formats have what numpy computes."""
    publish_bare(models, "negative", one_node("Neg"))
    client = start()
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)

    (binary,) = outputs_in_binary(infer_in_binary(client, "negative", {"x": x}), ["y"])
    (text,) = outputs_in_json(infer_in_json(client, "negative", {"x": x}), ["y"])

    for got in (binary, text):
        assert got is not None
        assert got.shape == shape
        np.testing.assert_array_equal(got, -x)


def test_an_optional_input_may_be_left_out_and_an_optional_output_too(
    models: Path, start: StartApp
) -> None:
    """Optional inputs and outputs of the graph may be absent."""
    publish_bare(models, "perhaps", optional_both_ways())
    client = start()
    two = np.array([1, 2], np.float32)

    for read, infer in ((outputs_in_binary, infer_in_binary), (outputs_in_json, infer_in_json)):
        has, y = read(infer(client, "perhaps", {"x": two}), ["has", "y"])
        assert has is not None
        assert y is not None
        assert (bool(has), y.tolist()) == (True, [1, 2])
    left_out = client.post("/v2/models/perhaps/infer", json={"inputs": []}).json()
    assert [output["name"] for output in left_out["outputs"]] == ["has"]
    assert left_out["outputs"][0]["data"] == [False]


def test_a_model_without_inputs_responds(models: Path, start: StartApp) -> None:
    """A constant graph takes an empty list."""
    publish_bare(models, "constant", constant())

    response = start().post("/v2/models/constant/infer", json={"inputs": []})

    assert response.json()["outputs"][0]["data"] == [1.0, 2.0]


@pytest.mark.parametrize("location", ["weights.bin", "parts/weights.bin", "parts/../weights.bin"])
def test_weights_next_to_the_graph_are_read(models: Path, start: StartApp, location: str) -> None:
    """A graph may keep its weights in files of its own folder."""
    folder = publish_bare(models, "outside", with_weights_at(location))
    (folder / "parts").mkdir()
    (folder / location).write_bytes(weights_file())

    response = infer_in_json(start(), "outside", {"x": np.zeros(4, np.float32)})

    assert response.json()["outputs"][0]["data"] == [0, 1, 2, 3]


@pytest.mark.parametrize("location", ["../weights.bin", "parts/../../weights.bin", "link", "/"])
def test_weights_anywhere_else_are_rejected(models: Path, start: StartApp, location: str) -> None:
    """Neither a path upwards, nor an absolute one, nor a link leads out of the model's folder."""
    absolute = str(models / "weights.bin") if location == "/" else location
    folder = publish_bare(models, "outside", with_weights_at(absolute))
    for position in (folder.parent, models):
        (position / "weights.bin").write_bytes(weights_file())
    (folder / "parts").mkdir()
    (folder / "link").symlink_to(models / "weights.bin")

    response = infer_in_json(start(), "outside", {"x": np.zeros(4, np.float32)})

    assert response.status_code == 409
    assert "is outside the model's folder" in response.json()["error"]


def test_missing_weights_are_reported(models: Path, start: StartApp) -> None:
    """The reason in the index names the missing file."""
    publish_bare(models, "outside", with_weights_at("weights.bin"))

    response = infer_in_json(start(), "outside", {"x": np.zeros(4, np.float32)})

    assert response.status_code == 409
    assert "weights.bin" in response.json()["error"]


def test_tritons_configuration_next_to_the_versions_is_tolerated(
    models: Path, start: StartApp
) -> None:
    """The model serves even if the configuration is not text."""
    folder = publish_bare(models, "same", identity(TensorProto.FLOAT, [2]))
    (folder.parent / "config.pbtxt").write_bytes(os.urandom(100))
    (folder.parent / "labels.txt").write_text("a\nb\n")

    response = infer_in_json(start(), "same", {"INPUT0": np.ones(2, np.float32)})

    assert response.json()["outputs"][0]["data"] == [1, 1]


UNSERVABLE = [
    (b"", "model.onnx is empty"),
    (b"not a model", "model.onnx is not an ONNX file: "),
    (identity(TensorProto.FLOAT, [2])[:-20], "model.onnx is not an ONNX file: "),
    (one_node("Neg", opset=999), "its opset 999 of ai.onnx is newer than "),
    (newer_format(), "its IR version 99 is newer than "),
    (unknown_operator(), "the operator Nonexistent does not exist in opset 18"),
    (other_domain(), "it uses the operator Mine of the domain 'my.domain'"),
    (
        lower_case("xx_XX.UTF-8"),
        "needs the locale xx_XX.UTF-8, which is not installed here; install it",
    ),
    (sequence_input(), "'x' is a seq(tensor(float)), which no protocol here supports"),
    (brain_floats(), "'x' is a tensor(bfloat16), which no protocol here supports"),
]


@pytest.mark.parametrize(("model", "reason"), UNSERVABLE)
def test_a_file_that_cannot_be_served_is_reported_everywhere_with_the_reason(
    models: Path, start: StartApp, model: bytes, reason: str
) -> None:
    """Index, description and prediction have the same reason, and a different model serves."""
    publish_bare(models, "foreign", model)
    publish_admission(models)
    client = start()

    infer = client.post("/v2/models/foreign/infer", json={"inputs": []})
    plain = client.post("/models/foreign/predict", json={})
    (indexed,) = (
        entry for entry in client.post("/v2/repository/index").json() if entry["name"] == "foreign"
    )
    described = client.get("/models/foreign").json()

    assert (infer.status_code, plain.status_code) == (409, 409)
    assert reason in infer.json()["error"]
    assert reason in plain.json()["error"]
    assert (indexed["state"], reason in indexed["reason"]) == ("UNAVAILABLE", True)
    assert reason in str(described)
    assert client.get("/v2/models/foreign/ready").status_code == 503
    assert client.get("/v2/health/ready").json() == {"ready": True}


def test_an_input_that_the_graph_cannot_compute_is_rejected_with_the_reason(
    models: Path, start: StartApp
) -> None:
    """Only the runtime knows the rules of a bare graph; its error is a 400, not a 500."""
    publish_bare(models, "sevens", failing_shape())
    client = start()

    wrong = infer_in_json(client, "sevens", {"x": np.zeros(8, np.float32)})
    right = infer_in_json(client, "sevens", {"x": np.zeros(14, np.float32)})

    assert (wrong.status_code, wrong.json()["code"]) == (400, "input_rejected")
    assert "Reshape node cannot give the shape [8] the shape [-1, 7]" in wrong.json()["error"]
    assert right.json()["outputs"][0]["shape"] == [2, 7]


def test_a_fixed_batch_is_explained(models: Path, start: StartApp) -> None:
    """The response names the batch of the graph, and how to export it with a free one."""
    publish_bare(models, "one", fixed_inside())
    publish_bare(models, "same", identity(TensorProto.FLOAT, [1, 2]))
    client = start()

    wrong = infer_in_json(client, "one", {"x": np.zeros((3, 2), np.float32)})
    right = infer_in_json(client, "one", {"x": np.zeros((1, 2), np.float32)})
    declared = infer_in_json(client, "same", {"INPUT0": np.zeros((3, 2), np.float32)})

    assert (wrong.status_code, declared.status_code) == (400, 400)
    assert "expects [1, 2], where -1 is any length" in declared.json()["error"]
    assert "export the graph with a free batch axis" in declared.json()["error"]
    assert "cannot give the shape [3, 2] the shape [1, 2]" in wrong.json()["error"]
    assert "export it with a free batch axis" in wrong.json()["error"]
    assert right.json()["outputs"][0]["shape"] == [1, 2]


def test_a_list_of_tensors_is_served_as_its_tensors(models: Path, start: StartApp) -> None:
    """Each has its own name; no protocol has lists of tensors."""
    publish_bare(models, "both", list_of_both())
    client = start()
    x = np.array([1, -2], np.float32)

    outputs = client.get("/v2/models/both").json()["outputs"]
    size, opposite = outputs_in_binary(infer_in_binary(client, "both", {"x": x}), ["a", "b"])

    assert [output["name"] for output in outputs] == ["a", "b"]
    assert size is not None
    assert opposite is not None
    np.testing.assert_array_equal(size, abs(x))
    np.testing.assert_array_equal(opposite, -x)


def test_half_floats_are_sent_in_binary_and_rejected_in_json(models: Path, start: StartApp) -> None:
    """JSON has no number of that width."""
    publish_bare(models, "same", identity(TensorProto.FLOAT16, ["n"]))
    client = start()
    array: Array = np.array([1.5, -0.0, 65504, np.inf], np.float16)

    (binary,) = outputs_in_binary(infer_in_binary(client, "same", {"INPUT0": array}), ["OUTPUT0"])
    rejected = infer_in_json(client, "same", {"INPUT0": array})

    assert binary is not None
    assert binary.tobytes() == array.tobytes()
    assert rejected.status_code == 400
    assert "FP16, which JSON cannot carry" in rejected.json()["error"]
