"""The fast path responds to exactly the paths that are documented for predictions."""

from pathlib import Path

import pytest

from service.api.prediction_routing import NATIVE, V2
from service.app import create_app
from service.settings import Settings
from tests.conftest import StartApp
from tests.models import publish_price


def test_every_documented_prediction_takes_the_fast_path(models: Path) -> None:
    """Each route of the native protocol and of version 2 that predicts is matched."""
    documented = create_app(Settings(models=models)).openapi()["paths"]
    predictions = [
        path
        for path in documented
        if path.endswith(("/predict", "/infer")) and not path.startswith("/v1/")
    ]

    assert len(predictions) == 4
    for path in predictions:
        concrete = path.replace("{name}", "price").replace("{version}", "7")
        found = NATIVE.fullmatch(concrete) or V2.fullmatch(concrete)
        assert found is not None
        assert found["name"] == "price"
        assert found["version"] == ("7" if "{version}" in path else None)


@pytest.mark.parametrize(
    "path", ["/models/a/b/predict", "/models//predict", "/models/price/predict/"]
)
def test_other_paths_go_on_to_the_router(models: Path, start: StartApp, path: str) -> None:
    """A path that only resembles a prediction is a 404 of the error contract."""
    publish_price(models)

    answer = start().post(path, json={"size": 1})

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
