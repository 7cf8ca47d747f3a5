"""OpenAPI with each model's own path: its features with units and ranges, and an example."""

from typing import Any

from service.api.bodies import JSON
from service.api.explain.openapi import explain_operation
from service.api.features import FeatureCodec
from service.api.pictures.openapi import picture_body
from service.api.problems import describe
from service.api.tables.documents import table_answers, table_requests
from service.bundle.features import (
    BooleanFeature,
    CategoryFeature,
    Feature,
    FeaturesInput,
    IntegerFeature,
)
from service.bundle.inputs import ImageInput
from service.bundle.manifest import Manifest
from service.bundle.outputs import ClassesOutput
from service.engine.registry import Registry

Schema = dict[str, Any]

ERROR: Schema = {
    "type": "object",
    "required": ["error", "code"],
    "properties": {
        "error": {"type": "string", "description": "One sentence that a person can act on."},
        "code": {"type": "string"},
        "details": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["sentence"],
                "properties": {
                    "sentence": {"type": "string"},
                    "row": {"type": "integer"},
                    "feature": {"type": "string"},
                    "expected": {"type": "string"},
                    "got": {"type": "string"},
                    "hint": {"type": "string"},
                },
            },
        },
    },
}

_INTERVAL: Schema = {
    "type": "object",
    "description": "Where the parameter 'interval' asks for it.",
    "required": ["level", "low", "high"],
    "properties": {key: {"type": "number"} for key in ("level", "low", "high")},
}

_FAILED: Schema = {
    "$ref": "#/components/schemas/Error",
    "description": "Of a table's row that failed.",
}
_WARNINGS = {
    "type": "array",
    "items": {"type": "string"},
    "description": "Values that training did not see.",
}

_REFUSALS = {
    "400": "The body or a value in it is wrong.",
    "403": "The operator has not switched this on.",
    "404": "There is no such model, version or path.",
    "405": "The path does not take this verb.",
    "408": "The body stopped arriving.",
    "409": "The runtime cannot serve this model's file.",
    "413": "The body is too large.",
    "415": "The body's media type or encoding is not read here.",
    "429": "Too many rows wait.",
    "500": "A fault of the service.",
    "503": "The model is not ready, or the service is stopping.",
    "504": "The deadline passed.",
}


def complete(document: Schema, registry: Registry) -> Schema:
    """FastAPI's document with the error contract and a path for each model that serves."""
    document.setdefault("components", {}).setdefault("schemas", {})["Error"] = ERROR
    for methods in document["paths"].values():
        for operation in methods.values():
            operation["responses"].pop("422", None)  # the contract answers 400
            operation["responses"] |= _refusals(operation["responses"])
    for name in registry.names:
        about = registry.entry(name).about
        if about is not None and about.manifest is not None:
            path = f"/models/{name}/predict"
            operation = _predict_operation(about.manifest)
            document["paths"][path] = {"post": operation}
            explained = explain_operation(about.manifest, operation)
            document["paths"][f"/models/{name}/explain"] = {"post": explained}
    return document


def _predict_operation(manifest: Manifest) -> Schema:
    taken = manifest.input
    body = picture_body(taken) if isinstance(taken, ImageInput) else _rows_body(manifest, taken)
    answer = _answer_schema(manifest)
    version = {"model_version": {"type": "string"}}
    many = {
        "type": "object",
        "required": ["predictions", "model_version"],
        "properties": {"predictions": {"type": "array", "items": answer}} | version,
    }
    tables: list[Schema] = []
    others: Schema = {}
    if isinstance(taken, FeaturesInput):
        rows = {"type": "array", "items": {"anyOf": [answer, _FAILED]}}
        tables, others = [many | {"properties": {"predictions": rows} | version}], table_answers()
    one = answer | {
        "required": [*answer["required"], "model_version"],
        "properties": answer["properties"] | version,
    }
    return {
        "tags": [manifest.title],
        "summary": manifest.title,
        "description": manifest.description,
        "operationId": f"predict_{manifest.name}",
        "parameters": _parameters(manifest),
        "requestBody": body,
        "responses": {
            "200": {
                "description": "One answer for what was sent bare, else one for each.",
                "content": {JSON: {"schema": {"anyOf": [one, many, *tables]}}} | others,
            }
        }
        | _refusals({}),
    }


def _rows_body(manifest: Manifest, taken: FeaturesInput) -> Schema:
    row = _row_schema(manifest, taken)
    rows = {"type": "array", "items": row, "minItems": 1}
    instances = {
        "type": "object",
        "required": ["instances"],
        "properties": {"instances": rows},
        "additionalProperties": False,
    }
    codec = FeatureCodec(taken)
    example = codec.example
    return {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"anyOf": [row, rows, instances]},
                "examples": {
                    "one row": {"value": example},
                    "several rows": {"value": {"instances": [example, example]}},
                },
            }
        }
        | table_requests(codec),
    }


def _row_schema(manifest: Manifest, taken: FeaturesInput) -> Schema:
    features = taken.features
    return {
        "type": "object",
        "title": manifest.title,
        "required": [feature.name for feature in features if not feature.optional],
        "properties": {feature.name: _feature_schema(feature) for feature in features},
        "additionalProperties": False,
    }


def _feature_schema(feature: Feature) -> Schema:
    schema = _type_schema(feature)
    if feature.optional:
        schema["type"] = [schema["type"], "null"]
        if "enum" in schema:
            schema["enum"] = [*schema["enum"], None]
    text = [part for part in (feature.description, f"Expected: {describe(feature)}.") if part]
    return schema | {"description": " ".join(text), "examples": [feature.example]}


def _type_schema(feature: Feature) -> Schema:
    if isinstance(feature, BooleanFeature):
        return {"type": "boolean"}
    if isinstance(feature, CategoryFeature):
        known = {"enum": feature.categories} if feature.unseen == "refuse" else {}
        return {"type": "string", **known}
    schema: Schema = {"type": "integer" if isinstance(feature, IntegerFeature) else "number"}
    if feature.unit:
        schema["x-unit"] = feature.unit
    for source, prefix in ((feature.allowed, ""), (feature.trained, "x-trained-")):
        for end in ("minimum", "maximum"):
            limit = getattr(source, end, None)
            if limit is not None:
                schema[prefix + end] = limit
    return schema


def _answer_schema(manifest: Manifest) -> Schema:
    output = manifest.output
    if isinstance(output, ClassesOutput):
        share = {"type": "number", "minimum": 0, "maximum": 1}
        shares = {"type": "object", "properties": dict.fromkeys(output.labels, share)}
        properties = {
            "label": {"type": "string", "enum": output.labels},
            "probability": share | {"description": "That of the label answered."},
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
        told = "Of every label, or as the parameters top and probabilities say."
        properties["probabilities"] = shares | {"description": told}
    elif output.interval is not None:
        properties["interval"] = _INTERVAL
    if isinstance(manifest.input, ImageInput):
        properties["file"] = {"type": "string", "description": "Its name, in a form's answers."}
    else:
        properties["warnings"] = _WARNINGS
    return {"type": "object", "required": required, "properties": properties}


def _parameters(manifest: Manifest) -> list[Schema]:
    output = manifest.output
    flag: Schema = {"type": "string", "enum": ["true", "false"]}
    mark: Schema = {"type": "string", "enum": ["point", "comma"]}
    known: dict[str, tuple[str, Schema]] = {}
    if isinstance(manifest.input, FeaturesInput):
        known["warnings"] = ("Whether values that training did not see are warned of.", flag)
        known["decimal"] = ("What marks the decimals of a table; else it is found out.", mark)
    if isinstance(output, ClassesOutput):
        count = {"type": "integer", "minimum": 1, "maximum": len(output.labels)}
        known["top"] = ("How many labels have a probability, the most probable first.", count)
    elif output.interval is not None:
        levels = [one.level for one in output.interval.levels]
        asked = "Give each value the interval that holds this share of the truths."
        known["interval"] = (asked, {"type": "number", "enum": levels})
    return [
        {"name": name, "in": "query", "description": description, "schema": schema}
        for name, (description, schema) in known.items()
    ]


def _refusals(present: Schema) -> Schema:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {
        status: {"description": meaning, "content": content}
        for status, meaning in _REFUSALS.items()
        if status not in present
    }
