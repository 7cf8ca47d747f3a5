"""Newline-delimited JSON: a prediction for each line, or the error of that line."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import StartApp
from tests.models import publish_admission, publish_mixed, publish_price


def predictions_of(client: httpx.Client, model: str, lines: bytes) -> list[dict[str, Any]]:
    headers = {"content-type": "application/x-ndjson"}
    response = client.post(f"/models/{model}/predict", content=lines, headers=headers)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-ndjson"
    assert response.content.endswith(b"\n")
    return [json.loads(line) for line in response.content.splitlines()]


def test_each_line_gets_its_prediction(models: Path, start: StartApp) -> None:
    """Objects and arrays; the predictions are those for the same rows in one JSON document."""
    publish_mixed(models)
    client = start()
    rows: list[Any] = [
        {"rooms": 2, "garden": True, "quarter": "south", "color": "violet", "size": 7},
        {"rooms": 4.0, "garden": 0, "quarter": "north"},
        [None, 2, False, "north", None],
    ]

    predictions = predictions_of(client, "mixed", "\n".join(map(json.dumps, rows)).encode())

    assert predictions == client.post("/models/mixed/predict", json=rows).json()["predictions"]


def test_an_invalid_line_has_its_error_at_its_position(models: Path, start: StartApp) -> None:
    """The error has the usual fields; empty lines are not rows."""
    publish_admission(models)
    lines = (
        b'\xef\xbb\xbf{"exam_1": 45, "exam_2": 85}\r\n'
        b'{"exam_1": "45", "exam_2": 85}\n'
        b"\n"
        b"{exam_1: 45}\n"
        b'{"exam_1": 45, "exam_2": 850}\n'
        b'{"exam1": 45, "exam_2": 85}\n'
        b'{"exam_1": 4\xff, "exam_2": 85}\n'
        b"[45, 85]"
    )

    predictions = predictions_of(start(), "admission", lines)

    assert [response.get("label") for response in predictions] == [
        "admitted",
        *[None] * 5,
        "admitted",
    ]
    sentences = [response.get("error", "") for response in predictions]
    assert sentences[1].startswith("Line 2: feature 'exam_1' must be a number (points)")
    assert sentences[1].endswith('got "45". Send 45 without the quotes.')
    assert sentences[2].startswith("Line 4: the line is not JSON")
    assert sentences[2].endswith(
        'Send one object per line, for example {"exam_1":61.0,"exam_2":74.0}'
    )
    assert sentences[3].endswith("got 850. Check the unit: it is points.")
    assert sentences[4] == "Line 6: unknown feature \"exam1\"; did you mean 'exam_1'?"
    assert sentences[5].startswith("Line 7: the line is not JSON")
    assert [response.get("code") for response in predictions[1:4]] == [
        *("invalid_input", "invalid_request", "invalid_input"),
    ]
    assert predictions[1]["details"][0]["hint"] == "Send 45 without the quotes."


@pytest.mark.parametrize("kind", ["application/ndjson", "application/jsonl; charset=utf-8"])
def test_other_names_of_the_format_are_read(models: Path, start: StartApp, kind: str) -> None:
    """No media type of the format is registered."""
    publish_price(models)

    response = start().post(
        "/models/price/predict", content=b'{"size": 1}', headers={"content-type": kind}
    )

    assert response.content == b'{"value":2.0,"unit":"euros"}\n'


def test_the_response_to_json_lines_may_be_csv(models: Path, start: StartApp) -> None:
    """It has only predictions, since the rows have no cells."""
    publish_price(models)
    headers = {"content-type": "application/x-ndjson", "accept": "text/csv"}

    response = start().post(
        "/models/price/predict", content=b'{"size": 1}\n{"size": "x"}\n', headers=headers
    )

    lines = response.text.split("\r\n")
    assert lines[:2] == ["value,unit,error", "2.0,euros,"]
    assert lines[2].startswith(',,"Line 2: feature \'size\' must be a number (m²), got ""x""')
