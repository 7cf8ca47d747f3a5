"""The errors of the client, with the sentence of the service as their message.

OnwardClientError
├── InvalidData          the data cannot be sent; nothing was sent
├── InvalidRequest       400 and other errors of the request; `problems` lists the values
│   └── RequestTooLarge  413
├── NotAllowed           401, 403
├── ModelNotFound        the model or the version does not exist
├── ModelNotReady        the model exists and does not serve
├── Overloaded           429, 503 and 507: retry later
├── RequestTimeout       the time of the client or of the service is over
├── ServiceUnreachable   no connection, or a connection that broke
└── ServiceError         500 and everything unexpected, such as the page of a proxy
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, Self

_TITLE = re.compile(r"<title(?: [^<>]{0,200})?>([^<]{1,200})</title>", re.IGNORECASE)
_TAGS = re.compile(r"(?:<[^<>]*>|\s)+")
_EXCERPT = 120


@dataclass(frozen=True)
class Problem:
    """One value that the service rejected.

    ``row`` counts from 0 in the data that was passed; None if that was one row.
    """

    sentence: str
    row: int | None = None
    feature: str | None = None
    expected: str | None = None
    got: str | None = None
    hint: str | None = None


class OnwardClientError(Exception):
    """The base of all errors of the client.

    Attributes:
        message: what is wrong, and what to change.
        status: the HTTP status; None if there was no response.
        code: the service's name of the error, such as ``invalid_input``.
        request_id: the ID under which the service's log has the request.
        problems: the rejected values, at most a hundred.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        problems: Sequence[Problem] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code
        self.request_id = request_id
        self.problems = tuple(problems)

    def shift_rows(self, offset: int, rows: int) -> Self:
        """Return the error for rows that followed ``offset`` others in the data.

        ``rows`` is their number in the request; the service does not number a single one.
        """
        problems = [_shift_problem(problem, offset, rows) for problem in self.problems]
        message = self.message
        if self.problems:
            message = message.replace(self.problems[0].sentence, problems[0].sentence, 1)
        return self.replace_message(message, problems)

    def replace_message(self, message: str, problems: Sequence[Problem] = ()) -> Self:
        """Return the error of the same response with another sentence."""
        return type(self)(
            message,
            status=self.status,
            code=self.code,
            request_id=self.request_id,
            problems=problems,
        )


class InvalidData(OnwardClientError, ValueError):
    """The data cannot be sent; nothing was sent."""


class InvalidRequest(OnwardClientError):
    """The service rejected the request; `problems` lists the invalid values."""


class RequestTooLarge(InvalidRequest):
    """The request exceeds a limit of the service."""


class NotAllowed(OnwardClientError):
    """A key is missing or wrong, or the operator has not enabled this function."""


class ModelNotFound(OnwardClientError):
    """The service has no such model, or no such version of it."""


class ModelNotReady(OnwardClientError):
    """The model exists and does not serve; the message gives the reason."""


class Overloaded(OnwardClientError):
    """The service has too much to do, or is stopping; retry later."""


class RequestTimeout(OnwardClientError):
    """The request took longer than the client or the service allows."""


class ServiceUnreachable(OnwardClientError):
    """There is no connection to the service, or it broke."""


class ServiceError(OnwardClientError):
    """The service failed, or something else responded."""


_BY_CODE: Mapping[str, type[OnwardClientError]] = {
    "model_not_found": ModelNotFound,
    "version_not_found": ModelNotFound,
    "model_not_ready": ModelNotReady,
    "model_unservable": ModelNotReady,
}
_BY_STATUS: Mapping[int, type[OnwardClientError]] = {
    401: NotAllowed,
    403: NotAllowed,
    408: RequestTimeout,
    413: RequestTooLarge,
    429: Overloaded,
    503: Overloaded,
    504: RequestTimeout,
    507: Overloaded,
}


def error_of_response(
    status: int, headers: Mapping[str, str], content: bytes, url: str
) -> OnwardClientError:
    """Return the error of a response with status 400 or above, from the service or a proxy."""
    request_id = headers.get("x-request-id")
    by_status = _BY_STATUS.get(status, InvalidRequest if status < 500 else ServiceError)  # noqa: PLR2004 - HTTP
    document = _parse_error(content)
    if document is None:
        kind = by_status if issubclass(by_status, NotAllowed | Overloaded) else ServiceError
        sentence = describe_foreign(status, headers, content, url)
        return kind(sentence, status=status, request_id=request_id)
    code = document.get("code")
    return _BY_CODE.get(str(code), by_status)(
        document["error"],
        status=status,
        code=code if isinstance(code, str) else None,
        request_id=request_id,
        problems=_read_problems(document.get("details")),
    )


def describe_foreign(status: int, headers: Mapping[str, str], content: bytes, url: str) -> str:
    """Return a sentence about a response that is not the service's own."""
    name = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else ""
    text = content[:65536].decode("utf-8", "replace")
    title = _TITLE.search(text)
    excerpt = _TAGS.sub(" ", title[1] if title else text).strip()[:_EXCERPT].strip()
    kind = headers.get("content-type", "").partition(";")[0] or "no content type"
    return (
        f"{url} responded with {status} {name}".rstrip()
        + f" and {kind} instead of the service's JSON"
        + (f': "{excerpt}"' if excerpt else "")
        + ". Check the address, and the proxy in front of the service."
    )


def _parse_error(content: bytes) -> dict[str, Any] | None:
    """Return the document of an error of the service; None if it is something else."""
    try:
        document = json.loads(content)
    except ValueError:
        return None
    is_error = isinstance(document, dict) and isinstance(document.get("error"), str)
    return document if is_error else None


def _read_problems(details: object) -> list[Problem]:
    if not isinstance(details, list):
        return []
    known = Problem.__dataclass_fields__.keys()
    return [
        Problem(**{key: value for key, value in detail.items() if key in known})
        for detail in details
        if isinstance(detail, dict) and "sentence" in detail
    ]


def _shift_problem(problem: Problem, offset: int, rows: int) -> Problem:
    if problem.row is None:
        if rows != 1:
            return problem
        return replace(problem, row=offset, sentence=_number(problem.sentence, offset))
    row = problem.row + offset
    sentence = re.sub(rf"^(Row|Image) {problem.row}:", rf"\1 {row}:", problem.sentence)
    return replace(problem, row=row, sentence=sentence)


def _number(sentence: str, row: int) -> str:
    return f"Row {row}: {sentence[:1].lower()}{sentence[1:]}"
