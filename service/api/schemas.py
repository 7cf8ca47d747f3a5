"""OpenAPI schemas of the responses that routes share: errors by status code, and simple objects.

Codes and descriptions come from the error classes, statuses from `service.api.errors.STATUS`.
"""

import inspect
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from service import errors
from service.api.body import JSON
from service.api.errors import FIRST_ERROR, FRAMEWORK_CODES, RETRY_AFTER, STATUS

Schema = dict[str, Any]
STRING: Schema = {"type": "string"}
NULLABLE_STRING: Schema = {"type": ["string", "null"]}
INTEGER: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
OBJECT: Schema = {"type": "object"}
ANY: Schema = {}
FILE: Schema = STRING | {"format": "binary"}
ANY_MODEL = "Any model"
"""The tag of routes that take the name of a model; no model can have this name."""
# The type of the responses of a route in FastAPI.
Responses = dict[int | str, dict[str, Any]]


def object_schema(
    required: Schema, optional: Schema | None = None, *, closed: bool = False
) -> Schema:
    """Return the schema of an object with these keys; if it is closed, it may have no others."""
    properties = required | (optional or {})
    schema = {"type": "object", "required": list(required), "properties": properties}
    return schema | {"additionalProperties": False} if closed else schema


def array_schema(items: Schema, **rules: object) -> Schema:
    """Return the schema of an array, with further keywords such as ``minItems``."""
    return {"type": "array", "items": items, **rules}


STRINGS = array_schema(STRING)


def map_schema(values: Schema) -> Schema:
    """Return the schema of an object with any keys."""
    return OBJECT | {"additionalProperties": values}


def json_content(schema: Schema) -> Schema:
    """Return the content of a request or a response that is JSON."""
    return {JSON: {"schema": schema}}


def refer(name: str) -> Schema:
    """Return a reference to a component schema."""
    return {"$ref": f"#/components/schemas/{name}"}


_PROBLEM = object_schema(
    {"sentence": STRING},
    {"row": INTEGER | {"description": "From 0, if there are several."}}
    | dict.fromkeys(("feature", "expected", "got", "hint"), STRING),
    closed=True,
)
_CODES = sorted({kind.code for kind in STATUS} | {*FRAMEWORK_CODES.values()})


def _error_schema(codes: Sequence[str]) -> Schema:
    """Return the schema of errors with one of these codes."""
    details = array_schema(
        refer("Problem"),
        maxItems=errors.PROBLEMS_SHOWN,
        description="One for each invalid value, up to a hundred.",
    )
    return object_schema(
        {
            "error": STRING | {"description": "One sentence that a person can act on."},
            "code": STRING | {"enum": list(codes)},
        },
        {"details": details} if errors.InvalidInput.code in codes else {},
        closed=True,
    )


def _describe_header(description: str, kind: str = "string", *, required: bool = False) -> Schema:
    return {"description": description, "required": required, "schema": {"type": kind}}


_HEADERS = {
    "X-Request-Id": _describe_header(
        "The request's own, if it has one of at most 128 printable characters, else a new one. "
        "The log uses the same.",
        required=True,
    ),
    "X-Model-Version": _describe_header("The version that made the prediction."),
    "Server-Timing": _describe_header(
        "Milliseconds of each phase: decode, queue, compute, encode."
    ),
    "Retry-After": _describe_header(
        "Seconds to wait before the next attempt.", "integer", required=True
    ),
    "Allow": _describe_header("The methods of this path.", required=True),
}


def fails_with(*kinds: type[errors.OnwardError]) -> Responses:
    """Return the error responses of a route that may raise these errors."""
    return {str(STATUS[kind].value): {} for kind in kinds}


def returns(schema: Schema) -> Responses:
    """Return the successful response of a route whose JSON has this schema."""
    return {"200": {"content": json_content(schema)}}


def predicts(
    content: Schema, *, timed: bool = True, description: str = "Successful Response"
) -> Responses:
    """Return the successful response of a route that predicts, with the phases if it is timed."""
    headers = _refer_to_headers("X-Model-Version", *(["Server-Timing"] if timed else []))
    return {"200": {"description": description, "headers": headers, "content": content}}


def takes(content: Schema, **more: object) -> dict[str, Any]:
    """Return the options of a route whose body has this content, and more such as a description."""
    return {"openapi_extra": {"requestBody": {"required": True, "content": content, **more}}}


# Errors of any path: the head of a request is read before its path is known.
_ALWAYS: Responses = {
    "405": {},
    "500": {},
    **fails_with(
        errors.InvalidRequest,
        errors.NotFound,
        errors.HeadTimeout,
        errors.UrlTooLong,
        errors.HeadTooLarge,
        errors.TooManyRequests,
        errors.Draining,
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
TABLE_ERRORS: Responses = PREDICTION_ERRORS | fails_with(errors.SpoolFull, errors.TableReaderFailed)


def add_error_responses(document: Schema) -> None:
    """Complete the responses of each operation, and add the components that they refer to.

    These replace FastAPI's own, which describe errors that do not occur.
    """
    meanings = _describe_codes()
    document["components"] = {
        "schemas": {
            **{
                f"Error{status.value}": _error_schema(sorted(codes))
                for status, codes in meanings.items()
            },
            "Error": _error_schema(_CODES),
            "Problem": _PROBLEM,
        },
        "headers": _HEADERS,
        "responses": {
            f"Error{status.value}": _describe_error(status, codes)
            for status, codes in meanings.items()
        },
    }
    for methods in document["paths"].values():
        for operation in methods.values():
            operation["responses"] = complete_responses(operation["responses"])


def complete_responses(responses: Responses) -> Responses:
    """Add the errors of any path to the responses of an operation, and the common headers."""
    completed: Responses = {}
    for status, response in sorted((_ALWAYS | responses).items()):
        # Health checks have their own body of a 503.
        if int(status) >= FIRST_ERROR and "content" not in response:
            completed[status] = {"$ref": f"#/components/responses/Error{status}"}
        else:
            headers = _refer_to_headers("X-Request-Id") | response.get("headers", {})
            completed[status] = response | {"headers": headers}
    # FastAPI's status of an invalid parameter, which is 400 here.
    completed.pop("422", None)
    return completed


def _refer_to_headers(*names: str) -> Schema:
    """Return references to headers."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _describe_codes() -> dict[HTTPStatus, dict[str, str]]:
    """Return the codes of each status of an error, with what they mean."""
    found: dict[HTTPStatus, dict[str, str]] = {}
    for kind, status in STATUS.items():
        meaning = (inspect.getdoc(kind) or "").partition("\n")[0]
        found.setdefault(status, {})[kind.code] = meaning
    for status, code in FRAMEWORK_CODES.items():
        found.setdefault(status, {}).setdefault(code, "")
    return dict(sorted(found.items()))


def _describe_error(status: HTTPStatus, meanings: Mapping[str, str]) -> Schema:
    headers = ["X-Request-Id"]
    headers += ["Retry-After"] if status in RETRY_AFTER else []
    headers += ["Allow"] if status is HTTPStatus.METHOD_NOT_ALLOWED else []
    return {
        "description": f"{status.phrase}. "
        + " ".join(f"`{code}`: {meaning}" for code, meaning in meanings.items() if meaning),
        "headers": _refer_to_headers(*headers),
        "content": json_content(refer(f"Error{status.value}")),
    }
