"""OpenAPI paths of each model: its features, images and predictions, explanations, and examples."""

import base64
import math
import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

import orjson

from service.api.body import JSON
from service.api.explain.attributions import PNG
from service.api.explain.target import MAX_CELLS, MIN_CELLS
from service.api.native.forms import INSTANCES, MULTIPART
from service.api.schemas import (
    FILE,
    PREDICTION_ERRORS,
    STRING,
    TABLE_ERRORS,
    Schema,
    array_schema,
    complete_responses,
    json_content,
    object_schema,
    predicts,
)
from service.bundle.features import (
    WHOLE_MAX,
    BooleanFeature,
    CategoryFeature,
    Datatype,
    DatetimeFeature,
    Feature,
    FeaturesInput,
    IntegerFeature,
    NumberFeature,
    TextFeature,
    client_value,
)
from service.bundle.manifest import ClassesOutput, ImageInput, Manifest
from service.codecs.images import KEY
from service.codecs.messages import describe
from service.codecs.ranges import find_valid_range
from service.engine.tensors import DTYPES
from service.freetext import MAX_CHARACTERS
from service.imaging.preprocess import create_example_image
from service.tabletext import missing_words, quote_cell
from service.timetext import json_pattern
from service.values import MAX_ROUNDED_TO_FLOAT32

# A category that is the canonical text of an integer.
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}")

NUMBER: Schema = {"type": "number"}
"""Any number."""
# The one half way is rounded up.
MAX_NUMBER = int(MAX_ROUNDED_TO_FLOAT32) + int(math.ulp(MAX_ROUNDED_TO_FLOAT32) / 2) - 1
"""The largest integer that JSON parsers round to the largest number of 32 bits."""
_INTERVAL = object_schema(dict.fromkeys(("level", "low", "high"), NUMBER)) | {
    "description": "Present if the parameter 'interval' requests it."
}
FAILED: Schema = {
    "$ref": "#/components/schemas/Error",
    "description": "For a row of a table that failed.",
}
"""The error in a response instead of a prediction."""

# A format of our own for strings that are an image file; JSON Schema has none.
_ENCODED = "base64-image"

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
_PREDICTED_TABLE = (
    "A row that fails has a message in the column error; the other rows have predictions."
)
_PREDICTED_LINES = "One prediction per line, or an error object for a row that failed."
TABLE_RESPONSES: Schema = {
    "text/csv": {"schema": STRING | {"description": _PREDICTED_TABLE}},
    "application/x-ndjson": {"schema": STRING | {"description": _PREDICTED_LINES}},
}
"""The responses to tables by media type."""
# A table needs at least one row, after the header if it is CSV.
_ROWS_OF_TEXT = r"\r?\n[A-Za-z0-9][^\u0000]*$"
_ROW = r"[^ \t\n\r\v\f]"
# Of the ECMA 262 regular expressions of JSON Schema, which allow no other characters to be escaped.
_SPECIAL = re.compile(r"[\\^$.*+?()\[\]{}|/]")


def model_paths(manifest: Manifest, max_explained_rows: int) -> Schema:
    """Return the paths of one model, with the limit on rows of an explanation."""
    paths = {f"/models/{manifest.name}/predict": {"post": _describe_operation(manifest)}}
    # Predictions from free text are not explained.
    if not (isinstance(manifest.input, FeaturesInput) and manifest.input.texts):
        explained = _describe_operation(manifest, max_explained_rows)
        paths[f"/models/{manifest.name}/explain"] = {"post": explained}
    return paths


def _describe_operation(manifest: Manifest, max_explained_rows: int | None = None) -> Schema:
    """Return the operation that predicts or, with a limit on its rows, the one that explains."""
    explained = max_explained_rows is not None
    required, optional = _describe_prediction(manifest)
    shared = {"model_version": STRING}
    if explained:
        explanation, method = _describe_explanation(manifest)
        required["explanation"] = object_schema(explanation)
        shared |= method
    item = object_schema(required, optional)
    errors, other_types = PREDICTION_ERRORS, {}
    if isinstance(manifest.input, ImageInput):
        body = _describe_images(manifest.input, max_explained_rows)
        if explained:
            other_types = {PNG: {"schema": FILE}}
    else:
        features, datatype = manifest.input.features, manifest.input.datatype
        example = {feature.name: feature.example for feature in features}
        content = describe_rows(
            manifest.title,
            {feature.name: _describe_feature(feature, datatype) for feature in features},
            example,
            max_explained_rows,
            optional={feature.name for feature in features if feature.optional},
            values=[_describe_type(feature, datatype) for feature in features],
        )
        body = {"content": content}
        if not explained:
            content |= describe_tables(example)
            errors, other_types = TABLE_ERRORS, TABLE_RESPONSES
            item = {"anyOf": [item, FAILED]}
    one = object_schema(required | shared, optional)
    several = object_schema({"predictions": array_schema(item)} | shared)
    responses = predicts(
        json_content({"anyOf": [one, several]}) | other_types,
        timed=not explained,
        description="One prediction for a single row or image, else a list of them.",
    )
    return {
        "tags": [manifest.title],
        "summary": f"{manifest.title}: explained" if explained else manifest.title,
        "description": manifest.description,
        "operationId": f"{'explain' if explained else 'predict'}_{manifest.name}",
        "parameters": _describe_parameters(manifest, explained=explained),
        "requestBody": {"required": True, **body},
        "responses": complete_responses(errors | responses),
    }


def _describe_json(
    one: Schema, alternative: Schema, max_rows: int | None, examples: Schema
) -> Schema:
    """Return the JSON of a request: one row or image, a list, or an object with a list.

    The items of a list may have the alternative form.
    """
    limits = {"minItems": 1} | ({} if max_rows is None else {"maxItems": max_rows})
    several = array_schema({"anyOf": [one, alternative]}, **limits)
    forms = [one, several]
    # A feature of that name makes it part of a row.
    if INSTANCES not in one["properties"]:
        forms.append(object_schema({INSTANCES: several}, closed=True))
    return {JSON: _describe_content({"anyOf": forms}, examples)}


def _describe_content(schema: Schema, examples: Schema) -> Schema:
    named = {name: {"value": value} for name, value in examples.items()}
    return {"schema": schema, "examples": named}


def describe_rows(  # noqa: PLR0913 - the parts of a row
    title: str,
    properties: Schema,
    example: Mapping[str, object],
    max_rows: int | None,
    *,
    optional: AbstractSet[str] = frozenset(),
    values: Sequence[Schema] | None = None,
) -> Schema:
    """Return the content of a request with one row or several in JSON.

    Args:
        title: of a row.
        properties: of a row, by feature name.
        example: a valid row.
        max_rows: of a request; None is no limit.
        optional: the features that a row may omit.
        values: of a row that is an array; None are the properties.
    """
    row = {
        "type": "object",
        "title": title,
        "required": [name for name in properties if name not in optional],
        "properties": properties,
        "additionalProperties": False,
    }
    array = {
        "type": "array",
        "prefixItems": list(properties.values()) if values is None else values,
        "items": False,
        "minItems": len(properties),
        "maxItems": len(properties),
    }
    examples = {"one row": example, "several rows": [example, list(example.values())]}
    return _describe_json(row, array, max_rows, examples)


def _describe_feature(feature: Feature, datatype: Datatype) -> Schema:
    parts = [part for part in (feature.description, f"Expected: {describe(feature)}.") if part]
    schema = _describe_type(feature, datatype) | {
        "description": " ".join(parts),
        "examples": [feature.example],
    }
    if isinstance(feature, NumberFeature | IntegerFeature):
        if feature.unit:
            schema["x-unit"] = feature.unit
        if feature.trained is not None:
            ends = feature.trained.model_dump(exclude_none=True)
            schema |= {f"x-trained-{end}": limit for end, limit in ends.items()}
    if isinstance(feature, DatetimeFeature) and feature.trained is not None:
        ends = feature.trained.model_dump(exclude_none=True)
        schema |= {f"x-trained-{end}": client_value(feature, days) for end, days in ends.items()}
    return schema


def _describe_type(feature: Feature, datatype: Datatype) -> Schema:
    """Return the schema of exactly the values that a feature accepts."""
    schema: Schema
    if isinstance(feature, DatetimeFeature):
        return _describe_date(feature)
    if isinstance(feature, TextFeature):
        # Numbers are read as they are written.
        kinds, schema = ["string", "number"], {"x-read-characters": MAX_CHARACTERS}
    elif isinstance(feature, BooleanFeature):
        # 0 and 1 are accepted too.
        kinds, schema = ["boolean", "integer"], {"enum": [True, False, 0, 1]}
    elif isinstance(feature, CategoryFeature):
        kinds, schema = _describe_category(feature)
    else:
        is_whole = isinstance(feature, IntegerFeature)
        kinds = ["integer" if is_whole else "number"]
        # Every number of a JSON parser fits 64 bits.
        largest = WHOLE_MAX if is_whole else MAX_NUMBER if datatype == "FP32" else None
        schema = {} if largest is None else {"minimum": -largest, "maximum": largest}
        if feature.allowed is not None:
            schema |= feature.allowed.model_dump(exclude_none=True)
    if feature.optional:
        kinds.append("null")
        if "enum" in schema:
            schema["enum"].append(None)
    return {"type": kinds if len(kinds) > 1 else kinds[0], **schema}


def _describe_date(feature: DatetimeFeature) -> Schema:
    """Return the texts of a date, and its numbers: days since 1970-01-01."""
    low, high = find_valid_range(feature, DTYPES["FP64"])
    kinds = [
        STRING | {"pattern": json_pattern(feature.format), "x-format": feature.format},
        NUMBER | {"minimum": low, "maximum": high},
    ]
    if feature.optional:
        words = sorted(missing_words(feature.missing))
        kinds += [STRING | {"enum": words}, {"type": "null"}]
    return {"anyOf": kinds}


def _describe_category(feature: CategoryFeature) -> tuple[list[str], Schema]:
    """Return the types and values of a category; integers may be sent without quotes."""
    if feature.unseen == "other":
        return ["string", "integer"], {}
    numbers = [int(word) for word in feature.categories if _WHOLE.fullmatch(word)]
    kinds = ["string", "integer"] if numbers else ["string"]
    return kinds, {"enum": [*feature.categories, *numbers]}


def _describe_prediction(manifest: Manifest) -> tuple[Schema, Schema]:
    """Return the required and the optional properties of one prediction."""
    output = manifest.output
    optional: Schema = {}
    if isinstance(output, ClassesOutput):
        share = NUMBER | {"minimum": 0, "maximum": 1}
        required = {
            "label": STRING | {"enum": output.labels},
            "probability": share | {"description": "The probability of the predicted label."},
        }
        if output.unsure_below is not None:
            description = f"Whether the probability is below {output.unsure_below:.4g}."
            required["unsure"] = {"type": "boolean", "description": description}
        optional["probabilities"] = {
            "type": "object",
            "properties": dict.fromkeys(output.labels, share),
            "description": "Of every label, or as the parameters top and probabilities request.",
        }
    else:
        required = {"value": NUMBER | {"description": output.description}}
        if output.unit is not None:
            required["unit"] = STRING | {"const": output.unit}
        if output.interval is not None:
            optional["interval"] = _INTERVAL
    if isinstance(manifest.input, ImageInput):
        optional["file"] = STRING | {"description": "The name of the file, for files of a form."}
    else:
        about = "Values outside of the training data."
        optional["warnings"] = array_schema(STRING, description=about)
    return required, optional


def _describe_parameters(manifest: Manifest, *, explained: bool) -> list[Schema]:
    """Return the query parameters of predictions, or of explained ones."""
    parameters: list[Schema] = []

    def add(name: str, description: str, kind: str, **rules: object) -> None:
        schema = {"type": kind, **rules}
        parameters.append(
            {"name": name, "in": "query", "description": description, "schema": schema}
        )

    model_input, output = manifest.input, manifest.output
    if isinstance(model_input, FeaturesInput):
        about = "Whether to warn of values outside of the training data."
        add("warnings", about, "string", enum=["true", "false"])
        if not explained:
            about = "The decimal mark of a table; detected by default."
            add("decimal", about, "string", enum=["point", "comma"])
    elif explained:
        most = min(MAX_CELLS, model_input.height, model_input.width)
        about = "The number of grid cells along each side."
        add("resolution", about, "integer", minimum=MIN_CELLS, maximum=most)
    if isinstance(output, ClassesOutput):
        about = "The number of most probable labels in probabilities; all, if there are fewer."
        add("top", about, "integer", minimum=1)
        about = "Whether to include the probabilities of labels; none takes precedence over top."
        add("probabilities", about, "string", enum=["all", "none"])
        if explained:
            about = "The label to explain, instead of the predicted one."
            add("label", about, "string", enum=output.labels)
    elif output.interval is not None:
        about = "Add an interval to each value that contains this share of the true values."
        levels = [interval.level for interval in output.interval.levels]
        add("interval", about, "number", enum=levels)
    return parameters


def describe_tables(example: Mapping[str, object]) -> Schema:
    """Return the request bodies of tables by media type, by the example of a valid row."""
    names = ",".join(quote_cell(name, ",") for name in example)
    cells = (
        str(cell).lower() if isinstance(cell, bool) else str(cell) for cell in example.values()
    )
    row = ",".join(quote_cell(cell, ",") for cell in cells)
    pattern = "^" + _SPECIAL.sub(r"\\\g<0>", names) + _ROWS_OF_TEXT
    line = orjson.dumps(example).decode()
    table = STRING | {"description": _TABLE, "pattern": pattern}
    lines = STRING | {"description": _LINES, "pattern": _ROW}
    return {
        "text/csv": _describe_content(table, {"two rows": f"{names}\n{row}\n{row}\n"}),
        "application/x-ndjson": _describe_content(lines, {"two lines": f"{line}\n{line}\n"}),
    }


def _describe_images(spec: ImageInput, max_rows: int | None) -> Schema:
    """Return the request body of an image model: a file, a form with files, or JSON."""
    encoded = STRING | {
        "description": "An image's file in base64, or a data URL.",
        "contentEncoding": "base64",
        "contentMediaType": "image/*",
        "format": _ENCODED,
    }
    pixels = spec.height * spec.width * spec.channels
    numbers = array_schema(
        {"type": "integer", "minimum": 0, "maximum": 255},
        description=f"{pixels} pixels from 0 to 255, row by row. Rows of "
        + ("numbers" if spec.channels == 1 else "red, green and blue")
        + ", of an image of any size, are accepted too.",
        minItems=pixels,
        maxItems=pixels,
    )
    image = {"anyOf": [encoded, object_schema({"b64": encoded}, closed=True), numbers]}
    one = object_schema({KEY: image}, closed=True)
    example = {KEY: base64.b64encode(create_example_image(spec)).decode()}
    examples = {"one image": example, "several images": {INSTANCES: [example, example]}}
    form = object_schema({KEY: array_schema(FILE, minItems=1)}, closed=True)
    return {
        "description": f"An image of any size: {_FITS[spec.fit]} {spec.width} x {spec.height} "
        "pixels. Send the file itself, several files as a form, or JSON.",
        "content": {
            **_describe_json(one, image, max_rows, examples),
            "image/*": {"schema": FILE},
            MULTIPART: {"schema": form, "encoding": {KEY: {"contentType": "image/*"}}},
        },
    }


def _describe_explanation(manifest: Manifest) -> tuple[Schema, Schema]:
    """Return the properties of an explanation, and those that all of a response share."""
    explanation = {"of": STRING | {"description": "The quantity that is explained."}}
    if isinstance(manifest.input, ImageInput):
        method = "occlusion"
        explanation["drops"] = array_schema(array_schema(NUMBER))
    else:
        method = "shapley" if manifest.reasons is None else "additive"
        names = [feature.name for feature in manifest.input.features]
        contributions = object_schema(dict.fromkeys(names, NUMBER), closed=True)
        explanation |= {"base": NUMBER, "contributions": contributions}
    shared: Schema = {
        "method": STRING | {"const": method},
        "meaning": STRING | {"description": "What the numbers mean, in one sentence."},
    }
    if method == "shapley":
        description = "The row that base is the prediction for."
        shared["reference"] = {"type": "object", "description": description}
    return explanation | {"score": NUMBER}, shared
