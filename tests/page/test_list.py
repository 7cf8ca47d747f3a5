"""The list of models, and the first view of the page."""

from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Response, expect

from service.bundle.manifest import Baseline, Evaluation, ValueOutput
from tests.browser import OpenPage
from tests.conftest import Serve, ShippedClient
from tests.models import examples, graph, manifest, number, publish, publish_bare, publish_iris

MANY = 300
FIRST_VIEW_BYTES = 200_000
HTML = {"accept": "text/html"}


def publish_many(models: Path) -> None:
    """Publish 298 graphs without a manifest, and two bundles with one."""
    model = graph([[1.0], [2.0]], [0.0], "sum")
    for index in range(MANY - 2):
        publish_bare(models, f"graph_{index}", model)
    publish_iris(models)
    output = ValueOutput(kind="value", name="price", unit="euros")
    baseline = Baseline(name="the training mean", metrics={"rmse": 40.0, "mae": 31.25})
    metrics = {"rmse": 12.5, "mae": 9.5625}
    evaluation = Evaluation(part="test", rows=10, metrics=metrics, baseline=baseline)
    plain = manifest("price", [number("size")], output)
    described = plain.model_copy(update={"evaluation": evaluation})
    self_test = examples([[1.0]], [[2.0]], described)
    publish(models, described, graph([[2.0]], [0.0], "value"), self_test)


@pytest.fixture(scope="module")
def many(serve: Serve) -> httpx.Client:
    """A service with 300 models."""
    return serve(publish_many)


def test_many_models_are_searched_and_filtered(open_page: OpenPage, many: httpx.Client) -> None:
    """The list has all models, and the search and the filters combine."""
    page = open_page(str(many.base_url))
    cards = page.get_by_role("main").get_by_role("listitem")
    expect(cards).to_have_count(MANY)
    expect(page.get_by_text(f"{MANY} models ready for predictions.")).to_be_visible()

    page.get_by_role("searchbox").fill("graph 29")
    expect(cards.filter(visible=True)).to_have_count(11)
    expect(page.get_by_text(f"11 of {MANY} models")).to_be_visible()
    page.get_by_role("searchbox").fill("")
    page.get_by_role("combobox", name="Input").select_option(label="Tables")
    expect(cards.filter(visible=True)).to_have_count(2)
    page.get_by_role("combobox", name="Predicts").select_option(label="A number")
    expect(cards.filter(visible=True)).to_have_count(1)


def test_a_card_says_what_and_how_well_a_model_predicts(
    open_page: OpenPage, many: httpx.Client
) -> None:
    """The error is in the words of the training command; few test rows are mentioned."""
    page = open_page(str(many.base_url))
    price = page.get_by_role("main").get_by_role("listitem").filter(has_text="The price of")

    expect(price).to_contain_text("size \u2192 price in euros")
    expect(price).to_contain_text("Off by 9.56\u00a0euros on average")
    expect(price).to_contain_text("baseline 31.3\u00a0euros")
    expect(price).to_contain_text("RMSE 12.5\u00a0euros")
    expect(price).to_contain_text("on 10 rows")
    expect(price).to_contain_text("Version 1")
    expect(price).to_contain_text("cpu")


def test_cards_with_the_same_title_have_their_names_next_to_it(
    open_page: OpenPage, shipped_client: ShippedClient
) -> None:
    """Their links differ, and the card of a title of its own has its name below."""
    page = open_page(str(shipped_client.base_url))

    for name in ("california", "california_mlp"):
        title = f"House values in California {name}"
        link = page.get_by_role("link", name=title, exact=True)
        expect(link).to_have_attribute("href", f"#/models/{name}")
    other = page.get_by_role("link", name="House values in California, linear", exact=True)
    expect(other).to_have_attribute("href", "#/models/california_linear")


def test_filters_stay_while_one_visits_a_model(open_page: OpenPage, many: httpx.Client) -> None:
    """The way back shows the same selection."""
    page = open_page(str(many.base_url))
    page.get_by_role("searchbox").fill("iris")
    page.get_by_role("link", name="Iris").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Iris")
    page.go_back()

    expect(page.get_by_role("searchbox")).to_have_value("iris")
    expect(page.get_by_text(f"1 of {MANY} models")).to_be_visible()


def test_the_first_view_is_small(open_page: OpenPage, shipped_client: ShippedClient) -> None:
    """All files and the list of the shipped models together."""
    responses: list[Response] = []

    def record(response: Response) -> None:
        responses.append(response)

    page = open_page(f"{shipped_client.base_url}/static/page/icon.svg")
    page.on("response", record)
    page.goto(str(shipped_client.base_url))
    expect(page.get_by_role("link", name="Iris species")).to_be_visible()

    sizes = {response.url: len(response.body()) for response in responses}
    assert len(sizes) > 5
    assert sum(sizes.values()) < FIRST_VIEW_BYTES


def test_the_page_restricts_itself(shipped_client: ShippedClient) -> None:
    """The headers allow scripts, styles and requests of this service only."""
    for path in ("/", "/static/page/js/main.js", "/static/page/style.css"):
        headers = shipped_client.get(path, headers=HTML).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"


def test_files_are_sent_again_only_if_they_change(shipped_client: ShippedClient) -> None:
    """Browsers compare the ETag on each use."""
    for path in ("/", "/static/page/js/main.js"):
        first = shipped_client.get(path, headers=HTML)
        again = {**HTML, "if-none-match": first.headers["etag"]}
        second = shipped_client.get(path, headers=again)
        assert (second.status_code, second.content) == (304, b"")
        assert "content-security-policy" in second.headers


@pytest.mark.parametrize(
    "path", ["/static/page/none.js", "/static/", "/static/../app.py", "/static/%2e%2e/app.py"]
)
def test_only_files_of_the_folder_are_served(shipped_client: ShippedClient, path: str) -> None:
    """Other paths get the service's own error."""
    response = shipped_client.get(path)

    assert (response.status_code, response.json()["code"]) == (404, "not_found")


def test_other_methods_are_rejected(shipped_client: ShippedClient) -> None:
    """The response has the methods that are allowed."""
    response = shipped_client.post("/static/page/style.css")

    assert response.status_code == 405
    assert response.headers["allow"] == "GET, HEAD"
    assert response.json()["code"] == "method_not_allowed"


def test_files_have_no_metrics_of_their_own(shipped_client: ShippedClient) -> None:
    """Their requests are counted by status, as all others."""
    shipped_client.get("/static/page/style.css")

    assert "style.css" not in shipped_client.get("/metrics").text
