"""OpenAPI schemas of the native protocol that hold for every model."""

from typing import Any

from service.api.native.forms import MULTIPART
from service.api.schemas import (
    ANY,
    FILE,
    INTEGER,
    MODEL_ERRORS,
    NULLABLE_STRING,
    NUMBER,
    OBJECT,
    STRING,
    STRINGS,
    TABLE_ERRORS,
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
from service.engine.registry import State

BOOLEAN: Schema = {"type": "boolean"}
_TABLES: Schema = {form: {"schema": STRING} for form in ("text/csv", "application/x-ndjson")}
_SUMMARY: tuple[Schema, Schema] = (
    {"name": STRING, "version": STRING, "ready": BOOLEAN},
    {
        "reason": STRING | {"description": "Why it does not serve."},
        "in_memory": BOOLEAN | {"description": "False if the first request loads it."},
        "title": STRING,
        "description": STRING,
        "task": STRING | {"enum": ["regression", "binary", "multiclass"]},
        "input": STRING | {"enum": ["features", "image"]},
        "feature_count": INTEGER,
        "feature_names": STRINGS | {"description": "The first eight."},
        "output": OBJECT,
        "metric": refer("MainMetric"),
        "device": STRING,
    },
)
_FEATURE = object_schema(
    {"name": STRING, "type": STRING},
    {
        "description": STRING,
        "unit": STRING,
        "datatype": STRING,
        "optional": BOOLEAN | {"description": "Whether the value may be missing."},
        "example": ANY,
        "allowed": refer("FeatureRange"),
        "trained": refer("FeatureRange"),
        "categories": STRINGS,
        "unseen": STRING | {"enum": ["reject", "other"]},
        "format": STRING | {"description": "Of dates and times."},
        "missing": STRINGS,
        "statistics": OBJECT,
    },
)
_DETAILS: Schema = {
    "execution": STRING | {"enum": ["inline", "batched"]},
    "execution_details": OBJECT,
    "features": array_schema(refer("ModelFeature")),
    "image": OBJECT,
    "outputs": array_schema(OBJECT),
    "scaler": OBJECT,
    "evaluation": refer("ModelEvaluation"),
    "provenance": OBJECT,
}
_EVALUATION: tuple[Schema, Schema] = (
    {
        "part": STRING | {"enum": ["test", "cross-validation", "given"]},
        "rows": INTEGER,
        "metrics": map_schema(NUMBER),
        "baseline": object_schema({"name": STRING, "metrics": map_schema(NUMBER)}),
    },
    {"folds": INTEGER, "split": OBJECT},
)
_VERSIONS: Schema = {
    "versions": array_schema(refer("ModelVersion")),
    "aliases": map_schema(refer("ModelAlias")),
}
NATIVE_SCHEMAS: Schema = {
    "ModelList": object_schema(
        {"models": array_schema(refer("ModelSummary")), "device": refer("DeviceChoice")}
    ),
    "DeviceChoice": object_schema({"requested": STRING, "actual": STRING}, {"reason": STRING}),
    "ModelSummary": object_schema(*_SUMMARY),
    "ModelDetails": object_schema(_SUMMARY[0] | _VERSIONS, _SUMMARY[1] | _DETAILS),
    "MainMetric": object_schema(
        {
            "name": STRING,
            "value": NUMBER,
            "rows": INTEGER | {"description": "On which it was measured."},
        },
        {
            "baseline": NUMBER,
            "mae": NUMBER | {"description": "The mean absolute error, next to the RMSE."},
            "baseline_mae": NUMBER,
        },
    ),
    "ModelFeature": _FEATURE,
    "FeatureRange": object_schema({}, {"minimum": NUMBER, "maximum": NUMBER}),
    "ModelVersion": object_schema(
        {"version": STRING, "state": STRING | {"enum": [state.value for state in State]}},
        {"reason": STRING},
    ),
    "ModelAlias": object_schema(
        {"version": NULLABLE_STRING},
        {"waits_for": STRING, "share": NUMBER, "shadow": NUMBER},
    ),
    "ModelEvaluation": object_schema(*_EVALUATION),
    "ModelMetrics": object_schema(
        {"name": STRING, "version": STRING, "metric": refer("MainMetric")} | _EVALUATION[0],
        _EVALUATION[1],
    ),
    "BodyOfAnyModel": {"anyOf": [OBJECT, array_schema(ANY), STRING]},
    "FilesOfAnyModel": object_schema({}, {"image": array_schema(FILE)}),
    "PredictionOfAnyModel": object_schema(
        {"model_version": STRING},
        {
            "predictions": array_schema(OBJECT),
            "label": STRING,
            "probability": {"type": ["number", "null"]},
            "probabilities": map_schema({"type": ["number", "null"]}),
            "unsure": BOOLEAN,
            "value": ANY,
            "unit": STRING,
            "warnings": STRINGS,
        },
    ),
    "ExplanationOfAnyModel": object_schema(
        {"model_version": STRING, "method": STRING, "meaning": STRING},
        {"predictions": array_schema(OBJECT), "explanation": OBJECT, "reference": OBJECT},
    ),
    "ShadowReport": object_schema(
        {
            "name": STRING,
            "version": STRING,
            "serving_version": STRING,
            "since": NULLABLE_STRING,
            "requests": object_schema(dict.fromkeys(("compared", "dropped", "failed"), INTEGER)),
            "rows": INTEGER,
            "agreement": {"type": ["number", "null"]},
            "mean_difference": {"type": ["number", "null"]},
            "largest_differences": array_schema(OBJECT),
            "milliseconds": OBJECT,
        },
        {"failure": STRING, "labels": array_schema(OBJECT)},
    ),
}


def documented_body(tables: Schema) -> Schema:
    """Return the OpenAPI description of a body: rows or images, and these media types of tables."""
    content = {
        **json_content(refer("BodyOfAnyModel")),
        **tables,
        "image/*": {"schema": FILE},
        MULTIPART: {"schema": refer("FilesOfAnyModel")},
    }
    description = (
        "An object by feature name, an array of rows, or an object of instances; or images"
        + ("; or a table" if tables else "")
        + ". The path of each model describes its input exactly."
    )
    return takes(content, description=description)


PREDICT: dict[str, Any] = documented_body(_TABLES) | {
    "name": "create_prediction",
    "responses": TABLE_ERRORS | predicts(json_content(refer("PredictionOfAnyModel")) | _TABLES),
}
MODEL: dict[str, Any] = {"responses": returns(refer("ModelDetails"))}
METRICS: dict[str, Any] = {"responses": MODEL_ERRORS | returns(refer("ModelMetrics"))}
