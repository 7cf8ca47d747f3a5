"""Errors as HTTP responses: one table of status codes, one form of body."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from http import HTTPStatus

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from service import errors
from service.api.body import json_response
from service.codecs.messages import error_document
from service.values import format_value

STATUS: Mapping[type[errors.OnwardError], HTTPStatus] = {
    errors.InvalidRequest: HTTPStatus.BAD_REQUEST,
    errors.InvalidInput: HTTPStatus.BAD_REQUEST,
    errors.UnsupportedContent: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    errors.BodyTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.BodyStalled: HTTPStatus.REQUEST_TIMEOUT,
    errors.HeadTimeout: HTTPStatus.REQUEST_TIMEOUT,
    errors.FeatureNotImplemented: HTTPStatus.NOT_IMPLEMENTED,
    errors.HeadTooLarge: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    errors.TooManyHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    errors.UrlTooLong: HTTPStatus.REQUEST_URI_TOO_LONG,
    errors.TooManyQueryParameters: HTTPStatus.REQUEST_URI_TOO_LONG,
    errors.DecompressionRatioExceeded: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.TooManyRows: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.TooManyJsonMembers: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.ParsedBodyTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.TooManyFormParts: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.RecordTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.InputRejected: HTTPStatus.BAD_REQUEST,
    errors.NotAllowed: HTTPStatus.FORBIDDEN,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.ModelNotFound: HTTPStatus.NOT_FOUND,
    errors.VersionNotFound: HTTPStatus.NOT_FOUND,
    errors.ModelNotReady: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.ModelUnservable: HTTPStatus.CONFLICT,
    errors.Overloaded: HTTPStatus.TOO_MANY_REQUESTS,
    errors.QueueTooLong: HTTPStatus.TOO_MANY_REQUESTS,
    errors.DeadlineExceeded: HTTPStatus.GATEWAY_TIMEOUT,
    errors.Draining: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.TooManyConnections: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.TooManyRequests: HTTPStatus.TOO_MANY_REQUESTS,
    errors.TooManyTables: HTTPStatus.TOO_MANY_REQUESTS,
    errors.TooManyBytesInFlight: HTTPStatus.TOO_MANY_REQUESTS,
    errors.SpoolFull: HTTPStatus.INSUFFICIENT_STORAGE,
    errors.TableReaderFailed: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.WorkerFailed: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.InferenceFailed: HTTPStatus.INTERNAL_SERVER_ERROR,
}

# Errors that are not an `OnwardError`: those of the framework, and bugs of the service.
_INTERNAL_ERROR = "internal_error"
FRAMEWORK_CODES: Mapping[HTTPStatus, str] = {
    status: status.name.lower() for status in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)
} | {HTTPStatus.INTERNAL_SERVER_ERROR: _INTERNAL_ERROR}

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_MAX_PATH_LENGTH = 200

FIRST_ERROR = HTTPStatus.BAD_REQUEST
"""The lowest status of an error."""
RETRY_AFTER = {HTTPStatus.TOO_MANY_REQUESTS: "1", HTTPStatus.SERVICE_UNAVAILABLE: "5"}


def error_response(error: Exception) -> Response:
    """Return the response to an exception; unexpected ones are a 500."""
    if isinstance(error, errors.OnwardError):
        status = STATUS.get(type(error), HTTPStatus.INTERNAL_SERVER_ERROR)
        problems = error.problems if isinstance(error, errors.InvalidInput) else ()
        return _response(status, str(error), error.code, problems)
    return _response(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "Internal error of the service; its log has the trace under the x-request-id of this "
        "response.",
        _INTERNAL_ERROR,
    )


def read_error_code(status: int, body: bytes) -> str | None:
    """Return the code of the error that a response reports, or None if it reports none."""
    if status < FIRST_ERROR:
        return None
    with suppress(ValueError, KeyError, TypeError):
        code: str = orjson.loads(body)["code"]
        return code
    return None


def add_error_handlers(
    app: FastAPI,
    find_example: Callable[[Request], str | None] = lambda _: None,
    root_path: str = "",
) -> None:
    """Respond to every error in the same form, including those of the framework.

    Args:
        app: whose routes may raise errors.
        find_example: returns a command that sends a valid request to a path that was requested with
            the wrong method; None if there is none.
        root_path: the prefix that a proxy adds to paths.
    """

    @app.exception_handler(errors.OnwardError)
    async def onward_error(_: Request, error: errors.OnwardError) -> Response:
        return error_response(error)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        return _framework_response(request, error, find_example, root_path)

    @app.exception_handler(RequestValidationError)
    async def invalid_parameter(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        name, given, reason = first["loc"][-1], format_value(first["input"]), first["msg"]
        sentence = f"Parameter {name!r} is not valid, got {given}: {reason}."
        return error_response(errors.InvalidRequest(sentence))


def _framework_response(
    request: Request,
    error: HTTPException,
    find_example: Callable[[Request], str | None],
    root_path: str,
) -> Response:
    path = request.url.path
    if len(path) > _MAX_PATH_LENGTH:
        path = f"{path[: _MAX_PATH_LENGTH - 1]}…"
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = _find_methods(request) or headers["Allow"].split(", ")
        headers["Allow"] = ", ".join(allowed)
        example = find_example(request)
        such = "" if example is None else f", such as: {example}"
        sentence = (
            f"{request.method} is not allowed for {path}; use {' or '.join(allowed)}{such or '.'}"
        )
    elif error.status_code == HTTPStatus.NOT_FOUND:
        sentence = (
            f"There is nothing at {path}; GET {root_path}/models lists the models, "
            f"{root_path}/docs every path."
        )
    else:
        sentence = str(error.detail)
    status = HTTPStatus(error.status_code)
    response = _response(status, sentence, status.name.lower())
    response.headers.update(headers)
    return response


def _find_methods(request: Request) -> list[str]:
    """Return the methods of all routes of a path; none if the route itself rejected the method."""

    def is_handled(method: str) -> bool:
        scope = {**request.scope, "method": method}
        return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)

    if is_handled(request.method):
        return []
    found = [method for method in _METHODS if is_handled(method)]
    return ["GET", "HEAD", *found[1:]] if "GET" in found else found


def _response(
    status: HTTPStatus, sentence: str, code: str, problems: Sequence[errors.Problem] = ()
) -> Response:
    body = error_document(sentence, code, problems)
    headers = {"retry-after": RETRY_AFTER[status]} if status in RETRY_AFTER else None
    return json_response(body, status, headers)
