"""The explanation of one row as an image: a bar for each feature."""

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from service.api.explain.bar_chart import Contributions, draw_contributions
from service.bundle.manifest import ValueOutput
from tests.conftest import StartApp
from tests.explained import publish_quadratic
from tests.models import (
    examples,
    graph,
    manifest,
    number,
    publish,
    publish_mixed,
    publish_price,
)

ACCEPT = {"accept": "image/svg+xml"}
NAMESPACE = "{http://www.w3.org/2000/svg}"


def read(svg: bytes) -> ET.Element:
    return ET.fromstring(svg)  # noqa: S314 - the service wrote it


def read_titles(svg: bytes) -> dict[str, float]:
    """The exact number of the base, each bar and the result, by the text before it."""
    titles = [group.findtext(f"{NAMESPACE}title") for group in read(svg)]
    pairs = (title.rpartition(": ") for title in titles if title and ": " in title)
    return {name: float(text) for name, _, text in pairs}


def read_widths(svg: bytes) -> list[float]:
    return [float(bar.attrib["width"]) for bar in read(svg).iter(f"{NAMESPACE}rect")]


def test_the_numbers_of_the_image_are_those_of_the_json(models: Path, start: StartApp) -> None:
    """Base, contributions and result are equal to the last bit; the largest bar is first."""
    publish_mixed(models)
    client = start()
    row = {"size": None, "rooms": 5, "garden": False, "quarter": "south", "color": "violet"}

    numbers = client.post("/models/mixed/explain", json=row).json()["explanation"]
    response = client.post("/models/mixed/explain", json=row, headers=ACCEPT)

    assert response.status_code == 200
    assert response.headers["content-type"] == "image/svg+xml"
    assert response.headers["x-model-version"] == "1"
    drawn = read_titles(response.content)
    assert drawn.pop("base") == numbers["base"]
    assert drawn.pop("result") == numbers["score"]
    by_name = {label.partition(" = ")[0]: size for label, size in drawn.items()}
    assert by_name == numbers["contributions"]
    widths = read_widths(response.content)
    assert widths == sorted(widths, reverse=True)
    for value in ("size = missing", "garden = false", "quarter = south", "color = (other"):
        assert value in response.text


def test_an_image_runs_nothing(models: Path, start: StartApp) -> None:
    """It has no script and loads nothing, and the headers forbid both."""
    publish_price(models)

    response = start().post("/models/price/explain", json={"size": 2}, headers=ACCEPT)

    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "sandbox" in policy
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "<script" not in response.text
    assert re.findall(r"(?:href|src|url)\b", response.text) == []


def test_names_and_values_are_escaped(models: Path, start: StartApp) -> None:
    """A feature may have the name of a tag."""
    name = "<script>alert('&')</script>"
    features = [number(name, example=1), number('"quoted"', example=2)]
    stated = manifest("rent", list(features), ValueOutput(kind="value", name="rent"))
    self_test = examples([[1.0, 1.0]], [[-1.0]], stated)
    publish(models, stated, graph([[2.0], [-3.0]], [0.0], "value"), self_test)

    row = {name: 5, '"quoted"': 3}
    response = start().post("/models/rent/explain", json=row, headers=ACCEPT)

    assert "<script" not in response.text
    drawn = read_titles(response.content)
    assert drawn[f"{name} = 5"] == 8
    assert drawn['"quoted" = 3'] == -3


def test_characters_that_xml_lacks_are_replaced() -> None:
    """The image is well-formed for any name; a long one is shortened, and complete in its title."""
    name = "a\x00b\ud800" + "c" * 100
    shown = Contributions(
        "T\x1b", "value", "the reference row", 1.0, {name: "x\x07"}, {name: 2.0}, 3
    )

    svg = draw_contributions(shown)

    (label,) = set(read_titles(svg)) - {"base", "result"}
    assert label == "a\ufffdb\ufffd" + "c" * 100 + " = x\ufffd"
    assert "c" * 20 + "… = x\ufffd" in svg.decode()


def test_the_smallest_of_many_contributions_share_a_bar() -> None:
    """The bars still add up to the result."""
    contributions = {f"x{k}": float(k) for k in range(60)}
    total = sum(contributions.values())
    values = dict.fromkeys(contributions, 1.0)
    shown = Contributions("T", "value", "the reference row", 0.0, values, contributions, total)

    drawn = read_titles(draw_contributions(shown))

    assert (
        drawn.pop("base") + sum(size for name, size in drawn.items() if name != "result") == total
    )
    assert drawn["21 other features"] == sum(range(21))


def test_bars_are_on_the_side_of_their_sign() -> None:
    """A contribution that raises the result is at the right of the line, another at its left."""
    contributions = {"up": 3.0, "down": -1.0, "none": 0.0}
    shown = Contributions("T", "value", "the reference row", 0.0, {}, contributions, 2.0)

    root = read(draw_contributions(shown))

    line = root.find(f"{NAMESPACE}line")
    assert line is not None
    zero = float(line.attrib["x1"])
    up, down, none = root.iter(f"{NAMESPACE}rect")
    assert float(up.attrib["x"]) == pytest.approx(zero)
    assert float(down.attrib["x"]) + float(down.attrib["width"]) == pytest.approx(zero)
    assert float(none.attrib["width"]) == 0
    assert float(up.attrib["width"]) == pytest.approx(3 * float(down.attrib["width"]), abs=0.2)


def test_an_interaction_is_drawn(models: Path, start: StartApp) -> None:
    """The base and the result have the numbers of the reference row and of the row."""
    publish_quadratic(models, [[0, 1], [0, 0]], [0.0, 0.0])

    row = {"x0": 3, "x1": 4}
    response = start().post("/models/quadratic/explain", json=row, headers=ACCEPT)

    assert read_titles(response.content) == {"base": 0, "x0 = 3": 6, "x1 = 4": 6, "result": 12}


def test_several_rows_have_no_image(models: Path, start: StartApp) -> None:
    """The response can hold one image; numbers can be requested for many rows."""
    publish_price(models)
    client = start()

    rows = [{"size": 1}, {"size": 2}]
    rejected = client.post("/models/price/explain", json=rows, headers=ACCEPT)

    assert rejected.status_code == 400
    assert "2 rows were sent" in rejected.json()["error"]
    assert len(client.post("/models/price/explain", json=rows).json()["predictions"]) == 2


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("image/svg+xml, application/json;q=0.5", "image/svg+xml"),
        ("application/json, image/svg+xml;q=0.5", "application/json"),
        ("image/png, application/json;q=0.5", "application/json"),
        ("*/*", "application/json"),
    ],
)
def test_the_type_is_negotiated(
    models: Path, start: StartApp, accept: str, media_type: str
) -> None:
    """The type with the highest weight that fits a row is sent."""
    publish_price(models)

    headers = {"accept": accept}
    response = start().post("/models/price/explain", json={"size": 1}, headers=headers)

    assert response.headers["content-type"] == media_type
