"""OpenAPI with the paths of each model: features with units and ranges, predictions, an example."""

import math
import re
from typing import Any

from service.api.body import JSON
from service.api.error_schemas import (
    PREDICTION_ERRORS,
    TABLE_ERRORS,
    add_errors,
    complete_responses,
    header,
)
from service.api.native.forms import INSTANCES
from service.api.openapi_schemas import (
    explain_operation,
    image_body,
    table_requests,
    table_responses,
)
from service.bundle.features import (
    BooleanFeature,
    CategoryFeature,
    Feature,
    FeaturesInput,
    IntegerFeature,
    NumberFeature,
    Range,
)
from service.bundle.manifest import ClassesOutput, ImageInput, Manifest
from service.codecs.features import FeatureCodec
from service.codecs.messages import describe
from service.values import FLOAT32_MAX, WHOLE_MAX

Schema = dict[str, Any]

_PATH_PARAMETER = re.compile(r"\{(\w+)\}")
# A word that is the usual text of a whole number.
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}")

_INTERVAL: Schema = {
    "type": "object",
    "description": "Present if the parameter 'interval' requests it.",
    "required": ["level", "low", "high"],
    "properties": {key: {"type": "number"} for key in ("level", "low", "high")},
}

_FAILED: Schema = {
    "$ref": "#/components/schemas/Error",
    "description": "For a row of a table that failed.",
}
_WARNINGS = {
    "type": "array",
    "items": {"type": "string"},
    "description": "Values outside of the training data.",
}


def _largest(number: float) -> int:
    """The largest integer that JSON parsers round to this number."""
    half = math.ulp(number) / 2
    largest = int(number) + int(half)
    return largest if float(largest) == number else largest - 1


_NUMBERS: Schema = {"minimum": -_largest(FLOAT32_MAX), "maximum": _largest(FLOAT32_MAX)}
_WHOLE_NUMBERS: Schema = {"minimum": -WHOLE_MAX, "maximum": WHOLE_MAX}


def complete(document: Schema) -> Schema:
    """FastAPI's document of the routes, with the error contract and every path parameter."""
    add_errors(document)
    for path, methods in document["paths"].items():
        for operation in methods.values():
            _add_path_parameters(path, operation)
    return document


def _add_path_parameters(path: str, operation: Schema) -> None:
    """Document path parameters that a handler omits, because not all of its paths have them."""
    parameters = operation.setdefault("parameters", [])
    known = {parameter["name"] for parameter in parameters}
    parameters += [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PATH_PARAMETER.findall(path)
        if name not in known
    ]


def model_paths(manifest: Manifest, max_explained_rows: int) -> Schema:
    """The paths of one model.

    Args:
        manifest: the model's.
        max_explained_rows: the operator's limit.
    """
    predict = _predict_operation(manifest)
    explain = explain_operation(manifest, predict, max_explained_rows)
    return {
        f"/models/{manifest.name}/predict": {"post": predict},
        f"/models/{manifest.name}/explain": {"post": explain},
    }


def _predict_operation(manifest: Manifest) -> Schema:
    model_input = manifest.input
    body = (
        image_body(model_input)
        if isinstance(model_input, ImageInput)
        else _rows_body(manifest, model_input)
    )
    prediction = _prediction_schema(manifest)
    version = {"model_version": {"type": "string"}}
    many = {
        "type": "object",
        "required": ["predictions", "model_version"],
        "properties": {"predictions": {"type": "array", "items": prediction}} | version,
    }
    tables: list[Schema] = []
    others: Schema = {}
    if isinstance(model_input, FeaturesInput):
        rows = {"type": "array", "items": {"anyOf": [prediction, _FAILED]}}
        tables, others = [many | {"properties": {"predictions": rows} | version}], table_responses()
    one = prediction | {
        "required": [*prediction["required"], "model_version"],
        "properties": prediction["properties"] | version,
    }
    operation = {
        "tags": [manifest.title],
        "summary": manifest.title,
        "description": manifest.description,
        "operationId": f"predict_{manifest.name}",
        "parameters": _parameters(manifest),
        "requestBody": body,
        "responses": {
            "200": {
                "description": "One prediction for a single row or image, else a list of them.",
                "headers": header("X-Model-Version", "Server-Timing"),
                "content": {JSON: {"schema": {"anyOf": [one, many, *tables]}}} | others,
            },
            **(TABLE_ERRORS if others else PREDICTION_ERRORS),
        },
    }
    complete_responses(operation)
    return operation


def _rows_body(manifest: Manifest, model_input: FeaturesInput) -> Schema:
    row = _row_schema(manifest, model_input)
    rows = {"type": "array", "items": {"anyOf": [row, _values_schema(model_input)]}, "minItems": 1}
    forms = [row, rows]
    codec = FeatureCodec(model_input)
    # A feature of that name makes it part of a row.
    if INSTANCES not in codec.names:
        forms.append(
            {
                "type": "object",
                "required": [INSTANCES],
                "properties": {INSTANCES: rows},
                "additionalProperties": False,
            }
        )
    example = codec.example
    return {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"anyOf": forms},
                "examples": {
                    "one row": {"value": example},
                    "several rows": {"value": [example, list(example.values())]},
                },
            }
        }
        | table_requests(codec),
    }


def _row_schema(manifest: Manifest, model_input: FeaturesInput) -> Schema:
    features = model_input.features
    return {
        "type": "object",
        "title": manifest.title,
        "required": [feature.name for feature in features if not feature.optional],
        "properties": {feature.name: _feature_schema(feature) for feature in features},
        "additionalProperties": False,
    }


def _values_schema(model_input: FeaturesInput) -> Schema:
    """A row as an array of values, in the order of the features."""
    values = [_type_schema(feature) for feature in model_input.features]
    return {
        "type": "array",
        "prefixItems": values,
        "items": False,
        "minItems": len(values),
        "maxItems": len(values),
    }


def _feature_schema(feature: Feature) -> Schema:
    text = [part for part in (feature.description, f"Expected: {describe(feature)}.") if part]
    schema = _type_schema(feature) | {"description": " ".join(text), "examples": [feature.example]}
    if isinstance(feature, NumberFeature | IntegerFeature):
        if feature.unit:
            schema["x-unit"] = feature.unit
        if feature.trained is not None:
            schema |= _bounds(feature.trained, "x-trained-")
    return schema


def _type_schema(feature: Feature) -> Schema:
    """Exactly the values that a feature accepts, for clients that validate before they send."""
    schema: Schema
    if isinstance(feature, BooleanFeature):
        # 0 and 1 are accepted too.
        kinds, schema = ["boolean", "integer"], {"enum": [True, False, 0, 1]}
    elif isinstance(feature, CategoryFeature):
        kinds, schema = _words(feature)
    else:
        is_whole = isinstance(feature, IntegerFeature)
        kinds, schema = (
            ["integer" if is_whole else "number"],
            {**(_WHOLE_NUMBERS if is_whole else _NUMBERS)},
        )
        if feature.allowed is not None:
            schema |= _bounds(feature.allowed)
    if feature.optional:
        kinds = [*kinds, "null"]
        if "enum" in schema:
            schema["enum"] = [*schema["enum"], None]
    return {"type": kinds if len(kinds) > 1 else kinds[0], **schema}


def _words(feature: CategoryFeature) -> tuple[list[str], Schema]:
    """Categories as strings; those that are integers may be sent without quotes."""
    if feature.unseen == "other":
        return ["string", "integer"], {}
    numbers = [int(word) for word in feature.categories if _WHOLE.fullmatch(word)]
    return ["string", "integer"] if numbers else ["string"], {
        "enum": [*feature.categories, *numbers]
    }


def _bounds(bounds: Range, prefix: str = "") -> Schema:
    ends = {"minimum": bounds.minimum, "maximum": bounds.maximum}
    return {prefix + end: limit for end, limit in ends.items() if limit is not None}


def _prediction_schema(manifest: Manifest) -> Schema:
    output = manifest.output
    if isinstance(output, ClassesOutput):
        share = {"type": "number", "minimum": 0, "maximum": 1}
        shares = {"type": "object", "properties": dict.fromkeys(output.labels, share)}
        properties = {
            "label": {"type": "string", "enum": output.labels},
            "probability": share | {"description": "The probability of the predicted label."},
        }
        if output.unsure_below is not None:
            doubt = f"Whether the probability is below {output.unsure_below:.4g}."
            properties["unsure"] = {"type": "boolean", "description": doubt}
    else:
        properties = {"value": {"type": "number", "description": output.description}}
        if output.unit is not None:
            properties["unit"] = {"type": "string", "const": output.unit}
    required = list(properties)
    if isinstance(output, ClassesOutput):
        description = "Of every label, or as the parameters top and probabilities request."
        properties["probabilities"] = shares | {"description": description}
    elif output.interval is not None:
        properties["interval"] = _INTERVAL
    if isinstance(manifest.input, ImageInput):
        properties["file"] = {
            "type": "string",
            "description": "The name of the file, for files of a form.",
        }
    else:
        properties["warnings"] = _WARNINGS
    return {"type": "object", "required": required, "properties": properties}


def _parameters(manifest: Manifest) -> list[Schema]:
    output = manifest.output
    flag: Schema = {"type": "string", "enum": ["true", "false"]}
    mark: Schema = {"type": "string", "enum": ["point", "comma"]}
    known: dict[str, tuple[str, Schema]] = {}
    if isinstance(manifest.input, FeaturesInput):
        known["warnings"] = ("Whether to warn of values outside of the training data.", flag)
        known["decimal"] = ("The decimal mark of a table; detected by default.", mark)
    if isinstance(output, ClassesOutput):
        known["top"] = (
            "The number of most probable labels in probabilities; all, if there are fewer.",
            {"type": "integer", "minimum": 1},
        )
        known["probabilities"] = (
            "Whether to include the probabilities of labels; none takes precedence over top.",
            {"type": "string", "enum": ["all", "none"]},
        )
    elif output.interval is not None:
        levels = [one.level for one in output.interval.levels]
        description = "Add an interval to each value that contains this share of the true values."
        known["interval"] = (description, {"type": "number", "enum": levels})
    return [
        {"name": name, "in": "query", "description": description, "schema": schema}
        for name, (description, schema) in known.items()
    ]
