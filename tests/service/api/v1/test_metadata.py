"""Names, states and tensors of models in v1."""

from pathlib import Path

import pytest
from onnx import TensorProto

from service.bundle.store import MODEL
from tests.conftest import StartApp
from tests.models import publish_bare, publish_price
from tests.service.api.v1.graphs import publish_identity


def test_the_list_has_all_names(models: Path, start: StartApp) -> None:
    """It has models that are ready and others, like KServe's."""
    publish_price(models)
    publish_bare(models, "broken", b"no graph")

    assert start().get("/v1/models").json() == {"models": ["broken", "price"]}


def test_a_failed_model_reports_its_state_and_the_reason(models: Path, start: StartApp) -> None:
    """The state is END for TensorFlow Serving, and not ready for KServe."""
    publish_bare(models, "broken", b"no graph")

    response = start().get("/v1/models/broken")

    (version,) = response.json()["model_version_status"]
    assert response.status_code == 200
    assert response.json()["ready"] is False
    assert (version["version"], version["state"]) == ("1", "END")
    assert version["status"]["error_code"] == "UNAVAILABLE"
    assert "model.onnx is not an ONNX file" in version["status"]["error_message"]


def test_every_version_has_its_own_state(models: Path, start: StartApp) -> None:
    """A failed newest version does not stop the model, and each version has its own path."""
    publish_price(models)
    (publish_price(models) / MODEL).write_bytes(b"tampered")
    client = start()

    together = client.get("/v1/models/price").json()
    alone = client.get("/v1/models/price/versions/2").json()

    states = [(v["version"], v["state"]) for v in together["model_version_status"]]
    assert states == [("2", "END"), ("1", "AVAILABLE")]
    assert together["ready"] is True
    assert alone["ready"] is False
    assert alone["model_version_status"] == together["model_version_status"][:1]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (TensorProto.BOOL, "DT_BOOL"),
        (TensorProto.UINT8, "DT_UINT8"),
        (TensorProto.INT64, "DT_INT64"),
        (TensorProto.FLOAT16, "DT_HALF"),
        (TensorProto.FLOAT, "DT_FLOAT"),
        (TensorProto.DOUBLE, "DT_DOUBLE"),
        (TensorProto.STRING, "DT_STRING"),
    ],
)
def test_element_types_have_tensorflows_names(
    models: Path, start: StartApp, kind: int, name: str
) -> None:
    """Metadata has the names of TensorFlow's types."""
    publish_identity(models, "echo", {"x": (kind, ["n", 3])})

    response = start().get("/v1/models/echo/metadata").json()

    signature = response["metadata"]["signature_def"]["signature_def"]["serving_default"]
    sizes = [dim["size"] for dim in signature["inputs"]["x"]["tensor_shape"]["dim"]]
    assert signature["inputs"]["x"]["dtype"] == signature["outputs"]["x_out"]["dtype"] == name
    assert sizes == ["-1", "3"]
