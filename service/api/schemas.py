"""OpenAPI schemas of the responses that routes share: errors by status code, and simple objects.

Codes and descriptions come from the error classes, statuses from `service.api.errors.STATUS`.
"""

import inspect
from http import HTTPStatus
from typing import Any

from service import errors
from service.api.body import JSON
from service.api.errors import FIRST_ERROR, FRAMEWORK_CODES, RETRY_AFTER, STATUS

Schema = dict[str, Any]
FILE: Schema = {"type": "string", "format": "binary"}
# The type of the responses of a route in FastAPI.
Responses = dict[int | str, dict[str, Any]]


def object_schema(properties: Schema, *required: str, closed: bool = False) -> Schema:
    """Return the schema of an object.

    Args:
        properties: the schemas by key.
        *required: the keys that it must have; by default all of them.
        closed: whether it may have no other keys.
    """
    schema = {
        "type": "object",
        "required": list(required or properties),
        "properties": properties,
    }
    return schema | {"additionalProperties": False} if closed else schema


_PROBLEM = object_schema(
    {
        "sentence": {"type": "string"},
        "row": {"type": "integer", "description": "From 0, if there are several."},
        "feature": {"type": "string"},
        "expected": {"type": "string"},
        "got": {"type": "string"},
        "hint": {"type": "string"},
    },
    "sentence",
    closed=True,
)
_ERROR = object_schema(
    {
        "error": {"type": "string", "description": "One sentence that a person can act on."},
        "code": {
            "type": "string",
            "enum": sorted({kind.code for kind in STATUS} | {*FRAMEWORK_CODES.values()}),
        },
        "details": {
            "type": "array",
            "items": _PROBLEM,
            "maxItems": errors.PROBLEMS_SHOWN,
            "description": "One for each invalid value, up to a hundred.",
        },
    },
    "error",
    "code",
    closed=True,
)
_HEADERS: Schema = {
    "X-Request-Id": {
        "description": "The request's own, if it has one of at most 128 printable characters, "
        "else a new one. The log uses the same.",
        "required": True,
        "schema": {"type": "string"},
    },
    "X-Model-Version": {
        "description": "The version that made the prediction.",
        "schema": {"type": "string"},
    },
    "Server-Timing": {
        "description": "Milliseconds of each phase: decode, queue, compute, encode.",
        "schema": {"type": "string"},
    },
    "Retry-After": {
        "description": "Seconds to wait before the next attempt.",
        "required": True,
        "schema": {"type": "integer"},
    },
    "Allow": {
        "description": "The methods of this path.",
        "required": True,
        "schema": {"type": "string"},
    },
}


def fails_with(*kinds: type[errors.OnwardError]) -> Responses:
    """Return the error responses of a route that may raise these errors."""
    return {str(STATUS[kind].value): {} for kind in kinds}


def returns(**kinds: str) -> Responses:
    """Return the successful response of a route: an object with these required keys and types."""
    schema = object_schema({name: {"type": kind} for name, kind in kinds.items()})
    return {"200": {"content": {JSON: {"schema": schema}}}}


# Errors of any path: the head of a request is read before its path is known.
_ALWAYS = {
    HTTPStatus.METHOD_NOT_ALLOWED,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    *(
        STATUS[kind]
        for kind in (
            errors.InvalidRequest,
            errors.NotFound,
            errors.HeadTimeout,
            errors.UrlTooLong,
            errors.HeadTooLarge,
            errors.TooManyRequests,
            errors.Draining,
        )
    ),
}
BODY_ERRORS = fails_with(errors.BodyStalled, errors.BodyTooLarge, errors.UnsupportedContent)
MODEL_ERRORS = fails_with(errors.ModelNotReady, errors.ModelUnservable)
PREDICTION_ERRORS: Responses = (
    BODY_ERRORS
    | MODEL_ERRORS
    | fails_with(
        errors.Overloaded, errors.QueueTooLong, errors.DeadlineExceeded, errors.InferenceFailed
    )
)
TABLE_ERRORS: Responses = PREDICTION_ERRORS | fails_with(errors.SpoolFull)


def add_error_responses(document: Schema) -> None:
    """Complete the responses of each operation, and add the components that they refer to."""
    components = document.setdefault("components", {})
    components.setdefault("schemas", {})["Error"] = _ERROR
    components["headers"] = _HEADERS
    statuses = {*STATUS.values(), *FRAMEWORK_CODES}
    components["responses"] = {_component(status): _response(status) for status in sorted(statuses)}
    for methods in document["paths"].values():
        for operation in methods.values():
            complete_responses(operation)


def complete_responses(operation: Schema) -> None:
    """Add the errors of any path to an operation, and the common headers to its responses."""
    responses = operation["responses"]
    # FastAPI's status of an invalid parameter, which is 400 here.
    responses.pop("422", None)
    for response in responses.values():
        response["headers"] = header("X-Request-Id") | response.get("headers", {})
    declared = {HTTPStatus(int(status)) for status in responses if int(status) >= FIRST_ERROR}
    for status in sorted(declared | _ALWAYS):
        # Health checks have their own body of a 503.
        if "content" not in responses.get(str(status.value), {}):
            responses[str(status.value)] = {"$ref": f"#/components/responses/{_component(status)}"}


def header(*names: str) -> Schema:
    """Return references to headers."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _component(status: HTTPStatus) -> str:
    return f"Error{status.value}"


def _response(status: HTTPStatus) -> Schema:
    meanings = {kind.code: _meaning(kind) for kind, mapped in STATUS.items() if mapped is status}
    if status in FRAMEWORK_CODES:
        meanings.setdefault(FRAMEWORK_CODES[status], "")
    codes = {"properties": {"code": {"enum": sorted(meanings)}}}
    headers = ["X-Request-Id"]
    headers += ["Retry-After"] if status in RETRY_AFTER else []
    headers += ["Allow"] if status is HTTPStatus.METHOD_NOT_ALLOWED else []
    return {
        "description": f"{status.phrase}. "
        + " ".join(f"`{code}`: {meaning}" for code, meaning in meanings.items() if meaning),
        "headers": header(*headers),
        "content": {
            JSON: {"schema": {"allOf": [{"$ref": "#/components/schemas/Error"}, codes]}},
        },
    }


def _meaning(kind: type[errors.OnwardError]) -> str:
    return (inspect.getdoc(kind) or "").partition("\n")[0]
