"""The unmodified client of KServe against a running service."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import httpx
import numpy as np
import pytest
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.utils.numpy_codec import from_np_dtype

from tests.conftest import StartApp
from tests.models import admission_probability, publish_admission, publish_bare, sum_and_difference
from tests.wide_models import LARGEST, lost_bits, publish_wide

ROWS = [[45.0, 85.0], [30.0, 40.0]]
Reply = TypeVar("Reply")


def requested(protocol: str, question: Callable[[InferenceRESTClient], Awaitable[Reply]]) -> Reply:
    """Run a request of a client of this protocol, and return the result."""

    async def infer() -> Reply:
        client = InferenceRESTClient(RESTConfig(protocol=protocol))
        try:
            return await question(client)
        finally:
            await client.close()

    return asyncio.run(infer())


def request(model: str, binary: bool) -> InferRequest:  # noqa: FBT001 - a parameter of the tests
    features = InferInput("features", [2, 2], "FP32")
    features.set_data_from_numpy(np.array(ROWS, np.float32), binary_data=binary)
    return InferRequest(model, [features], "7", parameters={"binary_data_output": binary})


def expected() -> list[list[object]]:
    return [[pytest.approx(admission_probability(*row), abs=1e-6)] for row in ROWS]


@pytest.mark.parametrize("protocol", ["v1", "v2"])
def test_it_finds_the_server_alive_and_its_models_ready_or_not(
    models: Path, start: StartApp, protocol: str
) -> None:
    """Liveness, and readiness of a model that serves and of one that cannot."""
    publish_admission(models)
    publish_bare(models, "broken", b"no graph")
    base = str(start().base_url)

    assert requested(protocol, lambda client: client.is_server_live(base))
    assert requested(protocol, lambda client: client.is_model_ready(base, "admission"))
    assert not requested(protocol, lambda client: client.is_model_ready(base, "broken"))


def test_it_finds_the_server_ready(models: Path, start: StartApp) -> None:
    """KServe's client of v2 finds the server and the model ready."""
    publish_admission(models)
    base = str(start().base_url)

    assert requested("v2", lambda client: client.is_server_ready(base))


def test_it_predicts_by_version_1(models: Path, start: StartApp) -> None:
    """KServe's client sends and returns a dictionary."""
    publish_admission(models)
    base = str(start().base_url)

    response = requested("v1", lambda c: c.infer(base, {"instances": ROWS}, model_name="admission"))

    assert response == {"predictions": expected()}


@pytest.mark.parametrize("binary", [False, True])
def test_it_infers_by_version_2(models: Path, start: StartApp, binary: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """KServe's client sends and receives tensors in JSON and in binary."""
    publish_admission(models)
    base = str(start().base_url)

    sent = request("admission", binary)
    response = requested("v2", lambda client: client.infer(base, sent, model_name="admission"))

    assert (response.id, response.model_name) == ("7", "admission")
    assert response.outputs[0].as_numpy().tolist() == expected()


@pytest.mark.parametrize("binary", [False, True])
def test_it_infers_with_several_tensors(models: Path, start: StartApp, binary: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """KServe's client gets the sum and the difference from a bare model."""
    publish_bare(models, "simple", sum_and_difference())
    base = str(start().base_url)
    left, right = np.arange(16, dtype=np.int32).reshape(1, 16), np.ones((1, 16), np.int32)
    inputs = [InferInput(name, [1, 16], "INT32") for name in ("INPUT0", "INPUT1")]
    for tensor, array in zip(inputs, (left, right), strict=True):
        tensor.set_data_from_numpy(array, binary_data=binary)
    sent = InferRequest("simple", inputs, parameters={"binary_data_output": binary})

    response = requested("v2", lambda c: c.infer(base, sent, model_name="simple"))

    np.testing.assert_array_equal(response.outputs[0].as_numpy(), left + right)
    np.testing.assert_array_equal(response.outputs[1].as_numpy(), left - right)


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "int32"])
def test_it_sends_numbers_of_any_type_to_a_bundle_in_64_bits(
    models: Path,
    start: StartApp,
    binary: bool,  # noqa: FBT001 - a parameter of the test
    dtype: str,
) -> None:
    """KServe's client states the type of the array, and the graph gets the same numbers."""
    publish_wide(models)
    base = str(start().base_url)
    largest = {"float64": LARGEST, "float32": 2**24, "int64": LARGEST, "int32": 2**31 - 1}[dtype]
    rows = np.array([[largest, 3], [largest - 1, largest]], dtype)
    features = InferInput("features", [2, 2], from_np_dtype(rows.dtype))
    features.set_data_from_numpy(rows, binary_data=binary)
    sent = InferRequest("wide", [features], parameters={"binary_data_output": binary})

    response = requested("v2", lambda client: client.infer(base, sent, model_name="wide"))

    np.testing.assert_array_equal(response.outputs[0].as_numpy(), lost_bits(rows.tolist()))


@pytest.mark.parametrize("protocol", ["v1", "v2"])
def test_it_raises_the_sentence_of_an_error(models: Path, start: StartApp, protocol: str) -> None:
    """The exception of KServe's client contains the error message of the service."""
    publish_admission(models)
    base = str(start().base_url)
    data = {"instances": ROWS} if protocol == "v1" else request("x", binary=False)

    with pytest.raises(httpx.HTTPStatusError, match="Request for unknown model: 'x' is not found"):
        requested(protocol, lambda c: c.infer(base, data, model_name="x"))
