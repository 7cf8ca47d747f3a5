"""The requests that the page offers to copy, run as they are."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from playwright.sync_api import Page, expect

from service.bundle.features import BooleanFeature, CategoryFeature, Feature
from service.bundle.manifest import Examples, Tensor, Tolerance, ValueOutput
from tests.browser import OpenPage
from tests.conftest import Serve, ShippedClient
from tests.images import encoded, photograph
from tests.models import (
    graph,
    manifest,
    number,
    publish,
    publish_mixed,
    publish_price,
)
from tests.page.files import drop
from tests.page.views import (
    card,
    expect_response,
    field,
    open_model,
    predict,
    shown_response,
)

# What a shell, Python or JavaScript could read in another way.
CATEGORIES = [
    "plain",
    'it\'s "quoted" `here` $(echo no) ${HOME} \\n %s !! #',
    "gr\u00fcn \u2028 \U0001f34f \u65e5\u672c",
    "two\nlines\tand a tab",
    '{"a": 1}</script><b>\'',
]
NAME = "__proto__"
PATIENCE_SECONDS = 60
CLIPBOARD = ["clipboard-read", "clipboard-write"]


def publish_words(models: Path) -> None:
    """Publish ``value = category + 10 * flag + 100 * number``."""
    output = ValueOutput(kind="value", name="value")
    features: list[Feature] = [
        CategoryFeature(name=NAME, type="category", categories=CATEGORIES, example="plain"),
        BooleanFeature(name="fl'ag", type="boolean", example=True),
        number('num"ber', example=0.1),
    ]
    words = manifest("words", features, output)
    self_test = Examples(
        input=Tensor(name="features", shape=[1, 3], data=[2.0, 1.0, 3.0]),
        output=Tensor(name="value", shape=[1, 1], data=[312.0]),
        tolerance=Tolerance(absolute=1e-4, relative=0),
    )
    publish(models, words, graph([[1.0], [10.0], [100.0]], [0.0], "value"), self_test)


@pytest.fixture(scope="module")
def client(serve: Serve) -> httpx.Client:
    """A service with a model whose names and categories are hard to quote."""

    def publish_all(models: Path) -> None:
        publish_words(models)
        publish_mixed(models)
        publish_price(models)

    return serve(publish_all)


def copied(page: Page, language: str) -> str:
    """What the button of a language copies."""
    request = card(page, "The request")
    request.get_by_role("tab", name=language).click()
    request.get_by_role("button", name="Copy").click()
    expect(request.get_by_role("button", name="Copied")).to_be_visible()
    text: str = page.evaluate("navigator.clipboard.readText()")
    return text


def run(*command: str, source: str, folder: Path | None = None) -> str:
    """The output of a program that reads its source from its input."""
    completed = subprocess.run(
        command,
        input=source,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
        cwd=folder,
    )
    assert completed.returncode == 0, completed.stderr
    return completed.stdout


def copied_for_each_category(page: Page, client: httpx.Client, language: str) -> list[str]:
    """What the button of a language copies for each category of the form."""
    programs = []
    for category in CATEGORIES:
        field(page, NAME).get_by_role("combobox").select_option(index=CATEGORIES.index(category))
        expect_response(page, expected(client, category))
        programs.append(copied(page, language))
    return programs


def expected(client: httpx.Client, category: str) -> dict[str, Any]:
    """The prediction of the service for the example with this category."""
    return predict(client, "words", {NAME: category, "fl'ag": True, 'num"ber': 0.1})


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_command_gives_the_prediction(open_page: OpenPage, client: httpx.Client) -> None:
    """A POSIX shell runs it with any characters in names and values."""
    page = open_model(open_page, client, "words", permissions=CLIPBOARD)
    commands = copied_for_each_category(page, client, "curl")

    lines = run("sh", source="\necho\n".join(commands)).splitlines()
    assert [json.loads(line) for line in lines] == [expected(client, one) for one in CATEGORIES]


def test_the_python_program_gives_the_prediction(open_page: OpenPage, client: httpx.Client) -> None:
    """It has Python's own literals."""
    page = open_model(open_page, client, "words", permissions=CLIPBOARD)
    programs = copied_for_each_category(page, client, "Python")

    lines = run(sys.executable, source="\n".join(programs)).splitlines()
    assert lines == [str(expected(client, category)) for category in CATEGORIES]


@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
def test_the_javascript_program_gives_the_prediction(
    open_page: OpenPage, client: httpx.Client
) -> None:
    """A feature may even have the name of an object's prototype."""
    page = open_model(open_page, client, "words", permissions=CLIPBOARD)
    programs = copied_for_each_category(page, client, "JavaScript")
    # Each in a block, because they declare the same names; Node.js prints objects, not JSON.
    blocks = [
        f"{{{program}}}".replace("response.json()", "response.text()") for program in programs
    ]

    lines = run("node", "--input-type=module", source="\n".join(blocks)).splitlines()
    assert [json.loads(line) for line in lines] == [expected(client, one) for one in CATEGORIES]


def test_a_missing_value_is_null(open_page: OpenPage, client: httpx.Client) -> None:
    """Python writes it as None."""
    page = open_model(open_page, client, "mixed", permissions=CLIPBOARD)
    page.get_by_label("size is missing").check()
    row = {"size": None, "rooms": 3, "garden": True, "quarter": "north", "color": "red"}
    prediction = predict(client, "mixed", row)
    expect_response(page, prediction)

    assert run(sys.executable, source=copied(page, "Python")) == f"{prediction}\n"


def test_the_request_is_copied_without_the_clipboard_api(
    open_page: OpenPage, client: httpx.Client
) -> None:
    """Browsers have it only on HTTPS and on localhost; the copied text can be pasted."""
    page = open_model(open_page, client, "price")
    page.evaluate("delete Navigator.prototype.clipboard")
    request = card(page, "The request")
    request.get_by_role("button", name="Copy").click()
    expect(request.get_by_role("button", name="Copied")).to_be_visible()
    page.get_by_role("link", name="Models").first.click()
    page.evaluate("document.body.append(document.createElement('textarea'))")
    page.locator("textarea").press("Control+v")

    assert page.locator("textarea").input_value().startswith("curl 'http://127.0.0.1:")


def test_the_request_follows_the_form(open_page: OpenPage, client: httpx.Client) -> None:
    """The snippet has the address of this service and the values of the form."""
    page = open_model(open_page, client, "price")
    field(page, "size").get_by_role("spinbutton").fill("2.5")
    code = card(page, "The request").locator("code").first

    expect(code).to_contain_text('{"size":2.5}')
    expect(code).to_contain_text(f"{str(client.base_url).rstrip('/')}/models/price/predict")


def test_the_request_of_a_drawing_needs_no_file(
    open_page: OpenPage, shipped_client: ShippedClient
) -> None:
    """It has the drawing in it, and gives the prediction that the page shows."""
    page = open_model(open_page, shipped_client, "digits_cnn", permissions=CLIPBOARD)
    page.get_by_label("Drawing area").focus()
    for key in ("Space", *["ArrowDown"] * 10, "Space"):
        page.keyboard.press(key)
    page.wait_for_selector('[aria-label="Draw a digit"][aria-busy="false"]')

    printed = run(sys.executable, source=copied(page, "Python"))
    expect(card(page, "The request").get_by_text("Run it in the folder")).to_be_hidden()
    assert printed == f"{shown_response(page)}\n"


def test_the_request_of_several_images_sends_them_all(
    open_page: OpenPage, shipped_client: ShippedClient, tmp_path: Path
) -> None:
    """A form has those that the service can read, with any name; a note says where to run it."""
    files = {
        'a; "b",c.png': encoded(photograph(60, 60), "PNG"),
        "text.png": b"This is no image.",
        "two.png": encoded(photograph(50, 60, seed=5), "PNG"),
    }
    for name, file in files.items():
        (tmp_path / name).write_bytes(file)
    page = open_model(open_page, shipped_client, "cats_dogs", permissions=CLIPBOARD)
    expect(card(page, "Predict images")).to_be_visible()
    drop(page, files, "image/png")
    expect(card(page, "Predict images")).to_contain_text("3 of 3 images predicted")
    request = card(page, "The request")
    expect(request).to_contain_text("Run it in the folder of the files.")
    expect(request).not_to_contain_text("text.png")

    programs = {"curl": ["sh"], "Python": [sys.executable]}
    if shutil.which("node"):
        programs["JavaScript"] = ["node", "--input-type=module"]
    for language, command in programs.items():
        # Python and Node.js print objects, not JSON.
        text = {"Python": "response.text", "JavaScript": "response.text()"}.get(language, "")
        source = copied(page, language).replace("response.json()", text)
        printed = run(*command, source=source, folder=tmp_path)
        predictions = json.loads(printed)["predictions"]
        # Clients encode the quotation mark in a form.
        assert [unquote(one["file"]) for one in predictions] == ['a; "b",c.png', "two.png"]
