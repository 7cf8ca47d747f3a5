"""Shapes that claim what no array can be are refused, and empty ones that can be are answered."""

from math import prod
from pathlib import Path

import httpx
import numpy as np
import pytest
from onnx import TensorProto

from service.api.v2.protocol import classify
from tests.conftest import StartApp
from tests.models import place_bare
from tests.service.api.test_nonsense import assert_contract
from tests.triton_models import identity, image_classifier

KINDS = {"FP32": TensorProto.FLOAT, "BYTES": TensorProto.STRING}


def infer(client: httpx.Client, shape: list[int], **changes: object) -> httpx.Response:
    tensor = {"name": "INPUT0", "shape": shape, "datatype": "FP32", "data": []} | changes
    return client.post("/v2/models/same/infer", json={"inputs": [tensor]})


@pytest.mark.parametrize("datatype", KINDS)
@pytest.mark.parametrize("shape", [[0, 2**63], [0, 2**62], [2**62, 0], [0, 2**63 - 1]])
def test_an_empty_array_longer_than_memory_is_refused(
    models: Path, start: StartApp, datatype: str, shape: list[int]
) -> None:
    """No data fills it, and yet numpy could not describe it."""
    place_bare(models, "same", identity(KINDS[datatype], ["rows", "columns"]))

    answer = infer(start(), shape, datatype=datatype)

    assert "longer than any memory" in assert_contract(answer, 400)["error"]


@pytest.mark.parametrize("datatype", KINDS)
def test_an_empty_array_in_bytes_is_held_to_the_same(
    models: Path, start: StartApp, datatype: str
) -> None:
    """The bytes of nothing are no bytes, whatever shape they claim."""
    place_bare(models, "same", identity(KINDS[datatype], ["rows", "columns"]))
    nothing = {"datatype": datatype, "parameters": {"binary_data_size": 0}}
    tensor = {"name": "INPUT0", "shape": [0, 2**62]} | nothing

    answer = start().post("/v2/models/same/infer", json={"inputs": [tensor]})

    assert "longer than any memory" in assert_contract(answer, 400)["error"]


@pytest.mark.parametrize("axes", [65, 10_000])
def test_more_axes_than_an_array_has_are_refused(models: Path, start: StartApp, axes: int) -> None:
    """Where the graph does not tell its rank, the number of axes still has an end."""
    place_bare(models, "same", identity(TensorProto.FLOAT, []))

    answer = infer(start(), [1] * axes, data=[1])

    assert f"{axes} axes; 64 are the most" in assert_contract(answer, 400)["error"]


@pytest.mark.parametrize("shape", [[0, 3], [3, 0], [0, 2**40]])
def test_an_empty_array_is_answered(models: Path, start: StartApp, shape: list[int]) -> None:
    """What an array can be comes back as it went in."""
    place_bare(models, "same", identity(TensorProto.FLOAT, ["rows", "columns"]))

    output = infer(start(), shape).json()["outputs"][0]

    assert (output["shape"], output["data"]) == (shape, [])


def test_no_rows_are_ranked_as_none(models: Path, start: StartApp) -> None:
    """Classification of an output without rows is an output without rows."""
    place_bare(models, "images", image_classifier())
    tensor = {"name": "data", "shape": [0, 3, 8, 8], "datatype": "FP32", "data": []}
    wanted = {"name": "scores", "parameters": {"classification": 2}}

    answer = start().post("/v2/models/images/infer", json={"inputs": [tensor], "outputs": [wanted]})

    output = answer.json()["outputs"][0]
    assert (output["datatype"], output["shape"], output["data"]) == ("BYTES", [0, 2], [])


@pytest.mark.parametrize("shape", [(0, 1), (0, 3), (0, 2, 2), (2, 0), (0,)])
def test_ranking_nothing_gives_nothing(shape: tuple[int, ...]) -> None:
    """There are as many classes as the other axes hold, even of no rows."""
    ranked = classify(np.zeros(shape, np.float32), 9, [])

    assert ranked.size == 0
    if len(shape) > 1:
        assert ranked.shape == (shape[0], prod(shape[1:]))
