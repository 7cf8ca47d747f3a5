"""OpenAPI schemas of v1."""

from typing import Any

from service.api.schemas import (
    ANY,
    MODEL_ERRORS,
    NULLABLE_STRING,
    OBJECT,
    PREDICTION_ERRORS,
    STRING,
    STRINGS,
    Schema,
    array_schema,
    json_content,
    map_schema,
    object_schema,
    predicts,
    refer,
    returns,
    takes,
)

_SIGNATURE: Schema = {"signature_name": NULLABLE_STRING}
_SCORE: Schema = {"type": ["number", "null"]}
_LABEL_AND_SCORE: Schema = {
    "type": "array",
    "prefixItems": [STRING, _SCORE],
    "minItems": 2,
    "maxItems": 2,
}
_SIGNATURES = map_schema(
    object_schema(
        {
            "inputs": map_schema(refer("V1Tensor")),
            "outputs": map_schema(refer("V1Tensor")),
            "method_name": STRING,
        }
    )
)
V1_SCHEMAS: Schema = {
    "V1PredictRequest": {"oneOf": [refer("V1Instances"), refer("V1Inputs")]},
    "V1Instances": object_schema({"instances": array_schema(ANY, minItems=1)}, _SIGNATURE),
    "V1Inputs": object_schema({"inputs": ANY}, _SIGNATURE),
    "V1PredictResponse": {"oneOf": [refer("V1Predictions"), refer("V1Outputs")]},
    "V1Predictions": object_schema({"predictions": array_schema(ANY)}),
    "V1Outputs": object_schema({"outputs": ANY}),
    "V1ExamplesRequest": object_schema(
        {"examples": array_schema(OBJECT, minItems=1)}, _SIGNATURE | {"context": OBJECT}
    ),
    "V1ClassifyResponse": object_schema({"results": array_schema(array_schema(_LABEL_AND_SCORE))}),
    "V1RegressResponse": object_schema({"results": array_schema(_SCORE)}),
    "V1ModelList": object_schema({"models": STRINGS}),
    "V1Status": object_schema(
        {
            "name": STRING,
            "ready": {"type": "boolean"},
            "model_version_status": array_schema(refer("V1VersionStatus")),
        }
    ),
    "V1VersionStatus": object_schema(
        {
            "version": STRING,
            "state": STRING,
            "status": object_schema({"error_code": STRING, "error_message": STRING}),
        }
    ),
    "V1Metadata": object_schema(
        {
            "model_spec": object_schema(
                dict.fromkeys(("name", "signature_name", "version"), STRING)
            ),
            # In TensorFlow Serving, `signature_def` is a message with a field of the same name.
            "metadata": object_schema(
                {"signature_def": object_schema({"signature_def": _SIGNATURES})}
            ),
        }
    ),
    "V1Tensor": object_schema(
        {
            "dtype": STRING,
            "name": STRING,
            "tensor_shape": object_schema(
                {
                    "dim": array_schema(object_schema({"size": STRING, "name": STRING})),
                    "unknown_rank": {"type": "boolean"},
                }
            ),
        }
    ),
}


def _options(request: str, response: str) -> dict[str, Any]:
    """Return the options of prediction routes."""
    responses = PREDICTION_ERRORS | predicts(json_content(refer(response)))
    return takes(json_content(refer(request))) | {"responses": responses}


PREDICT = _options("V1PredictRequest", "V1PredictResponse")
CLASSIFY = _options("V1ExamplesRequest", "V1ClassifyResponse")
REGRESS = _options("V1ExamplesRequest", "V1RegressResponse")
MODELS = returns(refer("V1ModelList"))
STATUS = returns(refer("V1Status"))
METADATA = MODEL_ERRORS | returns(refer("V1Metadata"))
