"""Routes and their dependencies run on the event loop."""

import threading
from pathlib import Path

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


def test_no_request_is_handed_to_a_thread_pool(models: Path, start: StartApp) -> None:
    """FastAPI runs each plain function in one, which costs more than the function."""
    publish_price(models)
    client = start()

    for path in GET:
        client.get(path)
    for path in POST:
        client.post(path, json={})

    assert not [each.name for each in threading.enumerate() if "AnyIO" in each.name]
