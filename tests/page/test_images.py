"""Images that users give to the page: their predictions, previews and occlusion maps."""

from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser import OpenPage
from tests.conftest import Serve, ShippedClient
from tests.explained import publish_ink
from tests.images import encoded, photograph
from tests.page.files import drop, find_barriers, post_file, predict_image, transfer
from tests.page.views import card, expect_response, open_model

PHOTO = encoded(photograph(90, 120), "PNG")
OTHER = encoded(photograph(60, 60, seed=5), "PNG")
BROKEN = PHOTO[:200]
SIDE = 12
OVERLAY = """() => {
    const canvas = document.querySelector(".occlusion-overlay");
    const context = canvas.getContext("2d");
    const { width, height } = canvas;
    const read = (x, y) => [...context.getImageData(x * width, y * height, 1, 1).data];
    return { weighted: read(5 / 6, 1 / 6), other: read(1 / 6, 5 / 6) };
}"""


def publish_corner(models: Path) -> None:
    """Publish a model of gray images that weights only the upper right corner."""
    weights = np.zeros((SIDE, SIDE))
    weights[0:4, 8:12] = 0.5
    publish_ink(models, weights)


def drawing() -> bytes:
    """Ink in the weighted corner, and as much in the opposite one."""
    pixels = np.zeros((SIDE, SIDE), np.uint8)
    pixels[0:4, 8:12] = pixels[8:12, 0:4] = 255
    return encoded(pixels)


def choose(page: Page, files: dict[str, bytes], media_type: str = "image/png") -> None:
    """Choose files with the button."""
    payloads = [
        {"name": name, "mimeType": media_type, "buffer": file} for name, file in files.items()
    ]
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose images").click()
    chooser.value.set_files(payloads)  # type: ignore[arg-type]  # Playwright's own dictionary


def panel(page: Page) -> Locator:
    """The card of images."""
    return card(page, "Predict images")


@pytest.mark.parametrize("way", ["chosen", "dropped", "pasted"])
def test_an_image_is_predicted(
    shipped_client: ShippedClient, open_page: OpenPage, way: str
) -> None:
    """However it comes to the page, the prediction is that of the endpoint."""
    page = open_model(open_page, shipped_client, "cats_dogs")
    expect(panel(page)).to_be_visible()

    if way == "chosen":
        choose(page, {"photo.png": PHOTO})
    elif way == "dropped":
        drop(page, {"photo.png": PHOTO}, "image/png")
    else:
        page.evaluate(
            """data => document.body.dispatchEvent(
                new ClipboardEvent("paste", { clipboardData: data, bubbles: true }))""",
            transfer(page, {"photo.png": PHOTO}, "image/png"),
        )
    predicted = predict_image(shipped_client, "cats_dogs/predict", PHOTO)

    expect(panel(page).locator(".headline-value")).to_have_text(predicted["label"])
    expect_response(page, predicted)
    expect(panel(page).get_by_role("img", name="Preview of photo.png")).to_be_visible()


def test_a_broken_image_is_reported_in_the_services_words(
    shipped_client: ShippedClient, open_page: OpenPage
) -> None:
    """The page shows the sentence of the service, and markup in the file's name as text."""
    page = open_model(open_page, shipped_client, "cats_dogs")
    name = "<b>photo<img src=x>.png"

    choose(page, {name: BROKEN})
    response = shipped_client.post(
        "/models/cats_dogs/predict", content=BROKEN, headers={"content-type": "image/png"}
    )

    assert response.status_code == 400
    expect(panel(page).get_by_role("alert")).to_have_text(response.json()["error"])
    expect(panel(page).get_by_text(name, exact=True).last).to_be_visible()
    expect(panel(page).get_by_text("This browser cannot display the file.")).to_be_hidden()
    expect(panel(page).locator("b, img[src]")).to_have_count(0)


def test_other_files_are_explained(shipped_client: ShippedClient, open_page: OpenPage) -> None:
    """The service says what a file is, whatever type the browser has for it."""
    page = open_model(open_page, shipped_client, "cats_dogs")

    drop(page, {"page.pdf": b"%PDF-1.7 ..."}, "application/pdf")

    expect(panel(page).get_by_role("alert")).to_contain_text("This is a PDF document")


def test_an_image_that_the_browser_cannot_display_is_predicted(
    shipped_client: ShippedClient, open_page: OpenPage
) -> None:
    """A TIFF file has a placeholder instead of its preview."""
    file = encoded(photograph(40, 40), "TIFF")
    page = open_model(open_page, shipped_client, "cats_dogs")

    drop(page, {"scan.tif": file}, "")
    predicted = post_file(shipped_client, "cats_dogs/predict", file, "image/tiff").json()

    expect(panel(page).locator(".headline-value")).to_have_text(predicted["label"])
    expect(panel(page).get_by_role("img", name="No preview of scan.tif")).to_be_visible()


def test_several_images_are_listed(shipped_client: ShippedClient, open_page: OpenPage) -> None:
    """Each has its prediction or is not predicted; choosing one shows it."""
    page = open_model(open_page, shipped_client, "cats_dogs")

    choose(page, {"one.png": PHOTO, "broken.png": BROKEN, "two.png": OTHER})
    expect(panel(page)).to_contain_text("3 of 3 images predicted")
    tiles = panel(page).get_by_role("list", name="Images").get_by_role("button")
    expect(tiles.nth(1)).to_contain_text("Not predicted")
    tiles.nth(2).click()

    predicted = predict_image(shipped_client, "cats_dogs/predict", OTHER)
    expect(tiles.nth(2)).to_contain_text(predicted["label"])
    expect(panel(page).get_by_role("img", name="Preview of two.png")).to_be_visible()

    page.get_by_role("button", name="Remove all").click()
    expect(tiles).to_have_count(0)


def test_the_occlusion_map_marks_what_matters(serve: Serve, open_page: OpenPage) -> None:
    """The weighted corner is red, the other one is transparent, and a key changes the opacity."""
    client = serve(publish_corner)
    page = open_model(open_page, client, "ink")

    choose(page, {"ink.png": drawing()})
    page.get_by_role("button", name="Which parts matter?").click()
    expect(page.get_by_role("img", name="Occlusion map")).to_be_visible()
    colors = page.evaluate(OVERLAY)

    red, green, blue, opacity = colors["weighted"]
    assert (red, opacity) == (255, 255)
    assert max(green, blue) < 100
    assert colors["other"][3] == 0
    expect(panel(page)).to_contain_text("Covering the top right lowers it most")
    expect(panel(page)).to_contain_text("red: falls, by up to")

    slider = page.get_by_label("Opacity of the colors")
    slider.focus()
    page.keyboard.press("Home")
    expect(page.locator(".occlusion-overlay")).to_have_css("opacity", "0")

    page.get_by_label("Explained class").select_option("little")
    expect(panel(page)).to_contain_text("Covering any part of the image does not lower it")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_views_of_images_have_no_barriers(
    shipped_client: ShippedClient, open_page: OpenPage, width: int, scheme: str
) -> None:
    """axe-core finds no serious violation, and nothing is wider than the screen."""
    size = {"width": width, "height": 844}
    page = open_model(open_page, shipped_client, "cats_dogs", viewport=size, color_scheme=scheme)

    choose(page, {"a-long-name-of-a-file" * 9 + ".png": PHOTO, "broken.png": BROKEN})
    page.get_by_role("button", name="Which parts matter?").click()
    expect(page.get_by_role("img", name="Occlusion map")).to_be_visible()

    assert find_barriers(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
