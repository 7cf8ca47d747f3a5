"""The shipped models are served with the predictions of the README."""

from pathlib import Path

import numpy as np
import pytest

from service.bundle.store import list_versions, read_bundle
from tests.conftest import ShippedClient

MODELS = Path(__file__).parents[1] / "models"


def test_every_shipped_bundle_passes_every_check(shipped_client: ShippedClient) -> None:
    """Each bundle is complete and passes its self-test."""
    listed = shipped_client.get("/models").json()["models"]

    names = sorted(path.name for path in MODELS.iterdir() if path.is_dir())
    assert [model["name"] for model in listed] == names
    assert all(model["ready"] for model in listed)
    for name in names:
        for version in list_versions(MODELS / name):
            assert read_bundle(MODELS / name / str(version)).manifest.provenance is not None


@pytest.mark.parametrize("temperature", [-5, 10, 30])
def test_ice_cream_predicts_the_least_squares_line(
    shipped_client: ShippedClient, temperature: float
) -> None:
    """The line through the six rows, as numpy's polyfit finds it."""
    rows = np.array([[10, 4], [12, 5], [16, 7], [20, 10], [24, 15], [26, 16]], np.float64)
    slope, intercept = np.polyfit(rows[:, 0], rows[:, 1], 1)

    response = shipped_client.post(
        "/models/ice_cream/predict", json={"temperature": temperature}
    ).json()

    assert response["value"] == pytest.approx(slope * temperature + intercept, abs=1e-4)
    assert response["unit"] == "cones"
