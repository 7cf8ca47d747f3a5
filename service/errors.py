"""Exceptions whose messages are sentences; `service.api.errors` maps them to status codes.

OnwardError
├── InvalidRequest            the client must change the request
│   ├── InvalidInput          some values are wrong; `problems` lists them by row
│   ├── UnsupportedContent    a media type or encoding that is not supported
│   ├── BodyTooLarge
│   ├── BodyStalled
│   ├── HeadTimeout
│   ├── FeatureNotImplemented a part of HTTP that is not supported
│   ├── LimitExceeded         the request exceeds one of the operator's limits
│   │   ├── HeadTooLarge
│   │   ├── TooManyHeaders
│   │   ├── UrlTooLong
│   │   ├── TooManyQueryParameters
│   │   ├── DecompressionRatioExceeded
│   │   ├── TooManyRows
│   │   ├── TooManyJsonMembers
│   │   ├── ParsedBodyTooLarge
│   │   ├── TooManyFormParts
│   │   └── RecordTooLarge
│   └── InputRejected         the model cannot compute these values
├── NotFound
│   ├── ModelNotFound
│   └── VersionNotFound
├── Unavailable               the same request may succeed later
│   ├── ModelNotReady
│   ├── ModelUnservable       … once its file has been fixed
│   ├── Overloaded            … once fewer rows are queued
│   │   └── QueueTooLong
│   ├── DeadlineExceeded
│   ├── Draining
│   ├── CapacityExceeded      … once other requests have finished
│   │   ├── TooManyConnections
│   │   ├── TooManyRequests
│   │   ├── TooManyTables
│   │   └── TooManyBytesInFlight
│   ├── SpoolFull
│   ├── TableReaderFailed
│   └── WorkerFailed          some workers did not apply a change
├── NotAllowed                the operator has not enabled this
├── InferenceFailed           the model failed on valid rows
├── LoadFailed                a model cannot be served; not sent over HTTP
│   └── GraphRejected         ONNX Runtime cannot serve a bare model's graph
└── CannotStart               the settings cannot be applied on this machine
    ├── DeviceUnavailable
    └── NoModels
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.spelling import (
    NAMES_SHOWN,
    describe_missing_version,
    format_subject,
    join_names,
    suggest_model,
)

PROBLEMS_SHOWN = 100
_LONGEST_NAME = 128


class OnwardError(Exception):
    """The base class of all errors that Onward raises deliberately.

    ``code`` identifies the error in responses and metrics: the name of its class in snake case.
    """

    code = "error"

    def __init_subclass__(cls) -> None:
        if "code" not in vars(cls):
            cls.code = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()


class _NumericMessage(Exception):
    """A mixin for errors whose message states one number; ``{s}`` and ``{are}`` agree with it."""

    template: str

    def __init__(self, number: float) -> None:
        words = {"s": "", "are": "is"} if number == 1 else {"s": "s", "are": "are"}
        super().__init__(self.template.format(number, **words))


@dataclass(frozen=True)
class Problem:
    """One invalid value of a request: its position, what was expected and received, a hint."""

    sentence: str
    row: int | None = None
    feature: str | None = None
    expected: str | None = None
    got: str | None = None
    hint: str | None = None

    @property
    def text(self) -> str:
        """The sentence, followed by the hint."""
        return self.sentence if self.hint is None else f"{self.sentence} {self.hint}"


class InvalidRequest(OnwardError):
    """The request cannot be understood."""


class InvalidInput(InvalidRequest):
    """The model does not accept some of the values; all problems are reported together.

    Args:
        problems: at least one, in the order of the rows; the first hundred are reported.
        count: the total number of problems, if ``problems`` does not contain all of them.
    """

    def __init__(self, problems: Sequence[Problem], count: int | None = None) -> None:
        self.problems = problems[:PROBLEMS_SHOWN]
        self.count = count or len(problems)
        text = problems[0].text
        if self.count > 1:
            text = f"{self.count} problems. The first: {text}"
        super().__init__(text)


class UnsupportedContent(InvalidRequest):
    """The media type or encoding of the body is not supported."""

    def __init__(self, header: str, got: str, accepted: Iterable[str], hint: str = "") -> None:
        super().__init__(f"{header} {got!r} is not supported; send {' or '.join(accepted)}.{hint}")


class BodyTooLarge(InvalidRequest):
    """The body exceeds the limit, by default ``ONWARD_MAX_BODY_BYTES``."""

    def __init__(
        self,
        limit: int,
        advice: str = "send fewer rows per request, or ask the operator to raise "
        "ONWARD_MAX_BODY_BYTES",
    ) -> None:
        super().__init__(f"The body is larger than the limit of {limit:,} bytes; {advice}.")


class BodyStalled(_NumericMessage, InvalidRequest):
    """The body arrives too slowly, or has stopped arriving."""

    template = (
        "The body made too little progress for {:g} s; send it without such pauses, or in "
        "several requests."
    )


class HeadTimeout(_NumericMessage, InvalidRequest):
    """The headers of the request did not arrive in time."""

    template = "The request's headers did not arrive within {:g} s; send them at once."


class FeatureNotImplemented(InvalidRequest):
    """The request uses a part of HTTP that this service does not implement."""

    code = "not_implemented"

    def __init__(self, feature: str) -> None:
        super().__init__(f"{feature} is not implemented; use HTTP/1.1 without it.")


class LimitExceeded(InvalidRequest):
    """The request exceeds one of the operator's limits."""


class HeadTooLarge(_NumericMessage, LimitExceeded):
    """The request line and headers have too many bytes."""

    template = (
        "The request line and headers are larger than the limit of {:,} byte{s}; send "
        "fewer or shorter headers."
    )


class TooManyHeaders(_NumericMessage, LimitExceeded):
    """The request has too many headers."""

    template = "The request has more than {:,} header{s}; send fewer."


class UrlTooLong(_NumericMessage, LimitExceeded):
    """The request's URL has too many bytes."""

    template = "The URL is longer than the limit of {:,} byte{s}; send data in the body."


class TooManyQueryParameters(_NumericMessage, LimitExceeded):
    """The query string has too many parameters."""

    template = "The query string has more than {:,} parameter{s}; send data in the body."


class DecompressionRatioExceeded(_NumericMessage, LimitExceeded):
    """The compressed body expands to too many bytes."""

    template = (
        "The compressed body expands to more than {:,} times its size; send it "
        "uncompressed, or in several requests."
    )


class TooManyRows(_NumericMessage, LimitExceeded):
    """The request has too many rows or images."""

    template = (
        "The request has more than {:,} row{s}; send several requests, or send a table as "
        "text/csv or application/x-ndjson, which may have any number of rows."
    )


class TooManyJsonMembers(_NumericMessage, LimitExceeded):
    """The request has too many JSON values, or strings in BYTES tensors."""

    template = (
        "The request has more than {:,} JSON value{s} or string{s}; send fewer rows, or send "
        "numbers as binary tensors by POST /v2/models/NAME/infer."
    )


class ParsedBodyTooLarge(_NumericMessage, LimitExceeded):
    """The body would take too much memory when parsed, even if no other request ran."""

    template = "The body may take more than {:,} bytes when it is parsed; send fewer rows."


class TooManyFormParts(_NumericMessage, LimitExceeded):
    """The multipart form has too many parts."""

    template = (
        "The form has more than {:,} part{s}; send fewer files per request, or send them in "
        "JSON as base64."
    )


class RecordTooLarge(LimitExceeded):
    """A record of a table has too many bytes or lines."""

    def __init__(self, limit: int, unit: str = "bytes") -> None:
        super().__init__(
            f"A record is larger than the limit of {limit:,} {unit}; check for a row "
            "without a line break at its end, and for a quotation mark that is never closed.",
        )


class InputRejected(InvalidRequest):
    """The model cannot compute this input.

    Either ONNX Runtime cannot run a bare model, which declares no valid ranges, on it, or the
    output of a bundle is not finite.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"Model {name!r} cannot compute this input: {reason}")


class NotFound(OnwardError):
    """The requested path or object does not exist."""


class ModelNotFound(NotFound):
    """There is no model of this name."""

    def __init__(self, name: str, available: Sequence[str]) -> None:
        # Both reference clients of the Open Inference Protocol search for this first clause.
        text = f"Request for unknown model: {name[:_LONGEST_NAME]!r} is not found"
        end = suggest_model(name, available) if available else "the models folder is empty."
        super().__init__(f"{text}; {end}")


class VersionNotFound(NotFound):
    """The model has no such version, or ``alias`` points to a version that does not exist."""

    def __init__(
        self,
        name: str,
        version: str,
        available: Sequence[str],
        aliases: Sequence[str] = (),
        alias: str | None = None,
    ) -> None:
        if alias is not None:
            existing = join_names(available, NAMES_SHOWN) or "none"
            super().__init__(
                f"Alias {alias!r} of model {name!r} points to version {version}, which does not "
                f"exist; available: {existing}."
            )
            return
        known_aliases = None if version.isdecimal() and not aliases else aliases
        super().__init__(describe_missing_version(name, version, available, known_aliases))


class Unavailable(OnwardError):
    """The request cannot be processed now; it may succeed later."""


class ModelNotReady(Unavailable):
    """The model exists but is not ready."""

    def __init__(self, name: str, version: str, reason: str) -> None:
        self.version = version
        reason = reason.removesuffix(".")
        super().__init__(f"Model {name!r} version {version} is not ready: {reason}.")


class ModelUnservable(Unavailable):
    """The model exists, but ONNX Runtime cannot serve its file."""

    def __init__(self, name: str, version: str, reason: str) -> None:
        self.version = version
        reason = reason.removesuffix(".")  # it may be a sentence of ONNX Runtime
        super().__init__(f"Model {name!r} version {version} cannot be served: {reason}.")


class NotAllowed(OnwardError):
    """The operator has not enabled this."""


class Overloaded(Unavailable):
    """More rows are queued than the operator allows."""

    template = "{} waiting and the limit is {:,}; try again."

    def __init__(self, waiting: int, limit: float) -> None:
        super().__init__(self.template.format(format_subject(waiting, "row"), limit))


class QueueTooLong(Overloaded):
    """Computing the queued rows takes longer than the deadline."""

    template = "{} waiting, which takes longer than the deadline of {:g} s; try again."


class DeadlineExceeded(_NumericMessage, Unavailable):
    """The prediction took longer than the deadline."""

    template = "No response within {:g} s; send fewer rows per request, or try again later."


class Draining(Unavailable):
    """The service is stopping."""

    def __init__(self) -> None:
        super().__init__(
            "The service is stopping and accepts no new requests; retry on another instance."
        )


class CapacityExceeded(Unavailable):
    """A resource that requests share is in use up to its limit (``service.limits``)."""


class TooManyConnections(_NumericMessage, CapacityExceeded):
    """All connections that the operator allows are in use."""

    template = "All {:,} connections are in use; try again."


class TooManyRequests(_NumericMessage, CapacityExceeded):
    """As many requests are being processed as the operator allows."""

    template = "{:,} request{s} {are} being processed, which is the limit; try again."


class TooManyTables(_NumericMessage, CapacityExceeded):
    """As many tables are being scored as the operator allows."""

    template = "{:,} table{s} {are} being scored, which is the limit; try again."


class TooManyBytesInFlight(_NumericMessage, CapacityExceeded):
    """The bodies of all requests take as many bytes as the operator allows."""

    template = (
        "The requests in progress hold {:,} bytes, which is the limit; send a smaller "
        "request, or try again."
    )


class SpoolFull(Unavailable):
    """No space is left to store the response to a table whose client does not read it."""

    def __init__(self) -> None:
        super().__init__(
            "There is no space left to store this response while you send; read the response while "
            "you send the table, send a smaller table, or try again later."
        )


class TableReaderFailed(Unavailable):
    """The process that reads a table file has ended, not for lack of memory."""


class WorkerFailed(Unavailable):
    """Some workers did not apply a load or unload; ``reasons`` say why, by process id."""

    def __init__(self, name: str, reasons: Mapping[str, str], workers: int) -> None:
        details = "; ".join(f"process {process}: {reason}" for process, reason in reasons.items())
        super().__init__(
            f"Model {name!r}: {len(reasons)} of {workers} workers did not apply the change, so "
            f"responses may differ until the call is repeated. {details}"
        )


class InferenceFailed(OnwardError):
    """ONNX Runtime failed on rows that passed every check."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"Model {name!r} failed on this input: {reason}")


class LoadFailed(OnwardError):
    """A model cannot be served; the message is the reason."""


class GraphRejected(LoadFailed):
    """ONNX Runtime cannot serve a bare model's graph: its file, its operators, or its types."""


class CannotStart(OnwardError):
    """The settings cannot be applied on this machine."""


class DeviceUnavailable(CannotStart):
    """The device in the settings cannot be used."""

    def __init__(self, device: str, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"Device {device!r} was requested but cannot be used: {reason}. "
            "Fix that, or start with --device auto (or cpu)."
        )


class NoModels(CannotStart):
    """The models folder does not exist."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"The models folder {str(folder)!r} does not exist; set --models or ONWARD_MODELS."
        )
