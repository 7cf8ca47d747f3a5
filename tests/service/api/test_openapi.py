"""The OpenAPI document: typed by model, with examples that work."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.conftest import StartApp
from tests.image_models import publish_mirror
from tests.images import image_input
from tests.models import publish_admission, publish_iris, publish_mixed, publish_price


@pytest.fixture
def document(models: Path, start: StartApp) -> dict[str, Any]:
    """Return the document of a service with one model of each kind."""
    for publish in (publish_admission, publish_price, publish_iris, publish_mixed):
        publish(models)
    found: dict[str, Any] = start().get("/openapi.json").json()
    return found


def row_of(document: dict[str, Any], name: str) -> dict[str, Any]:
    """The schema of a row of a model."""
    operation = document["paths"][f"/models/{name}/predict"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert schema["anyOf"][0] == {"$ref": f"#/components/schemas/{name.capitalize()}Row"}
    row: dict[str, Any] = document["components"]["schemas"][f"{name.capitalize()}Row"]
    return row


def examples_of(document: dict[str, Any]) -> Iterator[tuple[str, str, Any, Any]]:
    """Yield path, media type, content and documented responses of every example."""
    for path, methods in document["paths"].items():
        operation = methods.get("post", {})
        for kind, content in operation.get("requestBody", {}).get("content", {}).items():
            yield path, kind, content, operation["responses"]["200"].get("content", {})


def test_a_model_has_its_own_path_with_units_and_ranges(document: dict[str, Any]) -> None:
    """The properties of a row are the features of the manifest."""
    row = row_of(document, "admission")

    exam = row["properties"]["exam_1"]
    assert (exam["type"], exam["minimum"], exam["maximum"]) == ("number", 0, 100)
    assert exam["x-unit"] == "points"
    assert "a number (points) from 0 to 100" in exam["description"]
    assert row["required"] == ["exam_1", "exam_2"]


def test_categories_flags_and_optional_features_are_typed(document: dict[str, Any]) -> None:
    """Categories are an enum unless unknown ones are valid; optional features may be null."""
    properties = row_of(document, "mixed")["properties"]

    assert properties["quarter"]["enum"] == ["north", "south"]
    assert properties["color"]["type"] == ["string", "integer", "null"]
    assert "enum" not in properties["color"]
    assert properties["size"]["type"] == ["number", "null"]
    assert (properties["rooms"]["type"], properties["rooms"]["maximum"]) == ("integer", 2**53 - 1)
    assert properties["garden"]["anyOf"] == [
        {"type": "boolean"},
        {"type": "integer", "enum": [0, 1]},
    ]


def test_every_example_gets_the_documented_response(models: Path, start: StartApp) -> None:
    """Each example and its response fit their schemas, and the status is 200."""
    for publish in (publish_admission, publish_price, publish_iris, publish_mixed):
        publish(models)
    publish_mirror(models, image_input(4, 5, fit="pad"))
    client = start()
    document = client.get("/openapi.json").json()

    posted = 0
    for path, kind, content, documented in examples_of(document):
        schema = {"components": document["components"]}
        for example in content.get("examples", {}).values():
            value = example["value"]
            jsonschema.validate(value, content["schema"] | schema)
            body = value if isinstance(value, str) else json.dumps(value)
            response = client.post(path, content=body, headers={"content-type": kind})
            assert response.status_code == 200, response.text
            given = response.headers["content-type"].partition(";")[0]
            read = response.json() if given == "application/json" else response.text
            jsonschema.validate(read, documented[given]["schema"] | schema)
            assert '"error":' not in response.text
            posted += 1

    assert posted == 28


def test_examples_of_tables_have_no_failing_row(models: Path, start: StartApp) -> None:
    """That includes categories, flags and missing values."""
    publish_mixed(models)
    client = start()
    content = client.get("/openapi.json").json()["paths"]["/models/mixed/predict"]["post"]
    (example,) = content["requestBody"]["content"]["text/csv"]["examples"].values()

    response = client.post(
        "/models/mixed/predict", content=example["value"], headers={"content-type": "text/csv"}
    )

    rows = list(csv.DictReader(response.text.splitlines()))
    assert [row["error"] for row in rows] == ["", ""]
    assert all(row["value"] for row in rows)


def test_no_path_documents_the_frameworks_own_error(document: dict[str, Any]) -> None:
    """422 and `detail` do not occur; every path documents the errors of the service."""
    operations = [op for methods in document["paths"].values() for op in methods.values()]

    assert all("422" not in operation["responses"] for operation in operations)
    assert all("404" in operation["responses"] for operation in operations)


def test_the_error_schema_fits_a_real_error(models: Path, start: StartApp) -> None:
    """An actual error is valid for the documented schema."""
    publish_admission(models)
    client = start()
    document = client.get("/openapi.json").json()

    response = client.post("/models/admission/predict", json={"exam_1": "x"})

    for name in ("Error", "Error400"):
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        jsonschema.validate(response.json(), schema)
