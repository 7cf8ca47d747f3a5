"""A page that stays open while the models change."""

import shutil
from pathlib import Path

from playwright.sync_api import Page, expect

from service.bundle.features import Range
from service.bundle.manifest import ValueOutput
from tests.browser import OpenPage
from tests.conftest import StartApp
from tests.models import examples, graph, manifest, number, publish, publish_price
from tests.page.views import card, expect_response, field, open_model, predict, set_number
from tests.processes import until

POLL_SECONDS = 0.05


def publish_larger(models: Path) -> None:
    """Publish a version of the price with a second feature, and sizes up to 100."""
    features = [
        number("size", unit="m²", allowed=Range(minimum=0, maximum=100)),
        number("rooms", example=3),
    ]
    output = ValueOutput(kind="value", name="price", unit="euros")
    larger = manifest("price", list(features), output)
    rows = [[1.0, 2.0], [3.0, 4.0]]
    model = graph([[3.0], [10.0]], [0.0], "value")
    publish(models, larger, model, examples(rows, [[23.0], [49.0]], larger))


def return_to(page: Page) -> None:
    """Show the page after it was hidden, which repeats its requests."""
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def is_dimmed(page: Page, name: str) -> bool:
    """Whether the content of a card below its heading is dimmed."""
    opacity = (
        "card => getComputedStyle(card.querySelector(':scope > :not(.card-head, .error)')).opacity"
    )
    return float(card(page, name).evaluate(opacity)) < 1


def test_a_new_version_keeps_the_values(models: Path, start: StartApp, open_page: OpenPage) -> None:
    """The page says which version serves, and its form has the features of that version."""
    publish_price(models)
    client = start(poll_seconds=POLL_SECONDS)
    page = open_model(open_page, client, "price")
    set_number(page, "size", 42)
    expect_response(page, predict(client, "price", {"size": 42}))

    publish_larger(models)
    until(lambda: client.get("/models/price").json()["version"] == "2")
    return_to(page)

    expect(page.get_by_text("Version 2 is now serving.")).to_be_visible()
    expect(field(page, "size").get_by_role("spinbutton")).to_have_value("42")
    expect_response(page, predict(client, "price", {"size": 42, "rooms": 3}))


def test_a_value_that_is_no_longer_valid_is_replaced(
    models: Path, start: StartApp, open_page: OpenPage
) -> None:
    """The new version's example is valid."""
    publish_price(models)
    client = start(poll_seconds=POLL_SECONDS)
    page = open_model(open_page, client, "price")
    set_number(page, "size", 5000)
    expect_response(page, predict(client, "price", {"size": 5000}))

    publish_larger(models)
    until(lambda: client.get("/models/price").json()["version"] == "2")
    return_to(page)

    expect(field(page, "size").get_by_role("spinbutton")).to_have_value("1")


def test_a_removed_model_is_reported(models: Path, start: StartApp, open_page: OpenPage) -> None:
    """The page shows the service's sentence and dims the results; the list lacks the model."""
    publish_price(models)
    client = start(poll_seconds=POLL_SECONDS)
    page = open_model(open_page, client, "price")
    expect(card(page, "Why this prediction")).to_be_visible()

    shutil.rmtree(models / "price")
    until(lambda: client.get("/models/price").status_code == 404)
    return_to(page)

    expect(page.get_by_text("unknown model: 'price'")).to_be_visible()
    expect(page.get_by_text("Removed", exact=True)).to_be_visible()
    expect(page.get_by_text("Ready", exact=True)).to_have_count(0)
    assert is_dimmed(page, "Prediction")
    assert is_dimmed(page, "Why this prediction")
    page.get_by_role("link", name="Models").first.click()
    expect(page.get_by_text("This service has no models yet.")).to_be_visible()


def test_a_removed_model_may_return(models: Path, start: StartApp, open_page: OpenPage) -> None:
    """Its page then predicts again, from the values of the form."""
    folder = publish_price(models)
    client = start(poll_seconds=POLL_SECONDS)
    page = open_model(open_page, client, "price")
    expect(card(page, "Why this prediction")).to_be_visible()
    aside = models.parent / "aside"
    folder.parent.rename(aside)
    until(lambda: client.get("/models/price").status_code == 404)
    return_to(page)
    expect(page.get_by_text("Removed", exact=True)).to_be_visible()
    set_number(page, "size", 7)
    expect(card(page, "Prediction").get_by_role("alert")).to_contain_text("unknown model")

    aside.rename(folder.parent)
    until(lambda: client.get("/models/price").status_code == 200)
    return_to(page)

    expect(page.get_by_text("Ready", exact=True)).to_be_visible()
    expect(page.get_by_text("Version 1 serves again.")).to_be_visible()
    expect_response(page, predict(client, "price", {"size": 7}))
    expect(card(page, "Prediction").get_by_role("alert")).to_be_hidden()
    assert not is_dimmed(page, "Why this prediction")


def test_an_error_dims_what_is_about_an_earlier_row(
    models: Path, start: StartApp, open_page: OpenPage
) -> None:
    """Until the input is corrected."""
    publish_larger(models)
    client = start()
    page = open_model(open_page, client, "price")
    expect(card(page, "Prediction")).to_contain_text("euros")

    set_number(page, "size", 140)
    expect(card(page, "Prediction").get_by_role("alert")).to_be_visible()
    assert is_dimmed(page, "What if")
    set_number(page, "size", 40)
    expect(card(page, "Prediction").get_by_role("alert")).to_be_hidden()
    assert not is_dimmed(page, "What if")


def test_a_model_that_fails_shows_its_reason(
    models: Path, start: StartApp, open_page: OpenPage
) -> None:
    """The list and the model have the reason; the form appears when the model serves."""
    folder = publish_price(models)
    content = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(b"")
    client = start(poll_seconds=POLL_SECONDS)
    page = open_page(str(client.base_url))
    reason = "model.onnx has 0 bytes"
    expect(page.get_by_role("listitem").filter(has_text="Price")).to_contain_text(reason)

    page.get_by_role("link", name="Price").click()
    expect(page.get_by_text(reason)).to_be_visible()
    (folder / "model.onnx").write_bytes(content)
    until(lambda: bool(client.get("/models/price").json()["ready"]))
    return_to(page)

    expect(page.get_by_text("Version 1 serves again.")).to_be_visible()
    expect_response(page, predict(client, "price", {"size": 1}))


def test_a_version_has_an_address(models: Path, start: StartApp, open_page: OpenPage) -> None:
    """Its form sends requests to that version."""
    publish_price(models)
    publish_larger(models)
    client = start(version_policy="all")
    page = open_model(open_page, client, "price/versions/1")

    expect_response(page, client.post("/models/price/versions/1/predict", json={"size": 1}).json())
    expect(field(page, "rooms")).to_have_count(0)
    page.get_by_role("combobox", name="Version").select_option("2")
    expect(field(page, "rooms")).to_be_visible()


def test_a_single_model_is_shown_at_once(
    models: Path, start: StartApp, open_page: OpenPage
) -> None:
    """The list is one click away."""
    publish_price(models)
    client = start()
    page = open_page(str(client.base_url))

    expect_response(page, predict(client, "price", {"size": 1}))
    page.get_by_role("link", name="Models").first.click()
    expect(page.get_by_text("1 model ready for predictions.")).to_be_visible()


def test_a_stopped_service_is_reported(models: Path, start: StartApp, open_page: OpenPage) -> None:
    """The sentence appears when a request fails, and disappears when one succeeds."""
    publish_price(models)
    client = start(poll_seconds=POLL_SECONDS)
    page = open_model(open_page, client, "price")
    expect(card(page, "Prediction")).to_contain_text("euros")

    page.context.set_offline(True)
    set_number(page, "size", 7)
    notice = page.get_by_text("The service does not respond. The page tries again.")
    expect(notice).to_be_visible()
    return_to(page)
    expect(page.get_by_text("No response", exact=True)).to_be_visible()
    expect(card(page, "Prediction").get_by_role("alert")).to_have_text(
        "The service does not respond."
    )
    page.context.set_offline(False)
    set_number(page, "size", 8)
    expect_response(page, predict(client, "price", {"size": 8}))
    expect(notice).to_be_hidden()
