"""OpenAPI paths of a graph without a manifest that has an input for each column."""

import numpy as np

from service.api.openapi import (
    FAILED,
    MAX_NUMBER,
    NUMBER,
    TABLE_RESPONSES,
    describe_rows,
    describe_tables,
    model_paths,
)
from service.api.schemas import (
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
from service.bundle.manifest import Manifest
from service.codecs.columns import ColumnCodec
from service.codecs.messages import describe
from service.codecs.output_rows import GraphOutputs, free_names
from service.engine.model import ModelInfo
from service.engine.tensors import DTYPES, TensorSpec

_ANY: Schema = {}
_SHARE: Schema = {"type": ["number", "null"]}


def describe_paths(model: Manifest | ModelInfo, max_explained_rows: int) -> Schema:
    """Return the paths of a bundle, by its manifest, or of a graph without one."""
    if isinstance(model, Manifest):
        return model_paths(model, max_explained_rows)
    paths = {f"/models/{model.name}/predict": {"post": _describe_operation(model)}}
    # Strings are not explained.
    if any(spec.datatype != "BYTES" for spec in model.inputs):
        explained = _describe_operation(model, max_explained_rows)
        paths[f"/models/{model.name}/explain"] = {"post": explained}
    return paths


def _describe_operation(model: ModelInfo, max_explained_rows: int | None = None) -> Schema:
    """Return the operation that predicts or, with a limit on its rows, the one that explains."""
    explained = max_explained_rows is not None
    codec, outputs = ColumnCodec(model.inputs), GraphOutputs(model)
    required, optional = _describe_prediction(model, outputs)
    shared = {"model_version": STRING}
    if explained:
        numbers = [spec.name for spec in model.inputs if spec.datatype != "BYTES"]
        required["explanation"] = object_schema(
            {
                "of": STRING,
                "base": NUMBER,
                "contributions": object_schema(dict.fromkeys(numbers, NUMBER), closed=True),
                "score": NUMBER,
            }
        )
        shared |= {
            "method": STRING | {"const": "shapley"},
            "meaning": STRING,
            "reference": {"type": "object"},
        }
    properties = {
        feature.name: describe_type(spec) | {"description": f"Expected: {describe(feature)}."}
        for feature, spec in zip(codec.features, model.inputs, strict=True)
    }
    content = describe_rows(model.name, properties, codec.example, max_explained_rows)
    item = object_schema(required, optional)
    errors, other_types = PREDICTION_ERRORS, {}
    if not explained:
        content |= describe_tables(codec.example)
        errors, other_types = TABLE_ERRORS, TABLE_RESPONSES
        item = {"anyOf": [item, FAILED]}
    several = object_schema({"predictions": array_schema(item)} | shared)
    one = object_schema(required | shared, optional)
    responses = predicts(
        json_content({"anyOf": [one, several]}) | other_types,
        timed=not explained,
        description="One prediction for a single row, else a list of them.",
    )
    return {
        "tags": [model.name],
        "summary": f"{model.name}: explained" if explained else model.name,
        "description": "A graph without a manifest; the features are its inputs.",
        "operationId": f"{'explain' if explained else 'predict'}_{model.name}",
        "requestBody": {"required": True, "content": content},
        "responses": complete_responses(errors | responses),
    }


def describe_type(spec: TensorSpec) -> Schema:
    """Return the schema of exactly the values that an input accepts."""
    dtype = DTYPES[spec.datatype]
    if dtype.kind == "O":
        return dict(STRING)
    if dtype.kind == "b":
        return {"type": ["boolean", "integer"], "enum": [True, False, 0, 1]}
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return {"type": "integer", "minimum": int(limits.min), "maximum": int(limits.max)}
    if spec.datatype == "FP64":
        return {"type": ["number", "null"]}
    largest = MAX_NUMBER if spec.datatype == "FP32" else int(np.finfo(dtype).max)
    return {"type": ["number", "null"], "minimum": -largest, "maximum": largest}


def _describe_prediction(model: ModelInfo, outputs: GraphOutputs) -> tuple[Schema, Schema]:
    """Return the required and the optional properties of one prediction."""
    if outputs.classes is None:
        return dict.fromkeys(free_names(model.outputs), _ANY), {}
    labels = outputs.classes.labels
    required = {"label": STRING | {"enum": labels}, "probability": _SHARE}
    probabilities = {"type": "object", "properties": dict.fromkeys(labels, _SHARE)}
    return required, {"probabilities": probabilities}
