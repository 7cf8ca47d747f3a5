"""OpenAPI paths of each model: its features, images and predictions, explanations, and examples."""

import base64
import math
import re

import orjson

from service.api.body import JSON
from service.api.explain.attributions import PNG
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
)
from service.bundle.manifest import ClassesOutput, ImageInput, Manifest
from service.codecs.images import KEY
from service.codecs.messages import describe
from service.imaging.preprocess import create_example_image
from service.tabletext import quote_cell
from service.values import FLOAT32_MAX

# A category that is the canonical text of an integer.
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}")

_NUMBER: Schema = {"type": "number"}
_TEXT: Schema = {"type": "string"}
_VERSION: Schema = {"model_version": _TEXT}
# The largest integer that JSON parsers round to FLOAT32_MAX; the one half way is rounded up.
_MAX_NUMBER = int(FLOAT32_MAX) + int(math.ulp(FLOAT32_MAX) / 2) - 1
_INTERVAL = object_schema(dict.fromkeys(("level", "low", "high"), _NUMBER)) | {
    "description": "Present if the parameter 'interval' requests it."
}
_FAILED: Schema = {
    "$ref": "#/components/schemas/Error",
    "description": "For a row of a table that failed.",
}
_WARNINGS = {
    "type": "array",
    "items": _TEXT,
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
_PREDICTED_TABLE = (
    "A row that fails has a message in the column error; the other rows have predictions."
)
_PREDICTED_LINES = "One prediction per line, or an error object for a row that failed."
_TABLE_RESPONSES: Schema = {
    "text/csv": {"schema": _TEXT | {"description": _PREDICTED_TABLE}},
    "application/x-ndjson": {"schema": _TEXT | {"description": _PREDICTED_LINES}},
}
_ONE_OR_MORE = "One prediction for a single row or image, else a list of them."
# A table needs at least one row, after the header if it is CSV.
_ROWS_OF_TEXT = r"\r?\n[A-Za-z0-9][^\u0000]*$"
_ROW = r"[^ \t\n\r\v\f]"
# Of the ECMA 262 regular expressions of JSON Schema, which allow no other characters to be escaped.
_SPECIAL = re.compile(r"[\\^$.*+?()\[\]{}|/]")


def model_paths(manifest: Manifest, max_explained_rows: int) -> Schema:
    """Return the paths of one model, with the limit on rows of an explanation."""
    predict = _predict_operation(manifest)
    explain = predict | _explain_operation(manifest, max_explained_rows)
    for operation in (predict, explain):
        complete_responses(operation)
    return {
        f"/models/{manifest.name}/predict": {"post": predict},
        f"/models/{manifest.name}/explain": {"post": explain},
    }


def _predict_operation(manifest: Manifest) -> Schema:
    prediction = _prediction_schema(manifest)
    if isinstance(manifest.input, ImageInput):
        body, errors = _image_body(manifest.input), PREDICTION_ERRORS
        content = _predictions(prediction, prediction, _VERSION)
    else:
        body, errors = _rows_body(manifest.title, manifest.input), TABLE_ERRORS
        body["content"] |= _table_requests(manifest.input)
        row = {"anyOf": [prediction, _FAILED]}
        content = _predictions(prediction, row, _VERSION) | _TABLE_RESPONSES
    response = {
        "description": _ONE_OR_MORE,
        "headers": header("X-Model-Version", "Server-Timing"),
        "content": content,
    }
    return {
        "tags": [manifest.title],
        "summary": manifest.title,
        "description": manifest.description,
        "operationId": f"predict_{manifest.name}",
        "parameters": _parameters(manifest, explained=False),
        "requestBody": body,
        "responses": {"200": response, **errors},
    }


def _explain_operation(manifest: Manifest, max_rows: int) -> Schema:
    """Return what differs from the operation that only predicts; tables are not explained."""
    prediction = _prediction_schema(manifest)
    prediction["properties"]["explanation"] = _explanation_schema(manifest)
    prediction["required"].append("explanation")
    content = _predictions(prediction, prediction, _VERSION | _method_fields(manifest))
    if isinstance(manifest.input, ImageInput):
        body = _image_body(manifest.input, max_rows)
        content[PNG] = {"schema": FILE}
    else:
        body = _rows_body(manifest.title, manifest.input, max_rows)
    response = {
        "description": _ONE_OR_MORE,
        "headers": header("X-Model-Version"),
        "content": content,
    }
    return {
        "summary": f"{manifest.title}: explained",
        "operationId": f"explain_{manifest.name}",
        "parameters": _parameters(manifest, explained=True),
        "requestBody": body,
        "responses": {"200": response, **PREDICTION_ERRORS},
    }


def _predictions(prediction: Schema, item: Schema, shared: Schema) -> Schema:
    """Return the JSON of a response: one prediction or a list of items, and the shared fields."""
    one = object_schema(prediction["properties"] | shared, *prediction["required"], *shared)
    several = object_schema({"predictions": {"type": "array", "items": item}} | shared)
    return {JSON: {"schema": {"anyOf": [one, several]}}}


def _rows_body(title: str, model_input: FeaturesInput, max_rows: int | None = None) -> Schema:
    """Return the request body of one row or several in JSON."""
    features = model_input.features
    row = {
        "type": "object",
        "title": title,
        "required": [feature.name for feature in features if not feature.optional],
        "properties": {feature.name: _feature_schema(feature) for feature in features},
        "additionalProperties": False,
    }
    values = {
        "type": "array",
        "prefixItems": [_type_schema(feature) for feature in features],
        "items": False,
        "minItems": len(features),
        "maxItems": len(features),
    }
    rows = _list(max_rows, row, values)
    forms = [row, rows]
    example = {feature.name: feature.example for feature in features}
    # A feature of that name makes it part of a row.
    if INSTANCES not in example:
        forms.append(object_schema({INSTANCES: rows}, closed=True))
    examples = {
        "one row": {"value": example},
        "several rows": {"value": [example, list(example.values())]},
    }
    content = {JSON: {"schema": {"anyOf": forms}, "examples": examples}}
    return {"required": True, "content": content}


def _list(max_rows: int | None, *items: Schema) -> Schema:
    """Return the schema of a list of rows or images, each of which fits one of these schemas."""
    schema: Schema = {"type": "array", "items": {"anyOf": list(items)}, "minItems": 1}
    return schema if max_rows is None else schema | {"maxItems": max_rows}


def _feature_schema(feature: Feature) -> Schema:
    parts = [part for part in (feature.description, f"Expected: {describe(feature)}.") if part]
    schema = _type_schema(feature) | {"description": " ".join(parts), "examples": [feature.example]}
    if isinstance(feature, NumberFeature | IntegerFeature):
        if feature.unit:
            schema["x-unit"] = feature.unit
        if feature.trained is not None:
            ends = feature.trained.model_dump(exclude_none=True)
            schema |= {f"x-trained-{end}": limit for end, limit in ends.items()}
    return schema


def _type_schema(feature: Feature) -> Schema:
    """Return the schema of exactly the values that a feature accepts."""
    schema: Schema
    if isinstance(feature, BooleanFeature):
        # 0 and 1 are accepted too.
        kinds, schema = ["boolean", "integer"], {"enum": [True, False, 0, 1]}
    elif isinstance(feature, CategoryFeature):
        kinds, schema = _category_schema(feature)
    else:
        is_whole = isinstance(feature, IntegerFeature)
        largest = WHOLE_MAX if is_whole else _MAX_NUMBER
        kinds = ["integer" if is_whole else "number"]
        schema = {"minimum": -largest, "maximum": largest}
        if feature.allowed is not None:
            schema |= feature.allowed.model_dump(exclude_none=True)
    if feature.optional:
        kinds.append("null")
        if "enum" in schema:
            schema["enum"].append(None)
    return {"type": kinds if len(kinds) > 1 else kinds[0], **schema}


def _category_schema(feature: CategoryFeature) -> tuple[list[str], Schema]:
    """Return the types and values of a category; integers may be sent without quotes."""
    if feature.unseen == "other":
        return ["string", "integer"], {}
    numbers = [int(word) for word in feature.categories if _WHOLE.fullmatch(word)]
    kinds = ["string", "integer"] if numbers else ["string"]
    return kinds, {"enum": [*feature.categories, *numbers]}


def _prediction_schema(manifest: Manifest) -> Schema:
    output = manifest.output
    optional: Schema
    if isinstance(output, ClassesOutput):
        share = {"type": "number", "minimum": 0, "maximum": 1}
        required = {
            "label": {"type": "string", "enum": output.labels},
            "probability": share | {"description": "The probability of the predicted label."},
        }
        if output.unsure_below is not None:
            description = f"Whether the probability is below {output.unsure_below:.4g}."
            required["unsure"] = {"type": "boolean", "description": description}
        probabilities = {
            "type": "object",
            "properties": dict.fromkeys(output.labels, share),
            "description": "Of every label, or as the parameters top and probabilities request.",
        }
        optional = {"probabilities": probabilities}
    else:
        required = {"value": {"type": "number", "description": output.description}}
        if output.unit is not None:
            required["unit"] = {"type": "string", "const": output.unit}
        optional = {} if output.interval is None else {"interval": _INTERVAL}
    if isinstance(manifest.input, ImageInput):
        optional["file"] = _TEXT | {"description": "The name of the file, for files of a form."}
    else:
        optional["warnings"] = _WARNINGS
    return object_schema(required | optional, *required)


def _parameters(manifest: Manifest, *, explained: bool) -> list[Schema]:
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


def _table_requests(model_input: FeaturesInput) -> Schema:
    """Return the request bodies of tables by media type, each with a working example."""
    example = {feature.name: feature.example for feature in model_input.features}
    names = ",".join(quote_cell(name, ",") for name in example)
    cells = (
        str(cell).lower() if isinstance(cell, bool) else str(cell) for cell in example.values()
    )
    row = ",".join(quote_cell(cell, ",") for cell in cells)
    pattern = "^" + _SPECIAL.sub(r"\\\g<0>", names) + _ROWS_OF_TEXT
    line = orjson.dumps(example).decode()
    return {
        "text/csv": _text(_TABLE, pattern, "two rows", f"{names}\n{row}\n{row}\n"),
        "application/x-ndjson": _text(_LINES, _ROW, "two lines", f"{line}\n{line}\n"),
    }


def _text(description: str, pattern: str, name: str, value: str) -> Schema:
    schema = {"type": "string", "description": description, "pattern": pattern}
    return {"schema": schema, "examples": {name: {"value": value}}}


def _image_body(spec: ImageInput, max_rows: int | None = None) -> Schema:
    """Return the request body of an image model: a file, a form with files, or JSON."""
    text = base64.b64encode(create_example_image(spec)).decode()
    image = _image_schema(spec)
    one = object_schema({KEY: image}, closed=True)
    several = _list(max_rows, one, image)
    instances = object_schema({INSTANCES: several}, closed=True)
    examples = {
        "one image": {"value": {KEY: text}},
        "several images": {"value": {INSTANCES: [{KEY: text}, {KEY: text}]}},
    }
    form = object_schema({KEY: {"type": "array", "items": FILE, "minItems": 1}}, closed=True)
    return {
        "required": True,
        "description": f"An image of any size: {_FITS[spec.fit]} {spec.width} x {spec.height} "
        "pixels. Send the file itself, several files as a form, or JSON.",
        "content": {
            JSON: {"schema": {"anyOf": [one, instances, several]}, "examples": examples},
            "image/*": {"schema": FILE},
            MULTIPART: {"schema": form, "encoding": {KEY: {"contentType": "image/*"}}},
        },
    }


def _image_schema(spec: ImageInput) -> Schema:
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


def _method_fields(manifest: Manifest) -> Schema:
    """Return the fields that describe the method of all explanations of a response."""
    method = "occlusion" if isinstance(manifest.input, ImageInput) else "shapley"
    if manifest.reasons is not None:
        method = "additive"
    fields: Schema = {
        "method": {"type": "string", "const": method},
        "meaning": _TEXT | {"description": "What the numbers mean, in one sentence."},
    }
    if method == "shapley":
        description = "The row that base is the prediction for."
        fields["reference"] = {"type": "object", "description": description}
    return fields


def _explanation_schema(manifest: Manifest) -> Schema:
    quantity = _TEXT | {"description": "The quantity that is explained."}
    if isinstance(manifest.input, ImageInput):
        grid = {"type": "array", "items": {"type": "array", "items": _NUMBER}}
        return object_schema({"of": quantity, "score": _NUMBER, "drops": grid})
    names = [feature.name for feature in manifest.input.features]
    contributions = object_schema(dict.fromkeys(names, _NUMBER), closed=True)
    return object_schema(
        {"of": quantity, "base": _NUMBER, "contributions": contributions, "score": _NUMBER}
    )
