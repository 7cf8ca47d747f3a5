"""The parts of the page that several tests use, found as its users find them."""

import json
from typing import Any

import httpx
from playwright.sync_api import Locator, Page, expect

from tests.browser import OpenPage


def open_model(
    open_page: OpenPage, client: httpx.Client, name: str, tab: str = "", **options: object
) -> Page:
    """The page of a model of a service, with Playwright's options of a context."""
    address = f"{str(client.base_url).rstrip('/')}/#/models/{name}"
    return open_page(f"{address}/{tab}" if tab else address, **options)


def field(page: Page, feature: str) -> Locator:
    """The field of a feature."""
    return page.locator(".field").filter(has=page.get_by_text(feature, exact=True))


def set_number(page: Page, feature: str, value: float) -> None:
    """Type a number into the field of a feature."""
    field(page, feature).get_by_role("spinbutton").fill(str(value))


def card(page: Page, name: str) -> Locator:
    """One of the cards of the view, by its heading."""
    return page.get_by_role("region", name=name, exact=True)


def predict(client: httpx.Client, model: str, row: object, query: str = "") -> dict[str, Any]:
    """The prediction of the service, without the page."""
    response = client.post(f"/models/{model}/predict{query}", json=row)
    assert response.status_code == 200, response.text
    prediction: dict[str, Any] = response.json()
    return prediction


def shown_response(page: Page) -> dict[str, Any]:
    """The response that the page shows below its request."""
    code = card(page, "The request").locator("details code")
    expect(code).not_to_be_empty()
    shown: dict[str, Any] = json.loads(code.text_content() or "")
    return shown


def expect_response(page: Page, expected: object) -> None:
    """Wait until the page shows this response below its request."""
    page.wait_for_function(
        """expected => {
            const code = document.querySelector(".request details code");
            const write = text => JSON.stringify(JSON.parse(text));
            return code && write(code.textContent) === write(expected);
        }""",
        arg=json.dumps(expected),
    )
