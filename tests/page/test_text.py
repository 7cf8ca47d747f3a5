"""Names, descriptions, class labels and categories with markup are shown as text."""

from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

from service.bundle.features import CategoryFeature
from service.bundle.manifest import ClassesOutput
from tests.browser import OpenPage
from tests.conftest import Serve
from tests.models import admission_features, examples, graph, manifest, publish
from tests.page.views import card, field, open_model

MARKUP = '<img src=x onerror="window.changed = 1">'
LABELS = ["<b>no</b>", f"yes {MARKUP}"]


def publish_markup(models: Path) -> None:
    """Publish a classifier with markup in every text."""
    exam, _ = admission_features()
    exam = exam.model_copy(update={"name": f"exam {MARKUP}", "description": MARKUP, "unit": MARKUP})
    word = CategoryFeature(
        name="word", type="category", categories=[MARKUP, "<i>x</i>"], example=MARKUP
    )
    output = ClassesOutput(kind="classes", name=MARKUP, labels=LABELS)
    plain = manifest("markup", [exam, word], output)
    described = plain.model_copy(update={"title": f"Title {MARKUP}", "description": MARKUP})
    rows = [[0.0, 0.0]]
    model = graph([[0.1], [1.0]], [0.0], "probability", "Sigmoid")
    publish(models, described, model, examples(rows, [[0.5]], described))


@pytest.fixture(scope="module")
def client(serve: Serve) -> httpx.Client:
    """A service with one model."""
    return serve(publish_markup)


def test_the_list_shows_markup_as_text(open_page: OpenPage, client: httpx.Client) -> None:
    """No element of the page comes from a text."""
    page = open_page(f"{client.base_url}#/")
    expect(page.get_by_role("link", name="Title <img")).to_be_visible()

    assert page.locator("main img").count() == 0
    assert page.title() == "Onward"


@pytest.mark.parametrize("tab", ["", "api", "about"])
def test_a_model_shows_markup_as_text(open_page: OpenPage, client: httpx.Client, tab: str) -> None:
    """The form, the prediction, the contributions, the curve and the tables."""
    page = open_model(open_page, client, "markup", tab)
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Title {MARKUP}")
    if not tab:
        field(page, "word").get_by_role("combobox").select_option("<i>x</i>")
        expect(card(page, "Prediction").locator(".headline-value")).to_have_text(LABELS[1])
        expect(card(page, "Why this prediction")).to_contain_text("exam <img")
        expect(card(page, "What if").get_by_role("button", name=MARKUP)).to_be_visible()
        expect(field(page, "word")).to_contain_text(MARKUP)

    assert page.locator("main img, main i, main b").count() == 0
    assert page.evaluate("window.changed") is None
