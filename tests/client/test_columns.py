"""Columns of DataFrames and entries of Series: features, misspelled features, and others."""

from pathlib import Path
from typing import Any

import httpx
import orjson
import pandas as pd
import polars as pl
import pytest

from service.client import InvalidData
from tests.client.conftest import AnyClient, Connect
from tests.conftest import Serve
from tests.models import publish_mixed

ROW = {"size": 70.0, "rooms": 3, "garden": True, "quarter": "north", "color": "red"}


def publish_models(models: Path) -> None:
    """Publish `mixed`, and `drafted` like the drafts of recipes: all optional, all complete."""
    publish_mixed(models)
    path = publish_mixed(models, "drafted") / "manifest.json"
    manifest = orjson.loads(path.read_bytes())
    for feature in manifest["input"]["features"]:
        feature |= {"optional": True, "complete": True}
    path.write_bytes(orjson.dumps(manifest))


@pytest.fixture(scope="module")
def service(serve: Serve) -> httpx.Client:
    """A service with both models."""
    return serve(publish_models)


@pytest.fixture
def onward(connect: Connect, service: httpx.Client) -> AnyClient:
    """A client of this service."""
    return connect(service.base_url)


def renamed(**names: str) -> dict[str, Any]:
    return {names.get(name, name): cell for name, cell in ROW.items()}


@pytest.mark.parametrize("model", ["mixed", "drafted"])
@pytest.mark.parametrize(
    "row",
    [
        *(renamed(size=name) for name in ("Size", "SIZE_", "sized", "sise", "site")),
        *(renamed(rooms=name) for name in ("Rooms", "room", "romos", "bedroom", "width")),
        renamed(color="Colour", quarter="Quarters"),
        {**ROW, "Size": 3},
        {**ROW, "room_count": 3},
        {"rooms": 3, "garden": True, "quarter": "north"},
        {"rooms": 3, "garden": True, "quarter": "north", "customer": "Ada"},
        {"size": 3.0},
        {"a": 1, "b": 2},
    ],
    ids=lambda row: " ".join(map(str, row)),
)
def test_columns_are_those_of_a_csv_table(
    onward: AnyClient, service: httpx.Client, model: str, row: dict[str, Any]
) -> None:
    """A header that the service rejects is an error, and any other gives the same prediction."""
    table = ",".join(row) + "\n" + ",".join(map(str, row.values())) + "\n"
    response = service.post(
        f"/models/{model}/predict",
        content=table,
        headers={"content-type": "text/csv", "accept": "application/x-ndjson"},
    )

    for frame in (pd.DataFrame([row]), pl.DataFrame([row])):
        if response.is_success:
            assert onward.predict(model, frame)["value"].to_list() == [response.json()["value"]]
        else:
            with pytest.raises(InvalidData) as raised:
                onward.predict(model, frame)
            named = {detail.get("feature") for detail in response.json()["details"]}
            assert {problem.feature for problem in raised.value.problems} == named


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (
            renamed(size="Size"),
            (
                "DataFrame column 'Size' is unknown; is it a misspelling of 'size'? Rename it, or "
                "drop it if it is something else."
            ),
        ),
        (
            renamed(color="color "),
            (
                "DataFrame column 'color ' is unknown; is it a misspelling of 'color'? Rename it, "
                "or drop it if it is something else."
            ),
        ),
        (
            {name: cell for name, cell in ROW.items() if name != "rooms"},
            "The DataFrame has no column 'rooms'; it has 'size', 'garden', 'quarter', 'color'.",
        ),
    ],
)
def test_the_column_is_named_once(onward: AnyClient, row: dict[str, Any], sentence: str) -> None:
    """However many rows there are, before anything is sent."""
    with pytest.raises(InvalidData) as raised:
        onward.predict("mixed", pd.DataFrame([row] * 300))

    assert raised.value.message == sentence
    assert len(raised.value.problems) == 1
    assert raised.value.status is None


def test_a_series_has_entries(onward: AnyClient) -> None:
    """Its sentences are about them; others are dropped."""
    expected = onward.predict("mixed", ROW).value

    assert onward.predict("mixed", pd.Series({"customer": "Ada", **ROW})).value == expected
    with pytest.raises(InvalidData, match=r"^Series entry 'Rooms' is unknown; is it a missp"):
        onward.predict("mixed", pd.Series(renamed(rooms="Rooms")))


def test_a_name_has_one_meaning_in_each_form_of_unicode(connect: Connect, serve: Serve) -> None:
    """A letter with its accent apart, as some file systems and keyboards write it."""

    def publish(models: Path) -> None:
        path = publish_mixed(models) / "manifest.json"
        manifest = orjson.loads(path.read_bytes())
        manifest["input"]["features"][0]["name"] = "fl\u00e4che"
        path.write_bytes(orjson.dumps(manifest))

    client = connect(serve(publish).base_url)
    expected = client.predict("mixed", {**renamed(size="fl\u00e4che")}).value

    for name in ("fl\u00e4che", "fla\u0308che"):
        frame = pd.DataFrame([renamed(size=name)])
        assert client.predict("mixed", frame)["value"].tolist() == [expected]
    assert expected == 13
