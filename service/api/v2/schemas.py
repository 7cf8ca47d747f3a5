"""OpenAPI schemas of the protocol's requests and responses."""

from typing import Any

from service.api.body import BINARY, JSON
from service.api.schemas import BODY_ERRORS, PREDICTION_ERRORS, Responses, Schema, header, returns
from service.engine.registry import State
from service.engine.tensors import DTYPES

_PARAMETERS: Schema = {"type": "object", "description": "Of the protocol's extensions."}
_BYTES: Schema = {
    "schema": {
        "type": "string",
        "format": "binary",
        "description": "JSON of Inference-Header-Content-Length bytes, followed by the bytes of "
        "the tensors; if that header is 0, only the bytes of the one input.",
    }
}


def _tensor(**more: Schema) -> Schema:
    return {
        "type": "object",
        "required": ["name", "shape", "datatype"],
        "properties": {
            "name": {"type": "string"},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
            "datatype": {"type": "string", "enum": list(DTYPES)},
            "parameters": _PARAMETERS,
            "data": {"type": "array", "description": "Flat, row by row, or nested."},
        }
        | more,
    }


def _body(schema: Schema, *, required: bool, **more: Schema) -> Schema:
    content = {JSON: {"schema": schema}} | more
    return {"requestBody": {"required": required, "content": content}}


_REQUEST: Schema = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": ["string", "null"]},
        "model_name": {"type": "string"},
        "parameters": _PARAMETERS,
        "inputs": {"type": "array", "items": _tensor()},
        "outputs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"type": "string"}, "parameters": _PARAMETERS},
            },
        },
    },
    "additionalProperties": False,
}
_RESPONSE: Schema = {
    "type": "object",
    "required": ["model_name", "model_version", "outputs"],
    "properties": {
        "model_name": {"type": "string"},
        "model_version": {"type": "string"},
        "id": {"type": "string"},
        "outputs": {"type": "array", "items": _tensor()},
    },
}

INFER: dict[str, Any] = {
    "openapi_extra": _body(_REQUEST, required=True, **{BINARY: _BYTES}),
    "responses": PREDICTION_ERRORS
    | {
        "200": {
            "headers": header("X-Model-Version", "Server-Timing"),
            "content": {JSON: {"schema": _RESPONSE}, BINARY: _BYTES},
        }
    },
}
"""Options of the inference routes."""

_INDEX_ENTRY: Schema = {
    "type": "object",
    "required": ["name", "version", "state", "reason"],
    "properties": {
        "name": {"type": "string"},
        "version": {"type": "string"},
        "state": {"type": "string", "enum": [state.value for state in State]},
        "reason": {"type": "string"},
        "aliases": {"type": "array", "items": {"type": "string"}},
    },
}
INDEX: dict[str, Any] = {
    "openapi_extra": _body(
        {"type": "object", "properties": {"ready": {"type": "boolean"}}}, required=False
    ),
    "responses": BODY_ERRORS
    | {"200": {"content": {JSON: {"schema": {"type": "array", "items": _INDEX_ENTRY}}}}},
}
"""Options of the route of the repository index."""

REGION = _body(
    {
        "type": "object",
        "required": ["key", "byte_size"],
        "properties": {
            "key": {"type": "string"},
            "offset": {"type": "integer", "minimum": 0},
            "byte_size": {"type": "integer", "minimum": 0},
        },
    },
    required=True,
)
"""The request body of the route that registers shared memory."""

METADATA = returns(
    name="string", versions="array", platform="string", inputs="array", outputs="array"
)
CONFIG = returns(
    name="string", backend="string", max_batch_size="integer", input="array", output="array"
)
STATISTICS = returns(model_stats="array")

_IS_READY: Schema = {
    "type": "object",
    "required": ["name", "ready"],
    "properties": {"name": {"type": "string"}, "ready": {"type": "boolean"}},
}
READY: Responses = {
    "200": {"content": {JSON: {"schema": _IS_READY}}},
    "503": {
        "description": "It does not serve, or the service is stopping.",
        "content": {JSON: {"schema": _IS_READY}},
    },
}
"""The responses of the readiness of a model."""
