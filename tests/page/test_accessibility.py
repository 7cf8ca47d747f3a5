"""The page for screen readers and for keyboards."""

from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser import OpenPage
from tests.conftest import ShippedClient
from tests.page.views import card, expect_response, field, open_model, predict

PHONE = {"width": 390, "height": 844}
SERIOUS = {"serious", "critical"}


def violations(page: Page) -> list[str]:
    """The serious violations that axe-core finds, with their elements."""
    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {node['html']}"
        for one in found
        if one["impact"] in SERIOUS
        for node in one["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_view_has_a_serious_violation(
    open_page: OpenPage, shipped_client: ShippedClient, scheme: Literal["light", "dark"]
) -> None:
    """The list, a regression, a classifier that is unsure, and the other tabs."""
    page = open_page(str(shipped_client.base_url), color_scheme=scheme)
    expect(page.get_by_role("link", name="Iris species")).to_be_visible()
    assert violations(page) == []
    for route, shown in (
        ("models/king_county", "Why this prediction"),
        ("models/churn", "What if"),
        ("models/churn/api", "Endpoints"),
        ("models/churn/about", "Metrics"),
        ("live", "Time of a prediction"),
    ):
        page.goto(f"{shipped_client.base_url}#/{route}")
        expect(page.get_by_role("region", name=shown, exact=True)).to_be_visible()
        expect(page.get_by_text("Loading…")).to_have_count(0)
        assert violations(page) == [], route


def test_a_phone_has_no_violation_and_no_overflow(
    open_page: OpenPage, shipped_client: ShippedClient
) -> None:
    """Nothing is wider than the screen, and the prediction stays in sight."""
    page = open_model(open_page, shipped_client, "king_county", viewport=PHONE)
    expect(card(page, "Why this prediction")).to_contain_text("Contributions")

    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    page.get_by_role("slider", name="grade").scroll_into_view_if_needed()
    bar = page.locator(".result-bar")
    expect(bar).to_contain_text("US dollars")
    expect(bar).to_be_in_viewport()


def press_tab_until(page: Page, wanted: str) -> None:
    """Press Tab until the focused element contains a text or has it as its name."""
    for _ in range(60):
        page.keyboard.press("Tab")
        name = page.evaluate(
            """() => {
                const one = document.activeElement;
                return one.getAttribute("aria-label") ?? one.labels?.[0]?.textContent
                    ?? one.textContent;
            }"""
        )
        if wanted in name:
            return
    raise AssertionError(f"Tab never reached {wanted!r}")


def test_everything_can_be_reached_by_keys(
    open_page: OpenPage, shipped_client: ShippedClient
) -> None:
    """From the list to a prediction and to its request, with Tab, Enter and arrows."""
    page = open_page(str(shipped_client.base_url))
    expect(page.get_by_role("link", name="University admission", exact=True)).to_be_visible()
    press_tab_until(page, "University admission")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("University admission")
    expect(page.get_by_role("main")).to_be_focused()

    press_tab_until(page, "exam_1")
    page.keyboard.press("Home")
    value = float(field(page, "exam_1").get_by_role("spinbutton").input_value())
    expect_response(page, predict(shipped_client, "admission", {"exam_1": value, "exam_2": 85}))
    press_tab_until(page, "curl")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Python")).to_be_focused()
    expect(card(page, "The request").get_by_text("import httpx")).to_be_visible()
    press_tab_until(page, "Copy")


def test_tabs_follow_the_arrow_keys(open_page: OpenPage, shipped_client: ShippedClient) -> None:
    """The address names the tab, so that it can be shared."""
    page = open_model(open_page, shipped_client, "admission")
    tabs = page.get_by_role("tablist", name="Ways to use the model")
    tabs.get_by_role("tab", name="Form").focus()
    page.keyboard.press("End")
    expect(tabs.get_by_role("tab", name="About")).to_be_focused()
    expect(card(page, "Metrics")).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(tabs.get_by_role("tab", name="Form")).to_have_attribute("aria-selected", "true")
    page.keyboard.press("ArrowLeft")
    assert page.url.endswith("#/models/admission/about")


def test_the_skip_link_leads_to_the_content(
    open_page: OpenPage, shipped_client: ShippedClient
) -> None:
    """It is the first element that Tab reaches."""
    page = open_page(str(shipped_client.base_url))
    expect(page.get_by_role("link", name="Iris species")).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")

    expect(page.get_by_role("main")).to_be_focused()


def test_the_prediction_is_announced(open_page: OpenPage, shipped_client: ShippedClient) -> None:
    """Screen readers get one sentence when the form was not changed for a moment."""
    page = open_model(open_page, shipped_client, "admission")

    expect(card(page, "Prediction").get_by_role("status")).to_have_text(
        "Prediction: admitted, probability 77.6\u202f%"
    )
