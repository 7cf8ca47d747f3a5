"""Impossible shapes are rejected, and empty arrays are accepted."""

from math import prod
from pathlib import Path

import httpx
import numpy as np
import pytest
from onnx import TensorProto

from service.api.v2.protocol import format_classification
from service.engine.tensors import TensorSpec
from tests.conftest import StartApp
from tests.models import publish_bare
from tests.service.api.test_invalid_requests import assert_contract
from tests.triton_models import identity, image_classifier

KINDS = {"FP32": TensorProto.FLOAT, "BYTES": TensorProto.STRING}


def infer(client: httpx.Client, shape: list[int], **changes: object) -> httpx.Response:
    tensor = {"name": "INPUT0", "shape": shape, "datatype": "FP32", "data": []} | changes
    return client.post("/v2/models/same/infer", json={"inputs": [tensor]})


@pytest.mark.parametrize("datatype", KINDS)
@pytest.mark.parametrize("shape", [[0, 2**63], [0, 2**62], [2**62, 0], [0, 2**63 - 1]])
def test_an_empty_array_longer_than_memory_is_rejected(
    models: Path, start: StartApp, datatype: str, shape: list[int]
) -> None:
    """It needs no data, but numpy cannot represent its shape."""
    publish_bare(models, "same", identity(KINDS[datatype], ["rows", "columns"]))

    response = infer(start(), shape, datatype=datatype)

    assert "longer than any memory" in assert_contract(response, 400)["error"]


@pytest.mark.parametrize("datatype", KINDS)
def test_an_empty_binary_array_longer_than_memory_is_rejected(
    models: Path, start: StartApp, datatype: str
) -> None:
    """The shape is rejected although the array has zero bytes."""
    publish_bare(models, "same", identity(KINDS[datatype], ["rows", "columns"]))
    nothing = {"datatype": datatype, "parameters": {"binary_data_size": 0}}
    tensor = {"name": "INPUT0", "shape": [0, 2**62]} | nothing

    response = start().post("/v2/models/same/infer", json={"inputs": [tensor]})

    assert "longer than any memory" in assert_contract(response, 400)["error"]


@pytest.mark.parametrize("axes", [65, 10_000])
def test_too_many_axes_are_rejected(models: Path, start: StartApp, axes: int) -> None:
    """The number of axes is limited even if the graph has an unknown rank."""
    publish_bare(models, "same", identity(TensorProto.FLOAT, []))

    response = infer(start(), [1] * axes, data=[1])

    assert f"{axes} axes; 64 are the most" in assert_contract(response, 400)["error"]


@pytest.mark.parametrize("shape", [[0, 3], [3, 0], [0, 2**40]])
def test_an_empty_array_is_accepted(models: Path, start: StartApp, shape: list[int]) -> None:
    """The output has the same shape."""
    publish_bare(models, "same", identity(TensorProto.FLOAT, ["rows", "columns"]))

    output = infer(start(), shape).json()["outputs"][0]

    assert (output["shape"], output["data"]) == (shape, [])


def test_the_classification_of_no_rows_has_no_rows(models: Path, start: StartApp) -> None:
    """Its shape has the number of classes."""
    publish_bare(models, "images", image_classifier())
    tensor = {"name": "data", "shape": [0, 3, 8, 8], "datatype": "FP32", "data": []}
    wanted = {"name": "scores", "parameters": {"classification": 2}}

    response = start().post(
        "/v2/models/images/infer", json={"inputs": [tensor], "outputs": [wanted]}
    )

    output = response.json()["outputs"][0]
    assert (output["datatype"], output["shape"], output["data"]) == ("BYTES", [0, 2], [])


@pytest.mark.parametrize("shape", [(0, 1), (0, 3), (0, 2, 2), (2, 0), (0,)])
def test_ranking_an_empty_array_returns_an_empty_one(shape: tuple[int, ...]) -> None:
    """The number of classes follows from the other axes, even without rows."""
    ranked = format_classification(
        np.zeros(shape, np.float32), TensorSpec("x", "FP32", shape), 9, []
    )

    assert ranked.size == 0
    if len(shape) > 1:
        assert ranked.shape == (shape[0], prod(shape[1:]))
