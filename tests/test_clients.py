"""Unmodified clients of other projects against a running service."""

from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as triton

from tests.conftest import StartApp
from tests.models import admission_probability, publish_admission, publish_bare, sum_and_difference


def connected(start: StartApp) -> triton.InferenceServerClient:
    return triton.InferenceServerClient(str(start().base_url).removeprefix("http://").rstrip("/"))


def test_triton_reads_health_and_metadata(models: Path, start: StartApp) -> None:
    """Liveness, readiness and tensors as Triton's client expects them."""
    publish_admission(models)
    client = connected(start)

    metadata = client.get_model_metadata("admission")

    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("admission")
    assert client.is_model_ready("admission", "1")
    assert client.get_server_metadata()["name"] == "onward"
    assert metadata["inputs"] == [{"name": "features", "datatype": "FP32", "shape": [-1, 2]}]


def test_triton_infers_in_json(models: Path, start: StartApp) -> None:
    """The client sends arrays and receives the predictions of the module."""
    publish_admission(models)
    client = connected(start)
    rows = np.array([[45, 85], [30, 40]], np.float32)
    features = triton.InferInput("features", rows.shape, "FP32")
    features.set_data_from_numpy(rows, binary_data=False)
    wanted = triton.InferRequestedOutput("probability", binary_data=False)

    response = client.infer("admission", [features], outputs=[wanted], request_id="7")

    expected = [[admission_probability(*row)] for row in rows.tolist()]
    np.testing.assert_allclose(response.as_numpy("probability"), expected, atol=1e-6)
    assert response.get_response()["id"] == "7"


def test_triton_infers_with_several_tensors_of_a_bare_model(models: Path, start: StartApp) -> None:
    """The example model of that client's project: sum and difference."""
    publish_bare(models, "simple", sum_and_difference())
    client = connected(start)
    left = np.arange(16, dtype=np.int32).reshape(1, 16)
    right = np.ones((1, 16), np.int32)
    inputs = [triton.InferInput(name, [1, 16], "INT32") for name in ("INPUT0", "INPUT1")]
    for tensor, array in zip(inputs, (left, right), strict=True):
        tensor.set_data_from_numpy(array, binary_data=False)
    outputs = [triton.InferRequestedOutput(n, binary_data=False) for n in ("OUTPUT0", "OUTPUT1")]

    response = client.infer("simple", inputs, outputs=outputs)

    np.testing.assert_array_equal(response.as_numpy("OUTPUT0"), left + right)
    np.testing.assert_array_equal(response.as_numpy("OUTPUT1"), left - right)


def test_triton_gets_the_error_of_an_unknown_model(start: StartApp) -> None:
    """The message contains the words that the reference clients look for."""
    client = connected(start)

    with pytest.raises(triton.InferenceServerException, match="Request for unknown model: 'x'"):
        client.get_model_metadata("x")
