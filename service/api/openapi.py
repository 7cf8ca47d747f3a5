"""OpenAPI paths of each model: its features, images and predictions, explanations, and examples."""

import base64
import copy
import math
import re
from collections.abc import Mapping, Sequence

import orjson

from service.api.body import JSON
from service.api.explain.target import MAX_CELLS, MIN_CELLS
from service.api.native.forms import INSTANCES, MULTIPART
from service.api.schemas import (
    FILE,
    PREDICTION_ERRORS,
    TABLE_ERRORS,
    Schema,
    complete_responses,
    header,
    object_schema,
)
from service.bundle.features import (
    WHOLE_MAX,
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
from service.codecs.images import KEY
from service.codecs.messages import describe
from service.imaging.preprocess import create_example_image
from service.tabletext import quoted
from service.values import FLOAT32_MAX

# A category that is the canonical text of an integer.
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}")

_NUMBER: Schema = {"type": "number"}
_TEXT: Schema = {"type": "string"}
_INTERVAL = object_schema(dict.fromkeys(("level", "low", "high"), _NUMBER)) | {
    "description": "Present if the parameter 'interval' requests it."
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
# A table needs at least one row, after the header if it is CSV.
_ROWS_OF_TEXT = r"\r?\n[A-Za-z0-9][^\u0000]*$"
_ROW = r"[^ \t\n\r\v\f]"
# Of the ECMA 262 regular expressions of JSON Schema.
_SPECIAL = re.compile(r"[\\^$.*+?()\[\]{}|/]")
_ROWS = 2


def _max_integer_rounding_to(number: float) -> int:
    """Return the largest integer that JSON parsers round to this number."""
    half = math.ulp(number) / 2
    largest = int(number) + int(half)
    return largest if float(largest) == number else largest - 1


_NUMBERS: Schema = {
    "minimum": -_max_integer_rounding_to(FLOAT32_MAX),
    "maximum": _max_integer_rounding_to(FLOAT32_MAX),
}
_WHOLE_NUMBERS: Schema = {"minimum": -WHOLE_MAX, "maximum": WHOLE_MAX}


def model_paths(manifest: Manifest, max_explained_rows: int) -> Schema:
    """Return the paths of one model, with the limit on rows of an explanation."""
    predict = _predict_operation(manifest)
    explain = _explain_operation(manifest, predict, max_explained_rows)
    return {
        f"/models/{manifest.name}/predict": {"post": predict},
        f"/models/{manifest.name}/explain": {"post": explain},
    }


def _predict_operation(manifest: Manifest) -> Schema:
    model_input = manifest.input
    body = (
        _image_body(model_input)
        if isinstance(model_input, ImageInput)
        else _rows_body(manifest, model_input)
    )
    prediction = _prediction_schema(manifest)
    version = {"model_version": _TEXT}
    one = object_schema(
        prediction["properties"] | version, *prediction["required"], "model_version"
    )
    forms = [one, object_schema({"predictions": {"type": "array", "items": prediction}} | version)]
    others: Schema = {}
    if isinstance(model_input, FeaturesInput):
        rows = {"type": "array", "items": {"anyOf": [prediction, _FAILED]}}
        forms.append(object_schema({"predictions": rows} | version))
        others = _table_responses()
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
                "content": {JSON: {"schema": {"anyOf": forms}}} | others,
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
        forms.append(object_schema({INSTANCES: rows}, closed=True))
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
        | _table_requests(codec),
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
    """Return the schema of a row as an array of values, in the order of the features."""
    values = [_type_schema(feature) for feature in model_input.features]
    return {
        "type": "array",
        "prefixItems": values,
        "items": False,
        "minItems": len(values),
        "maxItems": len(values),
    }


def _feature_schema(feature: Feature) -> Schema:
    parts = [part for part in (feature.description, f"Expected: {describe(feature)}.") if part]
    schema = _type_schema(feature) | {"description": " ".join(parts), "examples": [feature.example]}
    if isinstance(feature, NumberFeature | IntegerFeature):
        if feature.unit:
            schema["x-unit"] = feature.unit
        if feature.trained is not None:
            schema |= _bounds(feature.trained, "x-trained-")
    return schema


def _type_schema(feature: Feature) -> Schema:
    """Return the schema of exactly the values that a feature accepts."""
    schema: Schema
    if isinstance(feature, BooleanFeature):
        # 0 and 1 are accepted too.
        kinds, schema = ["boolean", "integer"], {"enum": [True, False, 0, 1]}
    elif isinstance(feature, CategoryFeature):
        kinds, schema = _categories(feature)
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


def _categories(feature: CategoryFeature) -> tuple[list[str], Schema]:
    """Return the types and values of a category; integers may be sent without quotes."""
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
            description = f"Whether the probability is below {output.unsure_below:.4g}."
            properties["unsure"] = {"type": "boolean", "description": description}
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
    return object_schema(properties, *required)


def _parameters(manifest: Manifest) -> list[Schema]:
    flag: Schema = {"type": "string", "enum": ["true", "false"]}
    mark: Schema = {"type": "string", "enum": ["point", "comma"]}
    parameters: list[Schema] = []
    if isinstance(manifest.input, FeaturesInput):
        about = "Whether to warn of values outside of the training data."
        parameters.append(_parameter("warnings", about, flag))
        about = "The decimal mark of a table; detected by default."
        parameters.append(_parameter("decimal", about, mark))
    output = manifest.output
    if isinstance(output, ClassesOutput):
        about = "The number of most probable labels in probabilities; all, if there are fewer."
        parameters.append(_parameter("top", about, {"type": "integer", "minimum": 1}))
        about = "Whether to include the probabilities of labels; none takes precedence over top."
        choices: Schema = {"type": "string", "enum": ["all", "none"]}
        parameters.append(_parameter("probabilities", about, choices))
    elif output.interval is not None:
        levels = [interval.level for interval in output.interval.levels]
        about = "Add an interval to each value that contains this share of the true values."
        parameters.append(_parameter("interval", about, {"type": "number", "enum": levels}))
    return parameters


def _parameter(name: str, description: str, schema: Schema) -> Schema:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _table_requests(codec: FeatureCodec) -> Schema:
    """Return the request bodies of tables by media type, each with a working example."""
    line = orjson.dumps(codec.example).decode()
    header_line = ",".join(quoted(name, ",") for name in codec.example)
    pattern = "^" + _SPECIAL.sub(r"\\\g<0>", header_line) + _ROWS_OF_TEXT
    return {
        "text/csv": _text(_TABLE, pattern, "two rows", _csv_example(codec.example)),
        "application/x-ndjson": _text(_LINES, _ROW, "two lines", f"{line}\n" * _ROWS),
    }


def _table_responses() -> Schema:
    """Return the responses to tables by media type."""
    failed = "A row that fails has a message in the column error; the other rows have predictions."
    lines = "One prediction per line, or an error object for a row that failed."
    return {
        "text/csv": {"schema": {"type": "string", "description": failed}},
        "application/x-ndjson": {"schema": {"type": "string", "description": lines}},
    }


def _image_body(spec: ImageInput) -> Schema:
    """Return the request body of an image model: a file, a form with files, or JSON."""
    text = base64.b64encode(create_example_image(spec)).decode()
    image = _image(spec)
    one = object_schema({KEY: image}, closed=True)
    several = {"type": "array", "items": {"anyOf": [one, image]}, "minItems": 1}
    instances = object_schema({INSTANCES: several}, closed=True)
    form = object_schema({KEY: {"type": "array", "items": FILE, "minItems": 1}}, closed=True)
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
            "image/*": {"schema": FILE},
            MULTIPART: {"schema": form, "encoding": {KEY: {"contentType": "image/*"}}},
        },
    }


def _explain_operation(manifest: Manifest, predict: Schema, max_rows: int) -> Schema:
    """Derive the operation that explains predictions from the one that makes them."""
    operation = copy.deepcopy(predict)
    operation["operationId"] = f"explain_{manifest.name}"
    operation["summary"] = f"{manifest.title}: explained"
    inherited = [known for known in operation["parameters"] if known["name"] != "decimal"]
    operation["parameters"] = [*inherited, *_explain_parameters(manifest)]
    if isinstance(manifest.input, FeaturesInput):
        # Rows of JSON are explained, tables are not.
        content = operation["requestBody"]["content"]
        operation["requestBody"]["content"] = {JSON: content[JSON]}
    for schema in operation["requestBody"]["content"][JSON]["schema"]["anyOf"]:
        _limit_rows(schema, max_rows)
    one, many, *_ = operation["responses"]["200"]["content"][JSON]["schema"]["anyOf"]
    explanation = _explanation_schema(manifest)
    method_fields = _method_fields(manifest)
    for schema in (one, many["properties"]["predictions"]["items"]):
        schema["properties"]["explanation"] = explanation
        schema["required"] = [*schema["required"], "explanation"]
    for schema in (one, many):
        schema["properties"] |= method_fields
        schema["required"] = [*schema["required"], "method", "meaning"]
    media: Schema = {JSON: {"schema": {"anyOf": [one, many]}}}
    if isinstance(manifest.input, ImageInput):
        media["image/png"] = {"schema": FILE}
    operation["responses"]["200"]["content"] = media
    # Explanations have no Server-Timing.
    operation["responses"]["200"]["headers"].pop("Server-Timing")
    return operation


def _text(description: str, pattern: str, name: str, value: str) -> Schema:
    schema = {"type": "string", "description": description, "pattern": pattern}
    return {"schema": schema, "examples": {name: {"value": value}}}


def _csv_example(example: Mapping[str, object]) -> str:
    cells = [quoted(_cell(value), ",") for value in example.values()]
    names = [quoted(name, ",") for name in example]
    rows: Sequence[Sequence[str]] = [names, *[cells] * _ROWS]
    return "".join(",".join(row) + "\n" for row in rows)


def _cell(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


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
    return {"anyOf": [encoded, object_schema({"b64": encoded}, closed=True), numbers]}


def _limit_rows(form: Schema, max_rows: int) -> None:
    """Add the limit to the arrays of rows or images in a body's schema."""
    form = form.get("properties", {}).get(INSTANCES, form)
    if form["type"] == "array" and "maxItems" not in form:
        form["maxItems"] = max_rows


def _explain_parameters(manifest: Manifest) -> list[Schema]:
    parameters: list[Schema] = []
    if isinstance(manifest.output, ClassesOutput):
        schema = {"type": "string", "enum": manifest.output.labels}
        about = "The label to explain, instead of the predicted one."
        parameters.append(_parameter("label", about, schema))
    if isinstance(manifest.input, ImageInput):
        max_cells = min(MAX_CELLS, manifest.input.height, manifest.input.width)
        cells = {"type": "integer", "minimum": MIN_CELLS, "maximum": max_cells}
        about = "The number of grid cells along each side."
        parameters.append(_parameter("resolution", about, cells))
    return parameters


def _method_fields(manifest: Manifest) -> Schema:
    method = "occlusion" if isinstance(manifest.input, ImageInput) else "shapley"
    if manifest.reasons is not None:
        method = "additive"
    method_fields: Schema = {
        "method": {"type": "string", "enum": [method]},
        "meaning": {"type": "string", "description": "What the numbers mean, in one sentence."},
    }
    if method == "shapley":
        method_fields["reference"] = {
            "type": "object",
            "description": "The row that base is the prediction for.",
        }
    return method_fields


def _explanation_schema(manifest: Manifest) -> Schema:
    model_input = manifest.input
    of: Schema = {"type": "string", "description": "The quantity that is explained."}
    if isinstance(model_input, FeaturesInput):
        names = [feature.name for feature in model_input.features]
        contributions = object_schema(dict.fromkeys(names, _NUMBER), closed=True)
        properties = {"of": of, "base": _NUMBER, "contributions": contributions, "score": _NUMBER}
    else:
        grid = {"type": "array", "items": {"type": "array", "items": _NUMBER}}
        properties = {"of": of, "score": _NUMBER, "drops": grid}
    return object_schema(properties)
