"""Generated requests: tensors survive a round trip bit for bit, and no request causes a 500."""

import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto

from tests.conftest import Serve
from tests.foreign import one_node, optional_both_ways
from tests.models import publish_admission, publish_bare
from tests.service.api.test_invalid_requests import assert_contract
from tests.tensors import (
    LENGTH,
    infer_in_binary,
    infer_in_json,
    outputs_in_binary,
    outputs_in_json,
    triton_dtype,
)
from tests.triton_models import identity, sum_and_difference

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
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}
NAMES = ("admission", "simple", "text", "any_rank", "perhaps")
SETTINGS = settings(max_examples=15, deadline=None)


@pytest.fixture(scope="module")
def client(serve: Serve) -> httpx.Client:
    """Start a service of an identity of each datatype, and of the models of NAMES."""

    def publish(models: Path) -> None:
        for datatype, element in DATATYPES.items():
            publish_bare(models, f"same_{datatype}", one_node("Identity", element))
        publish_admission(models)
        publish_bare(models, "simple", sum_and_difference())
        publish_bare(models, "text", identity(TensorProto.STRING, ["n"]))
        publish_bare(models, "any_rank", one_node("Neg"))
        publish_bare(models, "perhaps", optional_both_ways())

    return serve(publish, log_requests="none")


SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def tensors(datatype: str, *, finite: bool) -> st.SearchStrategy[Any]:
    """Generate arrays of a datatype, of any shape."""
    if datatype == "BYTES":
        return arrays.arrays(np.object_, SHAPES, elements=TEXTS.map(str.encode), fill=st.nothing())
    dtype = triton_dtype(datatype)
    limits = {"allow_nan": False, "allow_infinity": False} if finite and dtype.kind == "f" else {}
    return arrays.arrays(dtype, SHAPES, elements=limits or None)


@pytest.mark.parametrize("datatype", DATATYPES)
@SETTINGS
@given(data=st.data())
def test_a_tensor_survives_a_round_trip_in_binary(
    client: httpx.Client, datatype: str, data: st.DataObject
) -> None:
    """That holds for any shape and values, including the bits of NaN."""
    array = data.draw(tensors(datatype, finite=False))

    response = infer_in_binary(client, f"same_{datatype}", {"x": array})

    (got,) = outputs_in_binary(response, ["y"])

    require_equal(got, array)


@pytest.mark.parametrize("datatype", [name for name in DATATYPES if name != "FP16"])
@SETTINGS
@given(data=st.data())
def test_a_tensor_survives_a_round_trip_in_json(
    client: httpx.Client, datatype: str, data: st.DataObject
) -> None:
    """That holds for any shape, and every value that JSON can write."""
    array = data.draw(tensors(datatype, finite=True))

    response = infer_in_json(client, f"same_{datatype}", {"x": array})

    (got,) = outputs_in_json(response, ["y"])

    require_equal(got, array)


def require_equal(got: Any, array: Any) -> None:  # noqa: ANN401 - arrays of any type
    assert got is not None
    assert got.shape == array.shape
    if array.dtype == np.object_:
        assert got.tolist() == array.tolist()
    else:
        assert got.dtype == array.dtype
        assert got.tobytes() == array.tobytes()


ANY = st.none() | st.booleans() | st.integers(-2, 20) | st.floats() | st.text(max_size=5)
WORDS = {
    "name": st.sampled_from(["features", "INPUT0", "INPUT1", "OUTPUT0", "x", "y", "probability"]),
    "shape": st.lists(st.sampled_from([-1, 0, 1, 2, 16, 2**31, 2**62, 10**19]), max_size=3),
    "datatype": st.sampled_from([*DATATYPES, "FP128"]),
    "data": st.recursive(ANY, lambda inner: st.lists(inner, max_size=17), max_leaves=40),
    "parameters": st.dictionaries(
        st.sampled_from(
            [
                *("binary_data_size", "binary_data", "binary_data_output", "classification"),
                *("shared_memory_region", "shared_memory_byte_size", "shared_memory_offset"),
            ]
        ),
        ANY | st.sampled_from([8, 64, 2**40]),
        max_size=2,
    )
    | ANY,
}
TENSOR = st.fixed_dictionaries({}, optional=WORDS) | ANY
DOCUMENT = st.fixed_dictionaries(
    {"inputs": st.lists(TENSOR, max_size=3) | ANY},
    optional={
        "id": ANY,
        "outputs": st.lists(TENSOR, max_size=2) | ANY,
        "parameters": WORDS["parameters"],
    },
)


@settings(SETTINGS, max_examples=100)
@given(
    name=st.sampled_from(NAMES),
    document=DOCUMENT.map(json.dumps).map(str.encode) | st.binary(max_size=50),
    content=st.binary(max_size=70),
    shift=st.none() | st.sampled_from([0, 0, 0, -1, 1, 10**6]),
)
def test_no_inference_request_causes_a_500(
    client: httpx.Client,
    name: str,
    document: bytes,
    content: bytes,
    shift: int | None,
) -> None:
    """Requests similar to valid ones get a prediction or a client error."""
    headers = {} if shift is None else {LENGTH: str(len(document) + shift)}

    response = client.post(f"/v2/models/{name}/infer", content=document + content, headers=headers)

    if response.status_code != httpx.codes.OK:
        assert_contract(response, 403 if response.status_code == httpx.codes.FORBIDDEN else 400)
