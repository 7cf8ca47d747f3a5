"""Prediction paths take the fast path, and all routes run on the event loop."""

import threading
from pathlib import Path

import pytest

from service.api.routing import NATIVE, V2
from service.app import create_app
from service.settings import Settings
from tests.conftest import StartApp
from tests.models import publish_price

GET = (
    "/models",
    "/models/price",
    "/models/price/versions/1",
    "/models/price/metrics",
    "/v1/models/price",
    "/v1/models/price/metadata",
    "/v2/models/price",
    "/v2/models/price/ready",
    "/v2/models/stats",
)
POST = (
    "/v2/repository/index",
    "/v2/repository/models/price/load",
    "/v2/systemsharedmemory/region/x/register",
)


def test_every_documented_prediction_takes_the_fast_path(models: Path) -> None:
    """Every prediction route of the native protocol and of version 2 is matched."""
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
    "path", ["/models/a/b/predict", "/models//predict", "/models/price/predict//"]
)
def test_other_paths_are_passed_to_the_router(models: Path, start: StartApp, path: str) -> None:
    """A path that only resembles a prediction is not found."""
    publish_price(models)

    response = start().post(path, json={"size": 1})

    assert (response.status_code, response.json()["code"]) == (404, "not_found")


def test_no_handler_runs_in_a_thread_pool(models: Path, start: StartApp) -> None:
    """FastAPI runs plain functions in a thread pool, which costs more than the function."""
    publish_price(models)
    client = start()
    # Other tests of this process read files of the page, which run there.
    before = set(threading.enumerate())

    for path in GET:
        client.get(path)
    for path in POST:
        client.post(path, json={})

    added = set(threading.enumerate()) - before
    assert not [thread.name for thread in added if "AnyIO" in thread.name]
