"""The OpenAPI document is always current, and building it does not block the event loop."""

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.api.components import ModelDescription
from service.api.documentation import Documentation
from service.engine.registry import Registry
from tests.conftest import Serve, StartApp
from tests.models import publish_admission, publish_iris, publish_mixed, publish_price
from tests.processes import until


def documented(client: httpx.Client) -> set[str]:
    """Return the paths of the document."""
    return set(client.get("/openapi.json").json()["paths"])


class Routes:
    """Creates an empty document in half a second, and counts the calls."""

    def __init__(self) -> None:
        self.builds = 0

    def __call__(self) -> dict[str, Any]:
        self.builds += 1
        time.sleep(0.5)
        return {"openapi": "3.1.0", "paths": {}}


@pytest.fixture(scope="module")
def client(serve: Serve) -> httpx.Client:
    """A client of the models of this file."""

    def publish(models: Path) -> None:
        publish_price(models)
        publish_mixed(models)
        publish_admission(models)

    return serve(publish)


def test_the_document_follows_the_models(models: Path, start: StartApp) -> None:
    """It has the paths of loaded models only."""
    publish_price(models)
    client = start(model_control="explicit")
    assert "/models/price/predict" in documented(client)
    assert "/models/iris/predict" not in documented(client)

    publish_iris(models)
    client.post("/v2/repository/models/iris/load")
    client.post("/v2/repository/models/price/unload")

    assert "/models/iris/predict" in documented(client)
    assert "/models/price/predict" not in documented(client)


def test_the_document_follows_the_folder(models: Path, start: StartApp) -> None:
    """A model that is added to the folder appears in the document."""
    publish_price(models)
    client = start(poll_seconds=0.05)
    assert "/models/iris/predict" not in documented(client)

    publish_iris(models)

    until(lambda: "/models/iris/predict" in documented(client))


def test_concurrent_requests_share_one_build() -> None:
    """Fifty requests build the document once, while the event loop continues."""
    routes = Routes()
    documentation = Documentation(Registry("cpu"), routes, lambda *_: ModelDescription({}, {}, {}))
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.01)
            turns += 1

    async def fifty() -> list[bytes]:
        turning = asyncio.create_task(turn())
        documents = await asyncio.gather(*(documentation.json() for _ in range(50)))
        turning.cancel()
        return [*documents, await documentation.json()]

    documents = asyncio.run(fifty())

    assert routes.builds == 1
    assert len(set(documents)) == 1
    assert turns > 5


def test_a_failed_build_is_retried() -> None:
    """Requests that wait for a failed build get its error; the next request builds again."""
    failures = iter([RuntimeError("once")])

    def routes() -> dict[str, Any]:
        for failure in failures:
            raise failure
        return {"openapi": "3.1.0", "paths": {}}

    documentation = Documentation(Registry("cpu"), routes, lambda *_: ModelDescription({}, {}, {}))

    with pytest.raises(RuntimeError, match="once"):
        asyncio.run(documentation.json())
    assert b'"paths":{}' in asyncio.run(documentation.json())


@pytest.mark.parametrize("path", ["/openapi.json", "/docs", "/redoc"])
def test_the_document_and_its_pages_are_read_only(start: StartApp, path: str) -> None:
    """Only GET and HEAD are allowed, and the error lists them."""
    client = start()

    assert client.get(path).status_code == client.head(path).status_code == 200
    posted = client.post(path)
    assert (posted.status_code, posted.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/models/price/versions/1/shadow", "GET, HEAD, DELETE"),
        ("POST", "/models", "GET, HEAD"),
        ("PUT", "/v1/models/price:predict", "POST"),
        ("GET", "/v1/models/price/versions/1:classify", "POST"),
        ("DELETE", "/v1/models/price/labels/stable:regress", "POST"),
        ("OPTIONS", "/models/price/predict", "POST"),
    ],
)
def test_a_wrong_method_gets_all_allowed_ones(
    client: httpx.Client, method: str, path: str, allowed: str
) -> None:
    """The Allow header has the methods of all routes of the path."""
    response = client.request(method, path)

    assert (response.status_code, response.headers["allow"]) == (405, allowed)


def test_path_parameters_are_not_read_from_the_query(client: httpx.Client) -> None:
    """An unknown query parameter is ignored, even if other paths have a parameter of that name."""
    assert client.get("/models/price?version=9").status_code == 200
    assert client.get("/v1/models/price/metadata?label=canary").status_code == 200
    operation = client.get("/openapi.json").json()["paths"]["/models/{name}"]["get"]
    assert [parameter["name"] for parameter in operation["parameters"]] == ["name"]


def test_documented_values_are_accepted(client: httpx.Client) -> None:
    """Examples are categories without quotes, numbers for booleans, and rows as arrays."""
    usual = {"rooms": 3, "garden": True, "quarter": "north"}

    rows = [
        usual | {"garden": 0},
        usual | {"rooms": 2**53 - 1},
        usual | {"rooms": 2**24 + 1},
        usual | {"color": 5},
        usual | {"color": 5.0},
        [None, 3, 1, "south", None],
    ]
    response = client.post("/models/mixed/predict", json=rows)
    top = client.post("/models/admission/predict?top=9", json={"exam_1": 1, "exam_2": 1})

    assert response.status_code == 200, response.text
    assert len(top.json()["probabilities"]) == 2


@pytest.mark.parametrize(
    "row",
    [
        {"rooms": 2**53},
        {"rooms": 2**24 + 0.5},
        {"rooms": 3.5},
        {"garden": 2},
        {"garden": "true"},
        {"quarter": 0},
        {"size": 1e39},
        {"size": -(2**128)},
    ],
)
def test_undocumented_values_are_rejected(client: httpx.Client, row: dict[str, object]) -> None:
    """The document and the service have the same rules."""
    usual = {"rooms": 3, "garden": True, "quarter": "north"}

    assert client.post("/models/mixed/predict", json=usual | row).status_code == 400


@pytest.mark.parametrize("wrap", [b'{"image":%b}', b'{"b64":%b}', b"[%b]", b'{"size":%b}'])
@pytest.mark.parametrize("levels", [101, 500, 1000])
@pytest.mark.parametrize(
    "path", ["/models/price/predict", "/models/price/explain", "/v1/models/price:predict"]
)
def test_deep_nesting_is_a_client_error(
    client: httpx.Client, path: str, levels: int, wrap: bytes
) -> None:
    """No depth of arrays and objects causes a server error."""
    body = b"1"
    for _ in range(levels):
        body = wrap % body

    response = client.post(path, content=body, headers={"content-type": "application/json"})

    assert response.status_code == 400
    assert len(response.json()["error"]) < 1000


def test_brackets_within_strings_are_not_nesting(client: httpx.Client) -> None:
    """A string of two hundred brackets is a string."""
    row = {"rooms": 3, "garden": True, "quarter": "north", "color": "[{" * 200}

    assert client.post("/models/mixed/predict", json=row).status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/%s", "/models/%s", "/models/price/versions/%s", "/v1/models/%s/metadata", "/v2/models/%s"],
)
def test_errors_about_long_names_are_short(models: Path, start: StartApp, path: str) -> None:
    """A name of two thousand characters is truncated, and not all models are listed."""
    for number in range(40):
        publish_price(models, f"price_of_the_house_with_number_{number:03d}")
    publish_price(models)

    response = start().get(path % ("x" * 2000))

    assert response.status_code == 404
    assert len(response.json()["error"]) < 1500
