"""The parts of the OpenAPI document that differ by input: tables, images, and explanations."""

import base64
import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from service.api.body import JSON
from service.api.explain.parameters import LEAST_CELLS, MOST_CELLS
from service.api.native.forms import INSTANCES, MULTIPART
from service.bundle.features import FeaturesInput
from service.bundle.manifest import ClassesOutput, ImageInput, Manifest
from service.codecs.features import FeatureCodec
from service.codecs.images import KEY
from service.imaging.preprocess import example_image
from service.tabletext.quoting import quoted

Schema = dict[str, Any]

ENCODED = "base64-image"
"""The format of strings that are an image's file; JSON Schema has none."""

_FILE: Schema = {"type": "string", "format": "binary"}
_FITS = {
    "stretch": "both of its sides are scaled to",
    "crop": "scaled to cover, its middle becomes",
    "pad": "all of it, with background around, becomes",
}
_TABLE = (
    "A first line with the columns' names, and a row a line. The pattern shows the usual form; the "
    "columns may be in any order, be separated by a semicolon, a tab or |, and lack optional ones; "
    "other columns are carried through. The answer is the same table with the answer's columns "
    "behind."
)
_LINES = (
    "One row a line: an object by names, or an array in the features' order. A line that is "
    "anything else has an error in its place."
)
# What a table must have for its rows to be read: a first row, after the names if it is CSV.
_ROWS_OF_TEXT = r"\r?\n[A-Za-z0-9][^\u0000]*$"
_ROW = r"[^ \t\n\r\v\f]"
_SPECIAL = re.compile(r"[\\^$.*+?()\[\]{}|/]")
_ROWS = 2
_NUMBER: Schema = {"type": "number"}


def table_requests(codec: FeatureCodec) -> Schema:
    """The bodies of tables by media type, each with an example that works."""
    line = orjson.dumps(codec.example).decode()
    header = ",".join(quoted(name, ",") for name in codec.example)
    return {
        "text/csv": _text(
            _TABLE, f"^{_escaped(header)}{_ROWS_OF_TEXT}", "two rows", _csv(codec.example)
        ),
        "application/x-ndjson": _text(_LINES, _ROW, "two lines", f"{line}\n" * _ROWS),
    }


def table_answers() -> Schema:
    """The answers of tables by media type."""
    failed = "A row that fails has its sentence in the column error, and the others are scored."
    lines = "One answer a line, or the object of an error in the place of a row that failed."
    return {
        "text/csv": {"schema": {"type": "string", "description": failed}},
        "application/x-ndjson": {"schema": {"type": "string", "description": lines}},
    }


def image_body(rule: ImageInput) -> Schema:
    """The request body of predictions: a file, a form of files, or JSON."""
    text = base64.b64encode(example_image(rule)).decode()
    image = _image(rule)
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
        "description": f"An image of any size: {_FITS[rule.fit]} {rule.width} x {rule.height} "
        "pixels. The file itself, several as a form's files, or JSON.",
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
    """The operation of a model's explanations.

    Args:
        manifest: the model's.
        predicted: the operation of its predictions, which stays as it is.
        max_rows: the operator's limit.
    """
    operation = copy.deepcopy(predicted)
    operation["operationId"] = f"explain_{manifest.name}"
    operation["summary"] = f"{manifest.title}: why"
    kept = [known for known in operation["parameters"] if known["name"] != "decimal"]
    operation["parameters"] = [*kept, *_parameters(manifest)]
    if isinstance(manifest.input, FeaturesInput):
        # Tables are predicted, not explained.
        asked = operation["requestBody"]["content"]
        operation["requestBody"]["content"] = {JSON: asked[JSON]}
    for schema in operation["requestBody"]["content"][JSON]["schema"]["anyOf"]:
        _limit_rows(schema, max_rows)
    one, many, *_ = operation["responses"]["200"]["content"][JSON]["schema"]["anyOf"]
    reasons = _reasons(manifest)
    about = _about(manifest)
    for schema in (one, many["properties"]["predictions"]["items"]):
        schema["properties"]["explanation"] = reasons
        schema["required"] = [*schema["required"], "explanation"]
    for schema in (one, many):
        schema["properties"] |= about
        schema["required"] = [*schema["required"], "method", "meaning"]
    content: Schema = {JSON: {"schema": {"anyOf": [one, many]}}}
    if isinstance(manifest.input, ImageInput):
        content["image/png"] = {"schema": {"type": "string", "format": "binary"}}
    operation["responses"]["200"]["content"] = content
    # Explanations have no phases to report.
    operation["responses"]["200"]["headers"].pop("Server-Timing")
    return operation


def _text(description: str, pattern: str, name: str, value: str) -> Schema:
    schema = {"type": "string", "description": description, "pattern": pattern}
    return {"schema": schema, "examples": {name: {"value": value}}}


def _escaped(text: str) -> str:
    """Text as part of a regular expression of ECMA 262, as JSON Schema has them."""
    return _SPECIAL.sub(r"\\\g<0>", text)


def _csv(example: Mapping[str, object]) -> str:
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


def _image(rule: ImageInput) -> Schema:
    pixels = rule.height * rule.width * rule.channels
    encoded = {
        "type": "string",
        "description": "An image's file in base64, or a data URL.",
        "contentEncoding": "base64",
        "contentMediaType": "image/*",
        "format": ENCODED,
    }
    numbers = {
        "type": "array",
        "description": f"Pixels from 0 to 255, row by row: {pixels} of them. Rows of "
        + ("numbers" if rule.channels == 1 else "red, green and blue")
        + ", of an image of any size, are read too.",
        "items": {"type": "integer", "minimum": 0, "maximum": 255},
        "minItems": pixels,
        "maxItems": pixels,
    }
    return {"anyOf": [encoded, _wrapped("b64", encoded), numbers]}


def _limit_rows(form: Schema, most: int) -> None:
    """Add the limit to the arrays of rows or images among the forms of a body."""
    form = form.get("properties", {}).get(INSTANCES, form)
    if form["type"] == "array" and "maxItems" not in form:
        form["maxItems"] = most


def _parameters(manifest: Manifest) -> list[Schema]:
    found: list[Schema] = []
    if isinstance(manifest.output, ClassesOutput):
        schema = {"type": "string", "enum": manifest.output.labels}
        asked = "The label to explain, instead of the one answered."
        found.append({"name": "label", "in": "query", "description": asked, "schema": schema})
    if isinstance(manifest.input, ImageInput):
        most = min(MOST_CELLS, manifest.input.height, manifest.input.width)
        cells = {"type": "integer", "minimum": LEAST_CELLS, "maximum": most}
        asked = "The cells of the grid along either side."
        found.append({"name": "resolution", "in": "query", "description": asked, "schema": cells})
    return found


def _about(manifest: Manifest) -> Schema:
    by_nature = "occlusion" if isinstance(manifest.input, ImageInput) else "shapley"
    method = by_nature if manifest.reasons is None else "additive"
    about: Schema = {
        "method": {"type": "string", "enum": [method]},
        "meaning": {"type": "string", "description": "What the numbers are, in a sentence."},
    }
    if method == "shapley":
        about["reference"] = {"type": "object", "description": "The row that base is of."}
    return about


def _reasons(manifest: Manifest) -> Schema:
    taken = manifest.input
    of: Schema = {"type": "string", "description": "What the numbers are of."}
    if isinstance(taken, FeaturesInput):
        names = [feature.name for feature in taken.features]
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
