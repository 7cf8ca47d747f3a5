"""The drawing pad: handwritten digits while they are drawn."""

from base64 import b64decode
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, Response, expect

from tests.browser import OpenPage
from tests.conftest import ShippedClient
from tests.page.files import find_barriers, predict_image
from tests.page.handwriting import Points, write_digit
from tests.page.views import card, open_model, shown_response

CURRENT = '[aria-label="Draw a digit"][aria-busy="false"]'
RED_PIXELS = """() => {
    const canvas = document.querySelector(".pad-seen-image");
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return [...data].filter((_, position) => position % 4 === 0);
}"""
SEVEN = [np.array([[0.25, 0.2], [0.5, 0.2], [0.75, 0.2], [0.6, 0.5], [0.5, 0.85]])]


def sheet(page: Page) -> Locator:
    """The area to draw on."""
    return page.get_by_label("Drawing area")


def draw(page: Page, strokes: list[Points]) -> None:
    """Draw with the mouse, and wait for the prediction of the whole drawing."""
    box = sheet(page).bounding_box()
    assert box is not None
    for stroke in strokes:
        for number, (x, y) in enumerate(stroke.tolist()):
            page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
            if number == 0:
                page.mouse.down()
        page.mouse.up()
    page.wait_for_selector(CURRENT)


def digit(page: Page) -> str:
    """The digit that is shown."""
    return card(page, "Draw a digit").locator(".headline-value").text_content() or ""


def record_explained(page: Page) -> list[Response]:
    """The responses with the images that the model receives, in a list that grows."""
    responses: list[Response] = []

    def record(response: Response) -> None:
        if "explain" in response.url:
            responses.append(response)

    page.on("response", record)
    return responses


def read_image(response: Response) -> bytes:
    """The image that the model received."""
    return b64decode(response.json()["explanation"]["image"])


def test_drawn_digits_are_recognized(shipped_client: ShippedClient, open_page: OpenPage) -> None:
    """At least nine of ten handwritten digits are right, also by another model."""
    page = open_model(open_page, shipped_client, "digits_cnn")
    explained = record_explained(page)
    rng = np.random.default_rng(1)

    shown, others = [], []
    for written in range(10):
        draw(page, write_digit(written, rng))
        shown.append(digit(page))
        received = read_image(explained[-1])
        others.append(predict_image(shipped_client, "digits_conv/predict", received)["label"])
        page.get_by_role("button", name="Clear").click()

    assert sum(label == str(written) for written, label in enumerate(shown)) >= 9, shown
    assert sum(label == str(written) for written, label in enumerate(others)) >= 9, others


def test_the_pad_shows_what_the_service_returns(
    shipped_client: ShippedClient, open_page: OpenPage
) -> None:
    """The image is the model's input, and the prediction that of this image."""
    page = open_model(open_page, shipped_client, "digits_cnn")
    explained = record_explained(page)

    draw(page, SEVEN)
    received = read_image(explained[-1])
    predicted = predict_image(shipped_client, "digits_cnn/predict", received)
    shown = np.array(page.evaluate(RED_PIXELS)).reshape(168, 168)

    with page.expect_download() as download:
        page.get_by_role("button", name="Save").click()
    saved = Path(download.value.path()).read_bytes()

    assert digit(page) == predicted["label"] == "7"
    assert shown_response(page) == predicted
    assert predict_image(shipped_client, "digits_cnn/predict", saved) == predicted
    assert np.array_equal(shown[3::6, 3::6], np.asarray(Image.open(BytesIO(received))))
    bars = page.get_by_role("list", name="Class probabilities").get_by_role("listitem")
    expect(bars).to_have_count(10)


def test_strokes_are_undone_and_drawn_with_the_keyboard(
    shipped_client: ShippedClient, open_page: OpenPage
) -> None:
    """Space sets the pen down and lifts it, arrow keys move it, and Ctrl+Z removes a stroke."""
    page = open_model(open_page, shipped_client, "digits_cnn")

    sheet(page).focus()
    for key in ("Space", *["ArrowDown"] * 10, "Space"):
        page.keyboard.press(key)
    page.wait_for_selector(CURRENT)
    drawn = digit(page)
    page.keyboard.press("Control+z")
    page.wait_for_selector(CURRENT)

    assert drawn == "1"
    expect(card(page, "Draw a digit")).to_contain_text("appears here while you draw")

    draw(page, SEVEN)
    page.get_by_role("button", name="Clear").click()
    page.get_by_role("button", name="Undo").click()
    page.wait_for_selector(CURRENT)

    assert digit(page) == "7"


def test_the_pad_needs_no_scrolling_with_a_finger(
    shipped_client: ShippedClient, open_page: OpenPage
) -> None:
    """On a phone, a finger on the sheet draws, and the page does not scroll instead."""
    size = {"width": 390, "height": 844}
    page = open_model(
        open_page, shipped_client, "digits_cnn", viewport=size, has_touch=True, is_mobile=True
    )

    sheet(page).tap()
    page.wait_for_selector(CURRENT)

    expect(card(page, "Draw a digit").locator(".headline-value")).to_be_visible()
    expect(sheet(page)).to_have_css("touch-action", "none")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    expect(page.get_by_role("button", name="Take a photo")).to_be_visible()


@pytest.mark.parametrize("model", ["fashion_cnn", "cats_dogs"])
def test_other_images_have_no_pad(
    shipped_client: ShippedClient, open_page: OpenPage, model: str
) -> None:
    """Only models whose class labels are digits have a pad."""
    page = open_model(open_page, shipped_client, model)

    expect(card(page, "Predict images")).to_be_visible()
    expect(sheet(page)).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pad_has_no_barriers(
    shipped_client: ShippedClient, open_page: OpenPage, scheme: str
) -> None:
    """axe-core finds no serious violation, with a drawing and without."""
    page = open_model(open_page, shipped_client, "digits_cnn", color_scheme=scheme)
    expect(sheet(page)).to_be_visible()
    empty = find_barriers(page)

    draw(page, SEVEN)

    assert empty == []
    assert find_barriers(page) == []
