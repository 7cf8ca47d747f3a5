"""Names in the OpenAPI document are unique, valid and stable, and each is used once."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import orjson
import pytest
from openapi_python_client.strings import ClassName, snake_case

from service.api.components import enum_schema, identify
from tests.conftest import Serve
from tests.models import publish_admission, publish_mixed, publish_price

# Pairs that generators of clients would write as the same name.
NAMES = ["a-b", "a_b", "A.b", "ab", "x1", "x_1", "2fast", "model_2fast", "_".join("abc"), "Iris"]


@pytest.fixture(scope="module")
def document(serve: Serve) -> dict[str, Any]:
    """The document of models whose names differ in punctuation only, and of others."""

    def publish(models: Path) -> None:
        for name in ("a-b", "a_b", "price"):
            publish_price(models, name)
        publish_admission(models)
        publish_mixed(models)

    found: dict[str, Any] = serve(publish).get("/openapi.json").json()
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield path, method and content of each operation."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def references(part: object) -> Iterator[str]:
    """Yield every reference within a part of the document."""
    if isinstance(part, dict):
        for key, value in part.items():
            if key == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


def test_components_of_different_models_have_different_names(serve: Serve) -> None:
    """Also where the end of one model's name is the start of a component of another."""
    names = ("churn", "churn_explained", "encoded", "v1", "v2")

    def publish(models: Path) -> None:
        for name in names:
            publish_price(models, name)

    schemas = serve(publish).get("/openapi.json").json()["components"]["schemas"]
    rows = [name for name, schema in schemas.items() if "size" in schema.get("properties", {})]
    alone = identify(["churn_explained"])["churn_explained"]

    assert len([name for name in rows if name.endswith("Row")]) == len(names)
    assert alone.camel == "ChurnExplained"
    assert schemas["ChurnExplainedInstances"]["properties"]["instances"]["maxItems"]
    # The component that is the same for all models, not one of the model "v1".
    assert "ChurnRow" in schemas
    assert "size" not in orjson.dumps(schemas["V1Instances"]).decode()


def test_identifiers_are_unique_in_generated_code() -> None:
    """Classes, modules and functions of different models have different names."""
    found = identify(NAMES)

    classes = {str(ClassName(f"{each.camel}Row", "")) for each in found.values()}
    modules = {snake_case(name) for name in classes}
    functions = {snake_case(f"predict_{each.snake}") for each in found.values()}
    assert len(classes) == len(modules) == len(functions) == len(NAMES)


def test_usual_names_have_plain_identifiers() -> None:
    """Another model changes an identifier only if it would have the same one."""
    alone = identify(["iris", "cats_dogs", "v1.2"])

    assert alone["iris"] == ("Iris", "iris")
    assert alone["cats_dogs"] == ("CatsDogs", "cats_dogs")
    assert alone["v1.2"] == ("V12", "v1_2")
    assert identify(["iris", "IRIS", "price"])["iris"] == alone["iris"]
    assert identify(["a_b", "a-b"])["a_b"] == ("AB", "a_b")
    assert re.fullmatch("ABX[0-9a-f]{8}", identify(["a_b", "a-b"])["a-b"].camel)


def test_values_that_would_get_the_same_constant_are_numbered() -> None:
    """Generators of enumerations would drop one of them."""
    assert enum_schema(["a", "b"]) == {"type": "string", "enum": ["a", "b"]}
    assert enum_schema(["a+", "a-"])["x-enum-varnames"] == ["VALUE_0", "VALUE_1"]


def test_operation_ids_are_unique_and_readable(document: dict[str, Any]) -> None:
    """They are the names of functions in generated clients."""
    ids = Counter(operation["operationId"] for _, _, operation in operations(document))

    assert [name for name, count in ids.items() if count > 1] == []
    assert all(re.fullmatch("[a-z][a-z0-9_]*", name) for name in ids)
    assert {"predict_admission", "explain_admission", "get_model", "create_prediction"} <= set(ids)
    assert {"v1_predict", "v2_infer_by_version", "v1_predict_by_label"} <= set(ids)


def test_each_operation_has_its_path_parameters_and_no_others(document: dict[str, Any]) -> None:
    """No parameter may be null, and the query has only what handlers read."""
    for path, _, operation in operations(document):
        parameters = operation.get("parameters", [])
        in_path = [each["name"] for each in parameters if each["in"] == "path"]
        assert in_path == re.findall(r"\{(\w+)\}", path)
        assert all("null" not in str(each["schema"]) for each in parameters)
        if "{name}" in path or not path.startswith("/models/"):
            assert len(in_path) == len(parameters)


def test_every_reference_has_a_component_that_is_named_once(document: dict[str, Any]) -> None:
    """A component is named by its key alone, and every one is used."""
    schemas = document["components"]["schemas"]
    used = set(references(document))

    for reference in used:
        part: Any = document
        for key in reference.removeprefix("#/").split("/"):
            part = part[key]
    assert all(re.fullmatch("[A-Za-z][A-Za-z0-9]*", name) for name in schemas)
    assert all("title" not in schema for schema in schemas.values())
    # The components of images, which none of these models reads.
    unused = {name for name in schemas if f"#/components/schemas/{name}" not in used}
    assert unused <= {"ImageObject", "EncodedImage", "Interval"}


def test_every_response_has_a_type(document: dict[str, Any]) -> None:
    """A success in JSON is an object or an array with declared contents."""
    for path, method, operation in operations(document):
        for status, response in operation["responses"].items():
            content = response.get("content", {})
            assert "$ref" in response or content, (path, method, status)
            for schema in (each["schema"] for each in content.values()):
                assert {"$ref", "anyOf", "items", "type"} & set(schema), (path, method, status)


def test_models_come_before_what_is_the_same_for_all(document: dict[str, Any]) -> None:
    """In the order of tags, of groups and of paths."""
    names = ["a-b", "a_b", "admission", "mixed", "price"]

    assert [tag["name"] for tag in document["tags"]][:5] == names
    assert document["x-tagGroups"][0] == {"name": "Models", "tags": names}
    grouped = [tag for group in document["x-tagGroups"] for tag in group["tags"]]
    used = {tag for _, _, operation in operations(document) for tag in operation["tags"]}
    assert grouped == [tag["name"] for tag in document["tags"]]
    assert used == set(grouped)
    paths = list(document["paths"])[: 2 * len(names)]
    assert [path.split("/")[2] for path in paths[::2]] == names


def test_the_responses_of_routes_fit_their_schemas(shipped_client: httpx.Client) -> None:
    """That is so for every route without a body, and every shipped model."""
    document = shipped_client.get("/openapi.json").json()
    components = document["components"]
    names = [model["name"] for model in shipped_client.get("/models").json()["models"]]
    checked = 0
    for path, method, operation in operations(document):
        schema = operation["responses"]["200"]["content"].get("application/json", {}).get("schema")
        if method != "get" or schema is None or "region" in path or "shadow" in path:
            continue
        for name in names if "{name}" in path else names[:1]:
            address = path.format(name=name, version=1, label="stable")
            response = shipped_client.get(address)
            if response.status_code == 200:
                validator = jsonschema.Draft202012Validator(schema | {"components": components})
                assert list(validator.iter_errors(response.json())) == [], address
                checked += 1

    assert checked > 10 * len(names)
