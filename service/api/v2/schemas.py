"""OpenAPI schemas of v2, the Open Inference Protocol."""

from typing import Any

from service.api.body import BINARY
from service.api.schemas import (
    ANY,
    BODY_ERRORS,
    FILE,
    INTEGER,
    NULLABLE_STRING,
    OBJECT,
    PREDICTION_ERRORS,
    STRING,
    STRINGS,
    Schema,
    array_schema,
    fails_with,
    json_content,
    object_schema,
    predicts,
    refer,
    returns,
    takes,
)
from service.engine.registry import State
from service.engine.tensors import DTYPES
from service.errors import NotAllowed

_SIZE: Schema = {"type": "integer", "minimum": 0}
_PARAMETERS: Schema = {"parameters": OBJECT | {"description": "Of the protocol's extensions."}}
_BYTES: Schema = {
    BINARY: {
        "schema": FILE
        | {
            "description": "JSON of Inference-Header-Content-Length bytes, followed by the bytes "
            "of the tensors; if that header is 0, only the bytes of the one input.",
        }
    }
}
_DATATYPE = STRING | {"enum": list(DTYPES)}
_DURATION = refer("V2Duration")
_COMPUTE = dict.fromkeys(("compute_input", "compute_infer", "compute_output"), _DURATION)
_DURATIONS = dict.fromkeys(("success", "fail", "queue", "cache_hit", "cache_miss"), _DURATION)
_TENSOR_CONFIG: Schema = {"name": STRING, "data_type": STRING, "dims": array_schema(INTEGER)}
V2_SCHEMAS: Schema = {
    "V2Server": object_schema({"name": STRING, "version": STRING, "extensions": STRINGS}),
    "V2Tensor": object_schema(
        {"name": STRING, "shape": array_schema(_SIZE), "datatype": _DATATYPE},
        _PARAMETERS | {"data": array_schema(ANY, description="Flat, row by row, or nested.")},
    ),
    "V2Request": object_schema(
        {"inputs": array_schema(refer("V2Tensor"))},
        {
            "id": NULLABLE_STRING,
            "model_name": STRING,
            **_PARAMETERS,
            "outputs": array_schema(refer("V2RequestedOutput")),
        },
        closed=True,
    ),
    "V2RequestedOutput": object_schema({"name": STRING}, _PARAMETERS),
    "V2Response": object_schema(
        {
            "model_name": STRING,
            "model_version": STRING,
            "outputs": array_schema(refer("V2Tensor")),
        },
        {"id": STRING},
    ),
    "V2ModelMetadata": object_schema(
        {
            "name": STRING,
            "versions": STRINGS,
            "platform": STRING,
            "inputs": array_schema(refer("V2TensorMetadata")),
            "outputs": array_schema(refer("V2TensorMetadata")),
        }
    ),
    "V2TensorMetadata": object_schema(
        {"name": STRING, "datatype": _DATATYPE, "shape": array_schema(INTEGER)}, _PARAMETERS
    ),
    "V2Ready": object_schema({"name": STRING, "ready": {"type": "boolean"}}),
    "V2ModelConfig": object_schema(
        {
            "name": STRING,
            "platform": STRING,
            "backend": STRING,
            "max_batch_size": _SIZE,
            "input": array_schema(refer("V2InputConfig")),
            "output": array_schema(refer("V2OutputConfig")),
        }
    ),
    "V2InputConfig": object_schema(_TENSOR_CONFIG | {"format": STRING}),
    "V2OutputConfig": object_schema(_TENSOR_CONFIG),
    "V2Statistics": object_schema({"model_stats": array_schema(refer("V2ModelStatistics"))}),
    "V2ModelStatistics": object_schema(
        {
            "name": STRING,
            "version": STRING,
            "last_inference": _SIZE,
            "inference_count": _SIZE,
            "execution_count": _SIZE,
            "inference_stats": object_schema(_DURATIONS | _COMPUTE),
            "batch_stats": array_schema(object_schema({"batch_size": _SIZE} | _COMPUTE)),
        }
    ),
    "V2Duration": object_schema({"count": _SIZE, "ns": _SIZE}),
    "V2IndexRequest": object_schema({}, {"ready": {"type": "boolean"}}),
    "V2IndexEntry": object_schema(
        {
            "name": STRING,
            "version": STRING,
            "state": STRING | {"enum": [state.value for state in State]},
            "reason": STRING,
        },
        {"aliases": STRINGS},
    ),
    "V2Region": object_schema({"key": STRING, "byte_size": _SIZE}, {"offset": _SIZE}),
    "V2RegisteredRegion": object_schema(
        {"name": STRING, "key": STRING, "offset": _SIZE, "byte_size": _SIZE}
    ),
}

INFER: dict[str, Any] = takes(json_content(refer("V2Request")) | _BYTES) | {
    "responses": PREDICTION_ERRORS | predicts(json_content(refer("V2Response")) | _BYTES)
}
INDEX: dict[str, Any] = takes(json_content(refer("V2IndexRequest")), required=False) | {
    "responses": BODY_ERRORS | returns(array_schema(refer("V2IndexEntry")))
}
EMPTY = returns(object_schema({}))
IF_ALLOWED = fails_with(NotAllowed)
REGIONS = IF_ALLOWED | returns(array_schema(refer("V2RegisteredRegion")))
REGISTER: dict[str, Any] = takes(json_content(refer("V2Region"))) | {
    "responses": IF_ALLOWED | BODY_ERRORS | EMPTY
}
READY = returns(refer("V2Ready"))
READY["503"] = {"description": "It does not serve, or the service is stopping.", **READY["200"]}
