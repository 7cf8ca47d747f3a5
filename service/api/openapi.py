"""OpenAPI paths of each model: its features, images and predictions, explanations, and examples."""

import base64
import re
from collections.abc import Mapping, Sequence

import orjson

from service.api.body import JSON
from service.api.body_schemas import describe_content, describe_json, describe_rows
from service.api.components import Components, Identifier, ModelDescription, enum_schema
from service.api.explain.attributions import PNG
from service.api.explain.bar_chart import SVG
from service.api.explain.target import MAX_CELLS, MIN_CELLS
from service.api.feature_schemas import describe_feature, describe_type
from service.api.native.forms import INSTANCES, MULTIPART
from service.api.schemas import (
    FILE,
    NUMBER,
    PREDICTION_ERRORS,
    STRING,
    TABLE_ERRORS,
    Schema,
    array_schema,
    complete_responses,
    json_content,
    object_schema,
    predicts,
    refer,
)
from service.bundle.features import FeaturesInput
from service.bundle.manifest import ClassesOutput, ImageInput, Manifest
from service.codecs.images import KEY
from service.filetypes import TABLE_FILES
from service.imaging.preprocess import create_example_image
from service.tabletext import quote_cell

SHARE: Schema = NUMBER | {"minimum": 0, "maximum": 1}
"""A probability."""
_FAILED = refer("Error") | {"description": "For a row of a table that failed."}
MODEL_SCHEMAS: Schema = {
    "Interval": object_schema(dict.fromkeys(("level", "low", "high"), NUMBER))
    | {"description": "Present if the parameter 'interval' requests it."},
    "EncodedImage": STRING
    | {
        "description": "An image's file in base64, or a data URL.",
        "contentEncoding": "base64",
        "contentMediaType": "image/*",
        # Of our own for strings that are an image file; JSON Schema has none.
        "format": "base64-image",
    },
    "ImageObject": object_schema({"b64": refer("EncodedImage")}, closed=True),
}
"""The components that the paths of several models refer to."""

_EXAMPLE_LABELS = 10
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
_TABLE_FILE = "A file with the columns of the CSV table. The response is CSV."
_PREDICTED_TABLE = (
    "A row that fails has a message in the column error; the other rows have predictions."
)
_PREDICTED_LINES = "One prediction per line, or an error object for a row that failed."
TABLE_RESPONSES: Schema = {
    "text/csv": {"schema": STRING | {"description": _PREDICTED_TABLE}},
    "application/x-ndjson": {"schema": STRING | {"description": _PREDICTED_LINES}},
}
"""The responses to tables by media type."""
RESPONSE_DESCRIPTION = "One prediction for a single row or image, else a list of them."
# A table needs at least one row, after the header if it is CSV.
_ROWS_OF_TEXT = r"\r?\n[A-Za-z0-9][^\u0000]*$"
_ROW = r"[^ \t\n\r\v\f]"
# Of the ECMA 262 regular expressions of JSON Schema, which allow no other characters to be escaped.
_SPECIAL = re.compile(r"[\\^$.*+?()\[\]{}|/]")


def describe_manifest(
    manifest: Manifest, identifier: Identifier, max_explained_rows: int
) -> ModelDescription:
    """Return the paths and the components of a bundle, with the limit on rows of an explanation."""
    components = Components(identifier)
    prediction = _describe_prediction(manifest, components)
    predicted = _describe_predict(manifest, components, prediction)
    paths = {f"/models/{manifest.name}/predict": {"post": predicted}}
    # Predictions from free text are not explained.
    if not (isinstance(manifest.input, FeaturesInput) and manifest.input.texts):
        explained = _describe_explain(manifest, components, prediction, max_explained_rows)
        paths[f"/models/{manifest.name}/explain"] = {"post": explained}
    tag = {
        "name": manifest.name,
        "x-displayName": manifest.title,
        "description": " ".join(
            part for part in (f"{manifest.title}.", manifest.description) if part
        ),
    }
    return ModelDescription(tag, paths, components.schemas)


Properties = tuple[Schema, Schema]
"""The required and the optional properties of an object."""


def _describe_predict(manifest: Manifest, components: Components, prediction: Properties) -> Schema:
    """Return the operation that predicts."""
    is_table, body = False, _describe_body(manifest, components)
    if isinstance(manifest.input, FeaturesInput):
        is_table = True
        body["content"] |= describe_tables(_example_row(manifest.input))
    content = describe_predictions(components, *prediction, fails=is_table)
    responses = predicts(
        content | (TABLE_RESPONSES if is_table else {}), description=RESPONSE_DESCRIPTION
    )
    return {
        "tags": [manifest.name],
        "summary": f"Predict: {manifest.title}",
        "description": manifest.description,
        "operationId": f"predict_{components.identifier.snake}",
        "parameters": _describe_parameters(manifest),
        "requestBody": {"required": True, **body},
        "responses": complete_responses(
            (TABLE_ERRORS if is_table else PREDICTION_ERRORS) | responses
        ),
    }


def _describe_explain(
    manifest: Manifest, components: Components, prediction: Properties, max_rows: int
) -> Schema:
    """Return the operation that explains at most ``max_rows`` predictions of a request."""
    explanation, shared = _describe_explanation(manifest)
    content = describe_explanations(components, *prediction, explanation, shared)
    content |= {PNG if isinstance(manifest.input, ImageInput) else SVG: {"schema": FILE}}
    responses = predicts(content, timed=False, description=RESPONSE_DESCRIPTION)
    return {
        "tags": [manifest.name],
        "summary": f"Predict and explain: {manifest.title}",
        "description": manifest.description,
        "operationId": f"explain_{components.identifier.snake}",
        "parameters": _describe_explain_parameters(manifest, components),
        "requestBody": {"required": True, **_describe_body(manifest, components, max_rows)},
        "responses": complete_responses(PREDICTION_ERRORS | responses),
    }


def describe_predictions(
    components: Components, required: Schema, optional: Schema, *, fails: bool
) -> Schema:
    """Return the JSON of responses to one row, and to several; one of a table may fail."""
    shared = {"model_version": STRING}
    one = components.add("Prediction", object_schema(required | shared, optional))
    item = components.add("PredictionItem", object_schema(required, optional))
    items = array_schema({"anyOf": [item, _FAILED]} if fails else item)
    several = components.add("Predictions", object_schema({"predictions": items} | shared))
    return json_content({"anyOf": [one, several]})


def describe_explanations(
    components: Components, required: Schema, optional: Schema, explanation: Schema, shared: Schema
) -> Schema:
    """Return the JSON of responses with explanations, and fields that all of a response share."""
    shared = {"model_version": STRING} | shared
    attribution = components.add("Attribution", explanation)
    required = required | {"explanation": attribution}
    one = components.add("Explanation", object_schema(required | shared, optional))
    item = components.add("ExplanationItem", object_schema(required, optional))
    predictions = {"predictions": array_schema(item)}
    several = components.add("Explanations", object_schema(predictions | shared))
    return json_content({"anyOf": [one, several]})


def _describe_body(
    manifest: Manifest, components: Components, max_rows: int | None = None
) -> Schema:
    """Return the request body of rows or images, at most ``max_rows`` of them."""
    if isinstance(manifest.input, ImageInput):
        return _describe_images(manifest.input, components, max_rows)
    features, datatype = manifest.input.features, manifest.input.datatype
    content = describe_rows(
        components,
        {feature.name: describe_feature(feature, datatype) for feature in features},
        _example_row(manifest.input),
        max_rows,
        optional={feature.name for feature in features if feature.optional},
        values=[describe_type(feature, datatype) for feature in features],
    )
    return {"content": content}


def _example_row(model_input: FeaturesInput) -> dict[str, object]:
    return {feature.name: feature.example for feature in model_input.features}


def _describe_prediction(manifest: Manifest, components: Components) -> Properties:
    """Return the required and the optional properties of one prediction."""
    output = manifest.output
    optional: Schema = {}
    if isinstance(output, ClassesOutput):
        label = components.add("Label", enum_schema(output.labels))
        required = {
            "label": label,
            "probability": SHARE | {"description": "The probability of the predicted label."},
        }
        if output.unsure_below is not None:
            description = f"Whether the probability is below {output.unsure_below:.4g}."
            required["unsure"] = {"type": "boolean", "description": description}
        optional["probabilities"] = components.add(
            "Probabilities", describe_probabilities(label, output.labels, SHARE)
        )
    else:
        required = {"value": NUMBER | {"description": output.description}}
        if output.unit is not None:
            required["unit"] = STRING | {"const": output.unit}
        if output.interval is not None:
            optional["interval"] = refer("Interval")
    if isinstance(manifest.input, ImageInput):
        optional["file"] = STRING | {"description": "The name of the file, for files of a form."}
    else:
        about = "Values outside of the training data."
        optional["warnings"] = array_schema(STRING, description=about)
    return required, optional


def describe_probabilities(label: Schema, labels: Sequence[str], share: Schema) -> Schema:
    """Return the schema of an object by label; there may be thousands of them."""
    shown = labels[:_EXAMPLE_LABELS]
    return {
        "type": "object",
        "propertyNames": label,
        "additionalProperties": share,
        "description": "Of every label, or as the parameters top and probabilities request.",
        "examples": [dict.fromkeys(shown, round(1 / len(labels), 4))],
    }


def _describe_parameter(name: str, description: str, schema: Schema) -> Schema:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _describe_parameters(manifest: Manifest) -> list[Schema]:
    """Return the query parameters of predictions."""
    parameters = _describe_common_parameters(manifest)
    if isinstance(manifest.input, FeaturesInput):
        about = "The decimal mark of a table; detected by default."
        schema = STRING | {"enum": ["point", "comma"]}
        parameters.append(_describe_parameter("decimal", about, schema))
    return parameters


def _describe_explain_parameters(manifest: Manifest, components: Components) -> list[Schema]:
    """Return the query parameters of explained predictions."""
    parameters, model_input = _describe_common_parameters(manifest), manifest.input
    if isinstance(model_input, ImageInput):
        about = "The number of grid cells along each side."
        most = min(MAX_CELLS, model_input.height, model_input.width)
        schema = {"type": "integer", "minimum": MIN_CELLS, "maximum": most}
        parameters.append(_describe_parameter("resolution", about, schema))
        about = "Whether the explanation contains the image as the model receives it."
        parameters.append(_describe_parameter("image", about, {"type": "boolean"}))
    if isinstance(manifest.output, ClassesOutput):
        about = "The label to explain, instead of the predicted one."
        label = refer(f"{components.identifier.camel}Label")
        parameters.append(_describe_parameter("label", about, label))
    return parameters


def _describe_common_parameters(manifest: Manifest) -> list[Schema]:
    """Return the query parameters of predictions, explained or not."""
    parameters, output = [], manifest.output
    if isinstance(manifest.input, FeaturesInput):
        about = "Whether to warn of values outside of the training data."
        parameters.append(_describe_parameter("warnings", about, {"type": "boolean"}))
    if isinstance(output, ClassesOutput):
        about = "The number of most probable labels in probabilities; all, if there are fewer."
        parameters.append(_describe_parameter("top", about, {"type": "integer", "minimum": 1}))
        about = "Whether to include the probabilities of labels; none takes precedence over top."
        schema = STRING | {"enum": ["all", "none"]}
        parameters.append(_describe_parameter("probabilities", about, schema))
    elif output.interval is not None:
        about = "Add an interval to each value that contains this share of the true values."
        levels = [interval.level for interval in output.interval.levels]
        # Generators of clients reject an `enum` of fractions next to the type.
        schema = NUMBER | {"allOf": [{"enum": levels}]}
        parameters.append(_describe_parameter("interval", about, schema))
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
        "text/csv": describe_content(table, {"two rows": f"{names}\n{row}\n{row}\n"}),
        "application/x-ndjson": describe_content(lines, {"two lines": f"{line}\n{line}\n"}),
        # The route of any model has forms too. With one more form here, the code of generators for
        # Python fails for every body.
        **{
            kind.media_types[0]: {"schema": FILE | {"description": _TABLE_FILE}}
            for kind in TABLE_FILES
            if kind.is_common
        },
    }


def _describe_images(spec: ImageInput, components: Components, max_rows: int | None) -> Schema:
    """Return the request body of an image model: a file, a form with files, or JSON."""
    pixels = spec.height * spec.width * spec.channels
    numbers = array_schema(
        {"type": "integer", "minimum": 0, "maximum": 255},
        description=f"{pixels} pixels from 0 to 255, row by row. Rows of "
        + ("numbers" if spec.channels == 1 else "red, green and blue")
        + ", of an image of any size, are accepted too.",
        minItems=pixels,
        maxItems=pixels,
    )
    forms = [refer("EncodedImage"), refer("ImageObject"), components.add("Pixels", numbers)]
    image = {"anyOf": forms}
    one = components.add("Image", object_schema({KEY: image}, closed=True))
    example = {KEY: base64.b64encode(create_example_image(spec)).decode()}
    examples = {"one image": example, "several images": {INSTANCES: [example, example]}}
    form = object_schema({KEY: array_schema(FILE, minItems=1)}, closed=True)
    schema = describe_json(components, one, image, max_rows)
    return {
        "description": f"An image of any size: {_FITS[spec.fit]} {spec.width} x {spec.height} "
        "pixels. Send the file itself, several files as a form, or JSON.",
        # The page of the documentation shows the first: there, a file is the easiest to send.
        "content": {
            MULTIPART: {
                "schema": components.add("Files", form),
                "encoding": {KEY: {"contentType": "image/*"}},
            },
            JSON: describe_content(schema, examples),
            "image/*": {"schema": FILE},
        },
    }


def _describe_explanation(manifest: Manifest) -> tuple[Schema, Schema]:
    """Return the schema of an explanation, and the fields that all of a response share."""
    explanation = {"of": STRING | {"description": "The quantity that is explained."}}
    optional: Schema = {}
    if isinstance(manifest.input, ImageInput):
        method = "occlusion"
        explanation["drops"] = array_schema(array_schema(NUMBER))
        about = "A PNG file in base64, if the parameter 'image' requests it."
        optional["image"] = STRING | {"description": about}
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
    return object_schema(explanation | {"score": NUMBER}, optional), shared
