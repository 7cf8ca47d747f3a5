"""What can go wrong, as sentences built from facts; HTTP status codes live in `service.api.errors`.

OnwardError
├── InvalidRequest            the caller must change the request
│   ├── InvalidInput          some values are wrong; `problems` says which, row by row
│   ├── UnsupportedContent    a media type or encoding we do not read
│   ├── BodyTooLarge
│   ├── BodyStalled
│   ├── HeadTimeout
│   ├── NotImplementedHere    a part of HTTP that we do not speak
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
│   └── InputRefused          a bare model's graph cannot compute these values
├── NotFound
│   ├── ModelNotFound
│   └── VersionNotFound
├── Unavailable               the same request may succeed later
│   ├── ModelNotReady
│   ├── ModelUnservable       … once its file has been mended
│   ├── Overloaded
│   ├── DeadlineExceeded
│   ├── Draining
│   ├── CapacityExceeded      … once other requests have finished
│   │   ├── TooManyConnections
│   │   ├── TooManyRequests
│   │   ├── TooManyTables
│   │   └── TooManyBytesInFlight
│   ├── SpoolFull
│   └── WorkerFailed          … of several workers, some did not follow a call
├── NotAllowed                the operator has not switched this on
├── InferenceFailed           the model itself failed on these rows
├── LoadFailed                a model cannot be served; never reaches an HTTP caller by itself
│   └── GraphRefused
└── CannotStart               the machine does not allow what the settings ask
    ├── DeviceUnavailable
    └── NoModels
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.spelling import nearest

PROBLEMS_SHOWN = 100
_NAMES_SHOWN = 20
_LONGEST_NAME = 128


class OnwardError(Exception):
    """The root of every error that Onward raises on purpose."""

    code = "error"


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a request's values: where, what was wanted, what came, what to do."""

    sentence: str
    row: int | None = None
    feature: str | None = None
    expected: str | None = None
    got: str | None = None
    hint: str | None = None


class InvalidRequest(OnwardError):
    """The request cannot be understood."""

    code = "invalid_request"


class InvalidInput(InvalidRequest):
    """Values that the model cannot take, all of them at once.

    Args:
        problems: at least one, in the order of the rows; the first hundred are kept.
        count: how many there are in all, where ``problems`` is not all of them.
    """

    code = "invalid_input"

    def __init__(self, problems: Sequence[Problem], count: int | None = None) -> None:
        self.problems = problems[:PROBLEMS_SHOWN]
        self.count = count or len(problems)
        first = problems[0]
        text = first.sentence if first.hint is None else f"{first.sentence} {first.hint}"
        if self.count > 1:
            text = f"{self.count} problems. The first: {text}"
        super().__init__(text)


class UnsupportedContent(InvalidRequest):
    """The body's media type or encoding is not one we read here."""

    code = "unsupported_content"

    def __init__(self, header: str, got: str, accepted: Iterable[str], hint: str = "") -> None:
        super().__init__(f"{header} {got!r} is not read here; send {' or '.join(accepted)}.{hint}")


class BodyTooLarge(InvalidRequest):
    """The body is above the limit, by default the operator's for predictions."""

    code = "body_too_large"

    def __init__(
        self,
        limit: int,
        advice: str = "send fewer rows a request, or ask the operator to raise "
        "ONWARD_MAX_BODY_BYTES",
    ) -> None:
        super().__init__(f"The body is larger than the limit of {limit:,} bytes; {advice}.")


class BodyStalled(InvalidRequest):
    """A body arrives too slowly, or has stopped arriving."""

    code = "body_stalled"

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"The body made too little progress for {seconds:g} s; send it without such pauses, "
            "or in several requests."
        )


class HeadTimeout(InvalidRequest):
    """The headers of a request did not arrive in time."""

    code = "head_timeout"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The request's headers did not arrive within {seconds:g} s.")


class NotImplementedHere(InvalidRequest):
    """The request uses a part of HTTP that this service does not implement."""

    code = "not_implemented"

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} is not implemented here.")


class _StatesLimit(Exception):
    """An error whose sentence names the limit that was exceeded."""

    sentence = "The request exceeds the limit of {limit:,}."

    def __init__(self, limit: int) -> None:
        super().__init__(self.sentence.format(limit=limit))


class LimitExceeded(_StatesLimit, InvalidRequest):
    """The request exceeds one of the operator's limits."""

    code = "limit_exceeded"


class HeadTooLarge(LimitExceeded):
    """The request line and headers have too many bytes."""

    code = "head_too_large"
    sentence = (
        "The request line and headers are larger than the limit of {limit:,} bytes; send "
        "fewer or shorter headers."
    )


class TooManyHeaders(LimitExceeded):
    """The request has too many headers."""

    code = "too_many_headers"
    sentence = "The request has more than {limit:,} headers; send fewer."


class UrlTooLong(LimitExceeded):
    """The request's URL has too many bytes."""

    code = "url_too_long"
    sentence = "The URL is longer than the limit of {limit:,} bytes; send data in the body."


class TooManyQueryParameters(LimitExceeded):
    """The query string has too many parameters."""

    code = "too_many_query_parameters"
    sentence = "The query string has more than {limit:,} parameters; send data in the body."


class DecompressionRatioExceeded(LimitExceeded):
    """A compressed body expands too much."""

    code = "decompression_ratio_exceeded"
    sentence = (
        "The compressed body expands to more than {limit:,} times its size; send it "
        "uncompressed, or in several requests."
    )


class TooManyRows(LimitExceeded):
    """One request has too many rows or images."""

    code = "too_many_rows"
    sentence = (
        "The request has more than {limit:,} rows; send several requests, or send a table as "
        "text/csv or application/x-ndjson, which may have any number of rows."
    )


class TooManyJsonMembers(LimitExceeded):
    """A request has too many JSON values, or strings in BYTES tensors."""

    code = "too_many_json_members"
    sentence = (
        "The request has more than {limit:,} JSON values or strings; send fewer rows, or send "
        "numbers as binary tensors by POST /v2/models/NAME/infer."
    )


class ParsedBodyTooLarge(LimitExceeded):
    """A body that would take too much memory when parsed, even if no other request ran."""

    code = "parsed_body_too_large"
    sentence = "The body may take more than {limit:,} bytes when it is parsed; send fewer rows."


class TooManyFormParts(LimitExceeded):
    """A multipart form has too many parts."""

    code = "too_many_form_parts"
    sentence = (
        "The form has more than {limit:,} parts; send fewer files a request, or send them in "
        "JSON as base64."
    )


class RecordTooLarge(LimitExceeded):
    """One record of a table has too many bytes or lines."""

    code = "record_too_large"

    def __init__(self, limit: int, unit: str = "bytes") -> None:
        self.sentence = (
            f"A record is larger than the limit of {{limit:,}} {unit}; look for a row that does "
            "not end its line, or a quotation mark that is never closed."
        )
        super().__init__(limit)


class InputRefused(InvalidRequest):
    """The runtime cannot compute a bare model on this input; nothing else knows its rules."""

    code = "input_refused"

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"Model {name!r} cannot compute this input: {reason}")


class NotFound(OnwardError):
    """There is no such thing here."""

    code = "not_found"


class ModelNotFound(NotFound):
    """No model of this name."""

    code = "model_not_found"

    def __init__(self, name: str, available: Sequence[str]) -> None:
        # Both reference clients of the Open Inference Protocol look for this first clause.
        text = f"Request for unknown model: {_shown(name)} is not found"
        if close := nearest(name, available):
            text += f"; did you mean {close!r}?"
        elif available:
            text += f"; available: {_listed(available)}."
        else:
            text += "; the models folder is empty."
        super().__init__(text)


class VersionNotFound(NotFound):
    """The model exists, this version of it does not, or ``alias`` is set to one that does not."""

    code = "version_not_found"

    def __init__(
        self,
        name: str,
        version: str,
        available: Sequence[str],
        aliases: Sequence[str] = (),
        alias: str | None = None,
    ) -> None:
        there = _listed(available) or "none"
        if alias is not None:
            super().__init__(
                f"Alias {alias!r} of model {name!r} is set to version {version}, which is not "
                f"there; available: {there}."
            )
            return
        if aliases or not version.isdecimal():
            there += f"; aliases: {_listed(aliases) or 'none'}"
        close = nearest(version, aliases)
        meant = f"; did you mean the alias {close!r}?" if close else "."
        super().__init__(
            f"Model {name!r} has no version {version[:60]!r}; available: {there}{meant}"
        )


class Unavailable(OnwardError):
    """Not now."""

    code = "unavailable"


class ModelNotReady(Unavailable):
    """The model exists and cannot answer."""

    code = "model_not_ready"

    def __init__(self, name: str, version: str, reason: str) -> None:
        self.version = version
        super().__init__(f"Model {name!r} version {version} is not ready: {reason}")


class ModelUnservable(Unavailable):
    """The model exists, and the runtime cannot serve its graph, now or later."""

    code = "model_unservable"

    def __init__(self, name: str, version: str, reason: str) -> None:
        self.version = version
        super().__init__(f"Model {name!r} version {version} cannot be served: {reason}")


class NotAllowed(OnwardError):
    """The operator has not switched this on."""

    code = "not_allowed"


class Overloaded(Unavailable):
    """More rows wait than the operator allows."""

    code = "overloaded"

    def __init__(self, waiting: int, limit: int) -> None:
        super().__init__(f"{waiting:,} rows are waiting and the limit is {limit:,}; try again.")


class QueueTooLong(Overloaded):
    """The rows that wait take longer than the deadline allows."""

    code = "queue_too_long"

    def __init__(self, waiting: int, seconds: float) -> None:
        Unavailable.__init__(
            self,
            f"{waiting:,} rows are waiting, which takes longer than the deadline of {seconds:g} s; "
            "try again.",
        )


class DeadlineExceeded(Unavailable):
    """The answer would have come too late."""

    code = "deadline_exceeded"

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"No answer within {seconds:g} s; send fewer rows a request, or try again later."
        )


class Draining(Unavailable):
    """The service is stopping."""

    code = "draining"

    def __init__(self) -> None:
        super().__init__("The service is stopping and takes no new work; send this elsewhere.")


class CapacityExceeded(_StatesLimit, Unavailable):
    """All that the operator allows is in use (``service.limits``)."""

    code = "capacity_exceeded"
    sentence = "{limit:,} are in use, which is the limit; try again."


class TooManyConnections(CapacityExceeded):
    """Every connection that the operator allows is in use."""

    code = "too_many_connections"
    sentence = "All {limit:,} connections are in use; try again."


class TooManyRequests(CapacityExceeded):
    """As many requests are being processed as the operator allows."""

    code = "too_many_requests"
    sentence = "{limit:,} requests are being processed, which is the limit; try again."


class TooManyTables(CapacityExceeded):
    """As many tables are being scored as the operator allows."""

    code = "too_many_tables"
    sentence = "{limit:,} tables are being scored, which is the limit; try again."


class TooManyBytesInFlight(CapacityExceeded):
    """The bodies of all requests take as many bytes as the operator allows."""

    code = "too_many_bytes_in_flight"
    sentence = (
        "The requests in progress hold {limit:,} bytes, which is the limit; send a smaller "
        "request, or try again."
    )


class SpoolFull(Unavailable):
    """There is no room for a table's response while its client does not read."""

    code = "spool_full"

    def __init__(self) -> None:
        super().__init__(
            "There is no room left to store this response while you send; read the response while "
            "you send the table, send a smaller table, or try again later."
        )


class WorkerFailed(Unavailable):
    """A call has reached this worker and not every other.

    Args:
        reasons: by the id of the worker's process, why it has not followed.
        workers: how many there are.
    """

    code = "worker_failed"

    def __init__(self, name: str, reasons: Mapping[str, str], workers: int) -> None:
        told = "; ".join(f"process {process}: {reason}" for process, reason in reasons.items())
        super().__init__(
            f"Model {name!r}: {len(reasons)} of {workers} workers did not follow, so answers may "
            f"differ until the call is repeated. {told}"
        )


class InferenceFailed(OnwardError):
    """The runtime failed on rows that passed every check."""

    code = "inference_failed"

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"Model {name!r} failed on this input: {reason}")


class LoadFailed(OnwardError):
    """A model that cannot be served, with the reason."""

    code = "load_failed"


class GraphRefused(LoadFailed):
    """The runtime cannot serve a bare model's graph: its file, its operators, or its types."""

    code = "graph_refused"


class CannotStart(OnwardError):
    """The machine does not allow what the settings ask."""

    code = "cannot_start"


class DeviceUnavailable(CannotStart):
    """The device that was demanded cannot be used."""

    code = "device_unavailable"

    def __init__(self, device: str, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"Device {device!r} was demanded and cannot be used: {reason}. "
            "Mend that, or start with --device auto (or cpu)."
        )


class NoModels(CannotStart):
    """The models folder does not exist."""

    code = "no_models"

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"The models folder {str(folder)!r} does not exist; name one with --models or "
            "ONWARD_MODELS."
        )


def _shown(name: str) -> str:
    """A name that a client chose, of bounded length."""
    return repr(name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…")


def _listed(names: Sequence[str]) -> str:
    """Names of models or versions, however many there are."""
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
