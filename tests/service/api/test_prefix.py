"""Behind a proxy that adds a path prefix, whether or not it removes the prefix again."""

import httpx
import pytest

from service.settings import Settings
from tests.conftest import Serve
from tests.models import publish_price

PREFIX = "/ml/onward"
ROW = {"size": 2.0}
HTML = {"accept": "text/html"}
PATHS = [
    ("GET", "/", None),
    ("GET", "/models", None),
    ("GET", "/models/price/", None),
    ("GET", "/health/ready", None),
    ("GET", "/docs", None),
    ("GET", "/openapi.json", None),
    ("GET", "/static/docs/load.js", None),
    ("POST", "/models/price/predict", ROW),
    ("POST", "/models/price/versions/1/predict", ROW),
    ("POST", "/models/price/explain", ROW),
    ("POST", "/v1/models/price:predict", {"instances": [[2.0]]}),
    (
        "POST",
        "/v2/models/price/infer",
        {"inputs": [{"name": "features", "shape": [1, 1], "datatype": "FP32", "data": [2.0]}]},
    ),
]


@pytest.fixture(scope="module")
def client(serve: Serve) -> httpx.Client:
    """A client of a service whose proxy adds a prefix."""
    return serve(publish_price, root_path=PREFIX)


@pytest.mark.parametrize(("method", "path", "body"), PATHS)
def test_paths_are_the_same_with_and_without_the_prefix(
    client: httpx.Client, method: str, path: str, body: object
) -> None:
    """A proxy that removes its prefix and one that does not get the same responses."""
    bare = client.request(method, path, json=body)
    prefixed = client.request(method, f"{PREFIX}{path}", json=body)

    assert bare.status_code == prefixed.status_code == 200
    assert bare.content == prefixed.content


def test_addresses_in_responses_have_the_prefix(client: httpx.Client) -> None:
    """In the document, the root, and errors; whichever path the request had."""
    for prefix in ("", PREFIX):
        document = client.get(f"{prefix}/openapi.json").json()
        root = client.get(f"{prefix}/").json()
        missing = client.get(f"{prefix}/nowhere").json()["error"]
        wrong = client.get(f"{prefix}/models/price/predict").json()["error"]

        assert document["servers"] == [{"url": PREFIX}]
        assert (root["models"], root["documentation"]) == (f"{PREFIX}/models", f"{PREFIX}/docs")
        assert f"There is nothing at {PREFIX}/nowhere; GET {PREFIX}/models" in missing
        assert f"{PREFIX}/models/price/predict -d " in wrong


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/ml/onward", "/ml/onward/"),
        ("/ml/onward/docs/", "/ml/onward/docs"),
        ("/docs/", "/docs"),
    ],
)
def test_redirects_stay_below_the_prefix(client: httpx.Client, path: str, target: str) -> None:
    """A browser that resolves the location has the prefix that it had before."""
    response = client.get(path, headers=HTML)

    assert response.status_code == 307
    assert response.next_request is not None
    assert response.next_request.url.path == target
    assert client.get(target, headers=HTML).status_code == 200


@pytest.mark.parametrize("path", ["/ml/onwardmodels", "/ml/models", "/onward/models"])
def test_only_the_whole_prefix_is_removed(client: httpx.Client, path: str) -> None:
    """A path that begins like the prefix is another one."""
    assert client.get(path).status_code == 404


def test_the_prefix_of_a_header_is_not_trusted(serve: Serve) -> None:
    """Any client could send it, and a cache could then send the links to others."""
    client = serve(publish_price)
    headers = {"x-forwarded-prefix": PREFIX, "x-script-name": PREFIX}

    for path in ("/", "/openapi.json", "/nowhere"):
        response = client.get(path, headers=headers)
        assert PREFIX not in response.text
    assert client.get(f"{PREFIX}/models", headers=headers).status_code == 404
    assert "servers" not in client.get("/openapi.json").json()


@pytest.mark.parametrize(
    "path", ["onward", "/onward/", "/", "//onward", "/on ward", "/models", "/v1/onward", "/a?b"]
)
def test_a_prefix_that_cannot_work_is_rejected(path: str) -> None:
    """It begins with a slash, ends without one, and is no path of the service."""
    with pytest.raises(ValueError, match="root_path"):
        Settings(root_path=path)


def test_the_first_segments_of_all_paths_are_known(serve: Serve) -> None:
    """A prefix that begins with one of them is rejected."""
    paths = serve(publish_price).get("/openapi.json").json()["paths"]

    for path in paths:
        with pytest.raises(ValueError, match="root_path"):
            Settings(root_path=f"/{path.split('/')[1]}")
