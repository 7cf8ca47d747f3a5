"""Schemas of the OpenAPI document: bodies and responses of tables and images, and explanations."""

import base64
import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from service.api.body import JSON
from service.api.explain.target import MAX_CELLS, MIN_CELLS
from service.api.native.forms import INSTANCES, MULTIPART
from service.bundle.features import FeaturesInput
from service.bundle.manifest import ClassesOutput, ImageInput, Manifest
from service.codecs.features import FeatureCodec
from service.codecs.images import KEY
from service.imaging.preprocess import example_image
from service.tabletext.dialect import quoted

Schema = dict[str, Any]

# The format of strings that are an image file; JSON Schema defines none.
_ENCODED = "base64-image"

_FILE: Schema = {"type": "string", "format": "binary"}
_FITS = {
    "stretch": "both sides are scaled to",
    "crop": "it is scaled and cropped to",
    "pad": "it is scaled and padded to",
}
_TABLE = (
    "A header line with the column names, then one row per line. The pattern shows the usual form; "
    "the columns may be in any order and separated by a semicolon, a tab or |, and optional ones "
    "may be missing; other columns are copied. The response is the same table with the predictions "
    "in additional columns."
)
_LINES = (
    "One row per line: an object by feature name, or an array in the order of the features. The "
    "response to a line that is anything else is an error."
)
# What a table needs at least: a first row, after the header if it is CSV.
_ROWS_OF_TEXT = r"\r?\n[A-Za-z0-9][^\u0000]*$"
_ROW = r"[^ \t\n\r\v\f]"
_SPECIAL = re.compile(r"[\\^$.*+?()\[\]{}|/]")
_ROWS = 2
_NUMBER: Schema = {"type": "number"}


def table_requests(codec: FeatureCodec) -> Schema:
    """The request bodies of tables by media type, each with a working example."""
    line = orjson.dumps(codec.example).decode()
    header = ",".join(quoted(name, ",") for name in codec.example)
    return {
        "text/csv": _text(
            _TABLE, f"^{_escaped(header)}{_ROWS_OF_TEXT}", "two rows", _csv_example(codec.example)
        ),
        "application/x-ndjson": _text(_LINES, _ROW, "two lines", f"{line}\n" * _ROWS),
    }


def table_responses() -> Schema:
    """The responses to tables by media type."""
    failed = "A row that fails has a message in the column error; the other rows have predictions."
    lines = "One prediction per line, or an error object for a row that failed."
    return {
        "text/csv": {"schema": {"type": "string", "description": failed}},
        "application/x-ndjson": {"schema": {"type": "string", "description": lines}},
    }


def image_body(spec: ImageInput) -> Schema:
    """The request body of an image model: a file, a form with files, or JSON."""
    text = base64.b64encode(example_image(spec)).decode()
    image = _image(spec)
    one = _wrapped(KEY, image)
    several = {"type": "array", "items": {"anyOf": [one, image]}, "minItems": 1}
    instances = _wrapped(INSTANCES, several)
    form = {
        "type": "object",
        "required": [KEY],
        "properties": {KEY: {"type": "array", "items": _FILE, "minItems": 1}},
        "additionalProperties": False,
    }
    return {
        "required": True,
        "description": f"An image of any size: {_FITS[spec.fit]} {spec.width} x {spec.height} "
        "pixels. Send the file itself, several files as a form, or JSON.",
        "content": {
            "application/json": {
                "schema": {"anyOf": [one, instances, several]},
                "examples": {
                    "one image": {"value": {KEY: text}},
                    "several images": {"value": {INSTANCES: [{KEY: text}, {KEY: text}]}},
                },
            },
            "image/*": {"schema": _FILE},
            MULTIPART: {"schema": form, "encoding": {KEY: {"contentType": "image/*"}}},
        },
    }


def explain_operation(manifest: Manifest, predicted: Schema, max_rows: int) -> Schema:
    """The operation that explains predictions, derived from the operation that makes them.

    Args:
        manifest: the model's.
        predicted: the operation for predictions, which is not changed.
        max_rows: the operator's limit.
    """
    operation = copy.deepcopy(predicted)
    operation["operationId"] = f"explain_{manifest.name}"
    operation["summary"] = f"{manifest.title}: why"
    inherited = [known for known in operation["parameters"] if known["name"] != "decimal"]
    operation["parameters"] = [*inherited, *_parameters(manifest)]
    if isinstance(manifest.input, FeaturesInput):
        # Rows of JSON are explained, tables are not.
        content = operation["requestBody"]["content"]
        operation["requestBody"]["content"] = {JSON: content[JSON]}
    for schema in operation["requestBody"]["content"][JSON]["schema"]["anyOf"]:
        _limit_rows(schema, max_rows)
    one, many, *_ = operation["responses"]["200"]["content"][JSON]["schema"]["anyOf"]
    reasons = _reasons(manifest)
    method_fields = _method_fields(manifest)
    for schema in (one, many["properties"]["predictions"]["items"]):
        schema["properties"]["explanation"] = reasons
        schema["required"] = [*schema["required"], "explanation"]
    for schema in (one, many):
        schema["properties"] |= method_fields
        schema["required"] = [*schema["required"], "method", "meaning"]
    media: Schema = {JSON: {"schema": {"anyOf": [one, many]}}}
    if isinstance(manifest.input, ImageInput):
        media["image/png"] = {"schema": {"type": "string", "format": "binary"}}
    operation["responses"]["200"]["content"] = media
    # Explanations have no Server-Timing.
    operation["responses"]["200"]["headers"].pop("Server-Timing")
    return operation


def _text(description: str, pattern: str, name: str, value: str) -> Schema:
    schema = {"type": "string", "description": description, "pattern": pattern}
    return {"schema": schema, "examples": {name: {"value": value}}}


def _escaped(text: str) -> str:
    """Text as part of an ECMA 262 regular expression, as JSON Schema uses them."""
    return _SPECIAL.sub(r"\\\g<0>", text)


def _csv_example(example: Mapping[str, object]) -> str:
    cells = [quoted(_cell(value), ",") for value in example.values()]
    names = [quoted(name, ",") for name in example]
    rows: Sequence[Sequence[str]] = [names, *[cells] * _ROWS]
    return "".join(",".join(row) + "\n" for row in rows)


def _cell(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _wrapped(key: str, schema: Schema) -> Schema:
    return {
        "type": "object",
        "required": [key],
        "properties": {key: schema},
        "additionalProperties": False,
    }


def _image(spec: ImageInput) -> Schema:
    pixels = spec.height * spec.width * spec.channels
    encoded = {
        "type": "string",
        "description": "An image's file in base64, or a data URL.",
        "contentEncoding": "base64",
        "contentMediaType": "image/*",
        "format": _ENCODED,
    }
    numbers = {
        "type": "array",
        "description": f"{pixels} pixels from 0 to 255, row by row. Rows of "
        + ("numbers" if spec.channels == 1 else "red, green and blue")
        + ", of an image of any size, are accepted too.",
        "items": {"type": "integer", "minimum": 0, "maximum": 255},
        "minItems": pixels,
        "maxItems": pixels,
    }
    return {"anyOf": [encoded, _wrapped("b64", encoded), numbers]}


def _limit_rows(form: Schema, most: int) -> None:
    """Add the limit to the arrays of rows or images in a body's schema."""
    form = form.get("properties", {}).get(INSTANCES, form)
    if form["type"] == "array" and "maxItems" not in form:
        form["maxItems"] = most


def _parameters(manifest: Manifest) -> list[Schema]:
    found: list[Schema] = []
    if isinstance(manifest.output, ClassesOutput):
        schema = {"type": "string", "enum": manifest.output.labels}
        description = "The label to explain, instead of the predicted one."
        found.append({"name": "label", "in": "query", "description": description, "schema": schema})
    if isinstance(manifest.input, ImageInput):
        most = min(MAX_CELLS, manifest.input.height, manifest.input.width)
        cells = {"type": "integer", "minimum": MIN_CELLS, "maximum": most}
        description = "The number of grid cells along each side."
        found.append(
            {"name": "resolution", "in": "query", "description": description, "schema": cells}
        )
    return found


def _method_fields(manifest: Manifest) -> Schema:
    by_nature = "occlusion" if isinstance(manifest.input, ImageInput) else "shapley"
    method = by_nature if manifest.reasons is None else "additive"
    method_fields: Schema = {
        "method": {"type": "string", "enum": [method]},
        "meaning": {"type": "string", "description": "What the numbers mean, in one sentence."},
    }
    if method == "shapley":
        method_fields["reference"] = {
            "type": "object",
            "description": "The row that base is computed for.",
        }
    return method_fields


def _reasons(manifest: Manifest) -> Schema:
    model_input = manifest.input
    of: Schema = {"type": "string", "description": "The quantity that is explained."}
    if isinstance(model_input, FeaturesInput):
        names = [feature.name for feature in model_input.features]
        contributions = {
            "type": "object",
            "required": names,
            "properties": dict.fromkeys(names, _NUMBER),
            "additionalProperties": False,
        }
        properties = {"of": of, "base": _NUMBER, "contributions": contributions, "score": _NUMBER}
    else:
        grid = {"type": "array", "items": {"type": "array", "items": _NUMBER}}
        properties = {"of": of, "score": _NUMBER, "drops": grid}
    return {"type": "object", "required": list(properties), "properties": properties}
