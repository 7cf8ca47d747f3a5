"""Responses in OpenAPI: the error contract, one for each status code, and simple objects.

Codes and descriptions come from the error classes, statuses from `service.api.errors.STATUS`.
"""

import inspect
from http import HTTPStatus
from typing import Any

from service import errors
from service.api.body import JSON
from service.api.errors import FRAMEWORK_CODES, RETRY_AFTER, STATUS

Schema = dict[str, Any]
# FastAPI's own type of a route's responses.
Responses = dict[int | str, dict[str, Any]]

_FIRST_ERROR = 400

_PROBLEM: Schema = {
    "type": "object",
    "required": ["sentence"],
    "properties": {
        "sentence": {"type": "string"},
        "row": {"type": "integer", "description": "From 0, where there are several."},
        "feature": {"type": "string"},
        "expected": {"type": "string"},
        "got": {"type": "string"},
        "hint": {"type": "string"},
    },
    "additionalProperties": False,
}
_ERROR: Schema = {
    "type": "object",
    "required": ["error", "code"],
    "properties": {
        "error": {"type": "string", "description": "One sentence that a person can act on."},
        "code": {
            "type": "string",
            "enum": sorted({kind.code for kind in STATUS} | {*FRAMEWORK_CODES.values()}),
        },
        "details": {
            "type": "array",
            "items": _PROBLEM,
            "maxItems": errors.PROBLEMS_SHOWN,
            "description": "Of wrong values: one for each, up to a hundred.",
        },
    },
    "additionalProperties": False,
}
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
    """The responses of an operation that may raise these errors, for a route's declaration."""
    return {str(STATUS[kind].value): {} for kind in kinds}


def returns(**kinds: str) -> Responses:
    """The response of an operation that succeeds: an object.

    Args:
        kinds: the JSON type of each of its required keys.
    """
    properties = {name: {"type": kind} for name, kind in kinds.items()}
    schema = {"type": "object", "required": list(kinds), "properties": properties}
    return {"200": {"content": {JSON: {"schema": schema}}}}


# What any request may get, whatever its path: its head is read before its path is known.
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
"""Also those of tables, which reach the same path."""
TABLE_ERRORS: Responses = PREDICTION_ERRORS | fails_with(errors.SpoolFull)


def add_errors(document: Schema) -> None:
    """Complete each operation's responses, and add the components that they refer to."""
    components = document.setdefault("components", {})
    components.setdefault("schemas", {})["Error"] = _ERROR
    components["headers"] = _HEADERS
    statuses = {*STATUS.values(), *FRAMEWORK_CODES}
    components["responses"] = {_name(status): _response(status) for status in sorted(statuses)}
    for methods in document["paths"].values():
        for operation in methods.values():
            complete_responses(operation)


def complete_responses(operation: Schema) -> None:
    """Give an operation the error responses that any has, and its others their common headers."""
    responses = operation["responses"]
    # FastAPI's own status for a parameter that fails validation; the contract answers 400.
    responses.pop("422", None)
    for response in responses.values():
        response["headers"] = header("X-Request-Id") | response.get("headers", {})
    declared = {HTTPStatus(int(status)) for status in responses if int(status) >= _FIRST_ERROR}
    for status in sorted(declared | _ALWAYS):
        # A probe's 503 has a body of its own.
        if "content" not in responses.get(str(status.value), {}):
            responses[str(status.value)] = {"$ref": f"#/components/responses/{_name(status)}"}


def header(*names: str) -> Schema:
    """References to headers."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _name(status: HTTPStatus) -> str:
    return f"Error{status.value}"


def _response(status: HTTPStatus) -> Schema:
    meanings = {kind.code: _meaning(kind) for kind, its in STATUS.items() if its is status}
    if status in FRAMEWORK_CODES:
        meanings.setdefault(FRAMEWORK_CODES[status], "")
    codes = {"properties": {"code": {"enum": sorted(meanings)}}}
    names = ["X-Request-Id"]
    names += ["Retry-After"] if status in RETRY_AFTER else []
    names += ["Allow"] if status is HTTPStatus.METHOD_NOT_ALLOWED else []
    return {
        "description": f"{status.phrase}. "
        + " ".join(f"`{code}`: {meaning}" for code, meaning in meanings.items() if meaning),
        "headers": header(*names),
        "content": {
            JSON: {"schema": {"allOf": [{"$ref": "#/components/schemas/Error"}, codes]}},
        },
    }


def _meaning(kind: type[errors.OnwardError]) -> str:
    """The first sentence of an error's docstring."""
    return (inspect.getdoc(kind) or "").partition("\n")[0]
