"""What people and programs request first, before they have read anything, works or is explained."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.conftest import Serve
from tests.image_models import publish_mirror
from tests.images import image_input
from tests.models import publish_bare, publish_price, sum_and_difference

ROW = {"size": 1.0}
HTML = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture(scope="module")
def client(serve: Serve) -> httpx.Client:
    """A client of a table model, an image model and a graph without named features."""

    def publish(models: Path) -> None:
        publish_price(models)
        publish_mirror(models, image_input(4, 5, fit="pad"))
        publish_bare(models, "sum", sum_and_difference())

    return serve(publish)


@pytest.mark.parametrize(
    ("path", "content"),
    [("/healthz", {"live": True}), ("/health", {"ready": True}), ("/health/", {"ready": True})],
)
def test_the_usual_names_of_health_checks_are_known(
    client: httpx.Client, path: str, content: dict[str, bool]
) -> None:
    """`/healthz` is whether the process is alive, and `/health` whether it should get requests."""
    assert client.get(path).json() == content
    assert client.head(path).status_code == 200


def test_health_is_503_without_a_model(serve: Serve) -> None:
    """The process is alive all the same."""
    empty = serve(lambda _: None)

    assert empty.get("/health").status_code == 503
    assert empty.get("/healthz").status_code == 200


@pytest.mark.parametrize("path", ["/", "/favicon.ico", "/docs", "/redoc", "/openapi.json"])
def test_what_browsers_request_by_themselves_exists(client: httpx.Client, path: str) -> None:
    """Also by HEAD, as tools that check links request it."""
    assert client.get(path, headers=HTML).status_code == 200
    assert client.head(path, headers=HTML).status_code == 200


@pytest.mark.parametrize(
    "path", ["/models/price", "/metrics", "/v1/models/price", "/v2", "/health"]
)
def test_head_has_the_headers_of_get(client: httpx.Client, path: str) -> None:
    """It has no body, on every path that has a GET."""
    found, head = client.get(path), client.head(path)

    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == found.headers["content-type"]
    assert client.head("/models/price/predict").headers["allow"] == "POST"


def test_the_icon_is_an_image(client: httpx.Client) -> None:
    """Browsers request it from the root, whatever the page says."""
    assert client.get("/favicon.ico").headers["content-type"] == "image/svg+xml"


@pytest.mark.parametrize(
    "path",
    [
        "/models",
        "/models/price",
        "/models/price/versions/1",
        "/metrics",
        "/health/ready",
        "/v1/models",
        "/v1/models/price",
        "/v2",
        "/v2/models/price/ready",
        "/openapi.json",
    ],
)
def test_a_slash_at_the_end_makes_no_difference(client: httpx.Client, path: str) -> None:
    """Programs get the response without being redirected."""
    plain, slash = client.get(path), client.get(f"{path}/?unknown=1")

    assert slash.status_code == plain.status_code == 200
    if path != "/metrics":
        assert slash.json() == plain.json()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/models/price/predict/", ROW),
        ("/models/price/explain/", ROW),
        ("/v1/models/price:predict/", {"instances": [[1.0]]}),
    ],
)
def test_predictions_accept_a_slash_at_the_end(
    client: httpx.Client, path: str, body: dict[str, object]
) -> None:
    """A redirect would lose the body in many clients."""
    response = client.post(path, json=body)

    assert response.status_code == 200
    assert response.json().keys() == client.post(path[:-1], json=body).json().keys()


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_browsers_are_redirected_to_the_address_without_a_slash(
    client: httpx.Client, path: str
) -> None:
    """The relative addresses in a page count from its own address."""
    response = client.get(f"{path}/?a=%20b", headers=HTML)

    assert (response.status_code, response.headers["location"]) == (307, f"..{path}?a=%20b")
    assert str(response.next_request and response.next_request.url.path) == path


@pytest.mark.parametrize("method", ["GET", "PUT", "OPTIONS"])
@pytest.mark.parametrize("verb", ["predict", "explain"])
def test_a_wrong_method_gets_a_command_that_works(
    client: httpx.Client, method: str, verb: str
) -> None:
    """The error has the allowed method, and an example for this very model."""
    response = client.request(method, f"/models/price/{verb}?top=1")

    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    sentence = response.json()["error"]
    assert f"{method} is not allowed for /models/price/{verb}; use POST, such as: " in sentence
    command = shlex.split(sentence.partition("such as: ")[2])
    assert command[:3] == ["curl", str(response.request.url.copy_with(query=None)), "-d"]
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("no curl is installed")
    ended = subprocess.run([curl, "-s", *command[1:]], capture_output=True, check=True)
    assert json.loads(ended.stdout)["model_version"] == "1"


def test_the_example_of_an_image_model_sends_a_file(client: httpx.Client) -> None:
    """A model whose input has no names has no example."""
    images = client.get("/models/mirror/versions/1/predict").json()["error"]
    tensors = client.get("/models/sum/predict").json()["error"]
    unknown = client.get("/models/zebra/predict").json()["error"]

    assert images.endswith("/models/mirror/versions/1/predict -F image=@photo.jpg")
    assert tensors == "GET is not allowed for /models/sum/predict; use POST."
    assert re.fullmatch("GET is not allowed for .*; use POST.", unknown)
