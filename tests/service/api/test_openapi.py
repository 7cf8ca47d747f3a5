"""The OpenAPI document: typed per model, and every example works when pasted."""

from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.conftest import StartApp
from tests.models import publish_admission, publish_iris, publish_mixed, publish_price


@pytest.fixture
def document(models: Path, start: StartApp) -> dict[str, Any]:
    """The document of a service with one model of each kind."""
    for publish in (publish_admission, publish_price, publish_iris, publish_mixed):
        publish(models)
    answered: dict[str, Any] = start().get("/openapi.json").json()
    return answered


def body_of(document: dict[str, Any], name: str) -> dict[str, Any]:
    operation = document["paths"][f"/models/{name}/predict"]["post"]
    content: dict[str, Any] = operation["requestBody"]["content"]["application/json"]
    return content


def test_a_model_has_its_own_path_with_units_and_ranges(document: dict[str, Any]) -> None:
    """The row's properties are the manifest's features."""
    row = body_of(document, "admission")["schema"]["anyOf"][0]

    exam = row["properties"]["exam_1"]
    assert (exam["type"], exam["minimum"], exam["maximum"]) == ("number", 0, 100)
    assert exam["x-unit"] == "points"
    assert "a number of points from 0 to 100" in exam["description"]
    assert row["required"] == ["exam_1", "exam_2"]


def test_words_flags_and_gaps_are_typed(document: dict[str, Any]) -> None:
    """Categories are an enum unless unseen words are welcome; optional features may be null."""
    properties = body_of(document, "mixed")["schema"]["anyOf"][0]["properties"]

    assert properties["quarter"]["enum"] == ["north", "south"]
    assert properties["colour"]["type"] == ["string", "null"]
    assert "enum" not in properties["colour"]
    assert properties["size"]["type"] == ["number", "null"]
    assert (properties["rooms"]["type"], properties["garden"]["type"]) == ("integer", "boolean")


def test_every_example_is_answered_as_documented(models: Path, start: StartApp) -> None:
    """Each example fits its schema, is answered with 200, and the answer fits its own schema."""
    for publish in (publish_admission, publish_price, publish_iris, publish_mixed):
        publish(models)
    client = start()
    document = client.get("/openapi.json").json()

    posted = 0
    for path, methods in document["paths"].items():
        content = methods.get("post", {}).get("requestBody", {}).get("content", {})
        for example in content.get("application/json", {}).get("examples", {}).values():
            jsonschema.validate(example["value"], content["application/json"]["schema"])
            answer = client.post(path, json=example["value"])
            responses = methods["post"]["responses"]
            assert answer.status_code == 200, answer.text
            schema = responses["200"]["content"]["application/json"]["schema"]
            jsonschema.validate(answer.json(), schema)
            posted += 1

    assert posted == 16


def test_no_path_documents_the_frameworks_own_error(document: dict[str, Any]) -> None:
    """422 and `detail` are not ours; every path documents the error contract."""
    operations = [op for methods in document["paths"].values() for op in methods.values()]

    assert all("422" not in operation["responses"] for operation in operations)
    assert all("404" in operation["responses"] for operation in operations)


def test_the_error_schema_fits_a_real_error(models: Path, start: StartApp) -> None:
    """What is documented is what is sent."""
    publish_admission(models)
    client = start()
    schema = client.get("/openapi.json").json()["components"]["schemas"]["Error"]

    answer = client.post("/models/admission/predict", json={"exam_1": "x"})

    jsonschema.validate(answer.json(), schema | {"additionalProperties": False})
