"""`/docs` and `/redoc` in Chromium: they show the document, and load nothing of another host."""

import re
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Page, Route

from service.app import create_app
from service.settings import Settings
from tests.browser import OpenPage
from tests.conftest import Serve
from tests.models import publish_admission, publish_price

DOCS = Path(__file__).parents[3] / "service" / "static" / "docs"
PREFIX = "/onward"


def publish_both(models: Path) -> None:
    publish_admission(models)
    publish_price(models)


@pytest.fixture(scope="module")
def client(serve: Serve) -> httpx.Client:
    """A client of two models."""
    return serve(publish_both, root_path=PREFIX)


def predict_by_swagger_ui(page: Page) -> str:
    """Send the example of a model; return the address of the successful request."""
    tags = page.locator(".opblock-tag")
    tags.first.wait_for()
    assert [tags.nth(at).get_attribute("data-tag") for at in (0, 1)] == ["admission", "price"]
    tags.nth(1).click()
    operation = page.locator("#operations-price-predict_price")
    operation.locator(".opblock-summary-control").click()
    with page.expect_response("**/models/price/predict") as response:
        operation.locator(".execute").click()
    assert response.value.status == 200
    operation.locator(".live-responses-table", has_text="model_version").wait_for()
    return urlsplit(response.value.url).path


def test_swagger_ui_sends_a_request(client: httpx.Client, open_page: OpenPage) -> None:
    """The models come first, and the example of one gets a prediction."""
    page = open_page(f"{client.base_url}{PREFIX}/docs")

    assert predict_by_swagger_ui(page) == f"{PREFIX}/models/price/predict"


def test_pages_work_behind_a_proxy_without_a_setting(serve: Serve, open_page: OpenPage) -> None:
    """Their addresses are relative, so requests have the prefix that the proxy removes."""
    client = serve(publish_both)
    page = open_page(f"{client.base_url}/health")
    requested = []

    def remove_prefix(route: Route) -> None:
        requested.append(route.request.url)
        route.fulfill(response=route.fetch(url=route.request.url.replace("/proxy/", "/")))

    page.route("**/proxy/**", remove_prefix)

    page.goto(f"{client.base_url}/proxy/docs")
    path = predict_by_swagger_ui(page)

    assert path == "/proxy/models/price/predict"
    assert f"{client.base_url}/proxy/openapi.json" in requested


@pytest.mark.parametrize("prefix", ["", PREFIX])
def test_redoc_shows_and_searches(client: httpx.Client, open_page: OpenPage, prefix: str) -> None:
    """The models are a group of their own, and the search finds their operations."""
    page = open_page(f"{client.base_url}{prefix}/redoc")

    group = page.get_by_role("menuitem", name=re.compile("^Models")).first
    group.wait_for()
    assert "Admission" in group.inner_text()
    page.get_by_role("textbox").fill("price")
    page.locator("[data-role='search:results']").get_by_text("Predict: Price").first.wait_for()


def test_a_page_says_why_it_shows_nothing(client: httpx.Client, open_page: OpenPage) -> None:
    """A proxy may pass on the page and not the document."""
    page = open_page(f"{client.base_url}/redoc")
    page.route("**/openapi.json", lambda route: route.fulfill(status=403, json={"error": "No."}))

    page.reload()

    page.get_by_text("The document cannot be loaded: No.").wait_for()


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_the_policy_allows_own_scripts_only(client: httpx.Client, path: str) -> None:
    """A description with markup cannot run code."""
    policy = client.get(path).headers["content-security-policy"]

    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "http" not in policy


def test_the_libraries_are_those_of_the_readme() -> None:
    """Their digests, versions and licenses are in the folder, and no source maps."""
    readme = (DOCS / "README.md").read_text()

    listed = re.findall(r"^\| `([^`]+)` \|.*`([0-9a-f]{64})` \|$", readme, re.MULTILINE)
    assert len(listed) == 3
    for name, digest in listed:
        assert sha256((DOCS / name).read_bytes()).hexdigest() == digest, name
    for folder in ("swagger-ui", "redoc"):
        assert (DOCS / folder / "LICENSE").is_file()
    assert list(DOCS.rglob("*.map")) == []


def test_pages_are_served_without_a_loaded_model(tmp_path: Path) -> None:
    """The document of a service without models has the routes."""
    document = create_app(Settings(models=tmp_path)).openapi()

    assert [group["name"] for group in document["x-tagGroups"]] == ["All models and the service"]
