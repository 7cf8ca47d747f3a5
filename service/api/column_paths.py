"""OpenAPI paths of a graph without a manifest that has an input for each column."""

import numpy as np

from service.api.body_schemas import describe_rows
from service.api.components import Components, Identifier, ModelDescription, enum_schema
from service.api.feature_schemas import BOOLEAN, MAX_NUMBER
from service.api.openapi import (
    RESPONSE_DESCRIPTION,
    TABLE_RESPONSES,
    describe_explanations,
    describe_manifest,
    describe_predictions,
    describe_probabilities,
    describe_tables,
)
from service.api.schemas import (
    ANY,
    NUMBER,
    OBJECT,
    PREDICTION_ERRORS,
    STRING,
    TABLE_ERRORS,
    Schema,
    complete_responses,
    object_schema,
    predicts,
)
from service.bundle.manifest import Manifest
from service.codecs.columns import ColumnCodec
from service.codecs.messages import describe
from service.codecs.output_rows import GraphOutputs, free_names
from service.engine.model import ModelInfo
from service.engine.tensors import DTYPES, TensorSpec

_SHARE: Schema = {"type": ["number", "null"]}
_DESCRIPTION = "A graph without a manifest; the features are its inputs."


def describe_model(
    model: Manifest | ModelInfo, identifier: Identifier, max_explained_rows: int
) -> ModelDescription:
    """Return the paths and components of a bundle, by its manifest, or of a graph without one."""
    if isinstance(model, Manifest):
        return describe_manifest(model, identifier, max_explained_rows)
    components = Components(identifier)
    prediction = _describe_prediction(model, components)
    paths = {
        f"/models/{model.name}/predict": {"post": _describe_predict(model, components, prediction)}
    }
    # Strings are not explained.
    if any(spec.datatype != "BYTES" for spec in model.inputs):
        explained = _describe_explain(model, components, prediction, max_explained_rows)
        paths[f"/models/{model.name}/explain"] = {"post": explained}
    return ModelDescription(
        {"name": model.name, "description": _DESCRIPTION}, paths, components.schemas
    )


def _describe_predict(
    model: ModelInfo, components: Components, prediction: tuple[Schema, Schema]
) -> Schema:
    """Return the operation that predicts."""
    content = _describe_content(model, components) | describe_tables(
        ColumnCodec(model.inputs).example
    )
    responses = predicts(
        describe_predictions(components, *prediction, fails=True) | TABLE_RESPONSES,
        description=RESPONSE_DESCRIPTION,
    )
    return {
        "tags": [model.name],
        "summary": f"Predict: {model.name}",
        "description": _DESCRIPTION,
        "operationId": f"predict_{components.identifier.snake}",
        "requestBody": {"required": True, "content": content},
        "responses": complete_responses(TABLE_ERRORS | responses),
    }


def _describe_explain(
    model: ModelInfo, components: Components, prediction: tuple[Schema, Schema], max_rows: int
) -> Schema:
    """Return the operation that explains at most ``max_rows`` predictions of a request."""
    numbers = [spec.name for spec in model.inputs if spec.datatype != "BYTES"]
    explanation = {
        "of": STRING,
        "base": NUMBER,
        "contributions": object_schema(dict.fromkeys(numbers, NUMBER), closed=True),
        "score": NUMBER,
    }
    shared = {
        "method": STRING | {"const": "shapley"},
        "meaning": STRING,
        "reference": OBJECT,
    }
    content = describe_explanations(components, *prediction, object_schema(explanation), shared)
    return {
        "tags": [model.name],
        "summary": f"Predict and explain: {model.name}",
        "description": _DESCRIPTION,
        "operationId": f"explain_{components.identifier.snake}",
        "requestBody": {
            "required": True,
            "content": _describe_content(model, components, max_rows),
        },
        "responses": complete_responses(
            PREDICTION_ERRORS | predicts(content, timed=False, description=RESPONSE_DESCRIPTION)
        ),
    }


def _describe_content(
    model: ModelInfo, components: Components, max_rows: int | None = None
) -> Schema:
    """Return the JSON of a request, with at most ``max_rows`` rows."""
    codec = ColumnCodec(model.inputs)
    properties = {
        feature.name: describe_type(spec) | {"description": f"Expected: {describe(feature)}."}
        for feature, spec in zip(codec.features, model.inputs, strict=True)
    }
    return describe_rows(components, properties, codec.example, max_rows)


def describe_type(spec: TensorSpec) -> Schema:
    """Return the schema of exactly the values that an input accepts."""
    dtype = DTYPES[spec.datatype]
    if dtype.kind == "O":
        return dict(STRING)
    if dtype.kind == "b":
        return dict(BOOLEAN)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return {"type": "integer", "minimum": int(limits.min), "maximum": int(limits.max)}
    if spec.datatype == "FP64":
        return {"type": ["number", "null"]}
    largest = MAX_NUMBER if spec.datatype == "FP32" else int(np.finfo(dtype).max)
    return {"type": ["number", "null"], "minimum": -largest, "maximum": largest}


def _describe_prediction(model: ModelInfo, components: Components) -> tuple[Schema, Schema]:
    """Return the required and the optional properties of one prediction."""
    outputs = GraphOutputs(model)
    if outputs.classes is None:
        return dict.fromkeys(free_names(model.outputs), ANY), {}
    labels = outputs.classes.labels
    label = components.add("Label", enum_schema(labels))
    probabilities = components.add("Probabilities", describe_probabilities(label, labels, _SHARE))
    return {"label": label, "probability": _SHARE}, {"probabilities": probabilities}
