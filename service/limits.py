"""Limits that the requests of one process share, checked before work starts.

Each limit is a setting. A request that exceeds one is rejected at once, and counted by the code of
its error. Limits on what a single request may hold are checked here too, so that every protocol
applies the same rule.
"""

from collections.abc import Callable
from time import monotonic
from typing import Protocol, Self

from service.errors import (
    DecompressionRatioExceeded,
    OnwardError,
    ParsedBodyTooLarge,
    SpoolFull,
    TooManyBytesInFlight,
    TooManyFormParts,
    TooManyJsonMembers,
    TooManyQueryParameters,
    TooManyRequests,
    TooManyRows,
    TooManyTables,
)
from service.settings import Settings

CountRejection = Callable[[str], None]

QUOTAS = "onward.quotas"
"""In an ASGI scope: the `RequestQuotas` of its request."""
UNCOUNTED_BODY_BYTES = 64 * 1024
"""Up to this size bodies are not counted; the number of connections bounds them."""

# Each value of a JSON document but the first of its container follows one of these. An array or an
# object counts twice, for it takes twice the time and memory of a number.
_JSON_SEPARATORS = ((b",", 1), (b":", 1), (b"[", 2), (b"{", 2))
# A separator is counted at 1 GB/s with the interpreter locked; other threads run between pieces.
_PIECE_BYTES = 1024 * 1024
# The most that orjson and simdjson take for a value, measured over lists, objects, nested and empty
# ones, long and short keys, numbers and strings: docs/decisions/0023-limits.md.
_BYTES_PER_JSON_VALUE = 112
# A string is copied once more where base64 is decoded or an error shows a part of it. Python stores
# its characters in one, two or four bytes each, by the widest of them.
_COPIES_OF_JSON = (2, 4, 10)
# A string of a BYTES tensor: its object, and its references in a list and an array.
_BYTES_PER_STRING = 100
_STRING_PREFIX_BYTES = 4
_COPIES_OF_STRINGS = 4
_COPIES_OF_BINARY = 2
# A body may take so long to arrive, whoever else wants its place.
_RECENT_SECONDS = 5.0
# Short bodies of a repeated row are compressed better than any limit on the ratio would allow.
_RATIO_CHECKED_ABOVE_BYTES = 1024 * 1024


class ArrivingBody(Protocol):
    """A request body that is waited for."""

    def holds(self, quota: "Quota") -> bool:
        """Whether its request holds some of a quota."""

    def interrupt(self, error: OnwardError) -> None:
        """End the wait for its client with this error."""


class ArrivingBodies:
    """The request bodies that are arriving, the oldest first; only for use on the event loop.

    A client that sends slowly holds some of a quota all the while. Where a quota is used up, the
    body that has been arriving longest is rejected too, so that no client can keep all of it.
    """

    def __init__(self) -> None:
        self._since: dict[ArrivingBody, float] = {}

    def add(self, body: ArrivingBody) -> None:
        """Note that a body has begun to arrive."""
        self._since.setdefault(body, monotonic())

    def remove(self, body: ArrivingBody) -> None:
        """Forget a body that has arrived, or has been given up."""
        self._since.pop(body, None)

    def make_room(self, quota: "Quota", error: OnwardError) -> None:
        """Reject the oldest body whose request holds some of this quota, unless all are recent."""
        now = monotonic()
        for body, since in self._since.items():
            if now - since < _RECENT_SECONDS:
                return
            if body.holds(quota):
                self.remove(body)
                body.interrupt(error)
                return


class Quota:
    """An amount that all requests of a process share; only for use on the event loop.

    Args:
        limit: the most that may be in use.
        error: makes the error of a request that would exceed it, given the limit.
        count: called with the code of each such error.
        arriving: the bodies of which one is rejected to make room.
    """

    __slots__ = ("_arriving", "_count", "_error", "limit", "used")

    def __init__(
        self,
        limit: int,
        error: Callable[[int], OnwardError],
        count: CountRejection,
        arriving: ArrivingBodies | None = None,
    ) -> None:
        self.limit = limit
        self.used = 0
        self._error = error
        self._count = count
        self._arriving = arriving

    def acquire(self, amount: int = 1) -> None:
        """Take an amount; raises this quota's error where that would exceed the limit."""
        if self.used + amount > self.limit:
            # Not a local variable: with its traceback it would be a cycle, which would keep what
            # the frames above hold, such as a body, until the next garbage collection.
            raise self.rejection()
        self.used += amount

    def rejection(self) -> OnwardError:
        """The error of a request that would exceed the limit, counted."""
        if self._arriving is not None:
            self._arriving.make_room(self, self._error(self.limit))
        error = self._error(self.limit)
        self._count(error.code)
        return error

    def release(self, amount: int = 1) -> None:
        """Give an amount back."""
        self.used -= amount

    def hold(self, amount: int = 0) -> "Reservation":
        """An amount that one request holds, to be used as a context manager."""
        return Reservation(self, amount)


class Reservation:
    """What one request holds of a quota. Leaving the context gives all of it back.

    Args:
        quota: shared by all requests.
        amount: taken on entering the context.
    """

    __slots__ = ("_quota", "amount")

    def __init__(self, quota: Quota, amount: int = 0) -> None:
        self._quota = quota
        self.amount = amount

    def __enter__(self) -> Self:
        """Take the amount; raises the quota's error where that would exceed its limit."""
        self._quota.acquire(self.amount)
        return self

    def __exit__(self, *_: object) -> None:
        """Give back all that is held."""
        self._quota.release(self.amount)
        self.amount = 0

    def add(self, amount: int) -> None:
        """Take more; raises the quota's error where that would exceed its limit."""
        self._quota.acquire(amount)
        self.amount += amount

    def give_back(self, amount: int) -> None:
        """Give a part back early."""
        self._quota.release(amount)
        self.amount -= amount

    def set(self, amount: int) -> None:
        """Hold this amount instead; raises the quota's error where that would exceed its limit."""
        if amount > self.amount:
            self.add(amount - self.amount)
        else:
            self.give_back(self.amount - amount)

    def move(self) -> "Reservation":
        """A reservation of all that is held; this one then holds nothing."""
        moved = Reservation(self._quota)
        moved.amount, self.amount = self.amount, 0
        return moved

    def release(self) -> None:
        """Give all of it back."""
        self.__exit__()


class Limits:
    """All limits of one process.

    Args:
        settings: the operator's values.
        count: called with the error code of each rejected request.
    """

    def __init__(self, settings: Settings, count: CountRejection = lambda _: None) -> None:
        self._count = count
        self._max_rows = settings.max_request_rows
        self._max_json_members = settings.max_json_members
        self._max_query_parameters = settings.max_query_parameters
        self._max_ratio = settings.max_decompression_ratio
        self._max_form_parts = settings.max_form_parts
        self.requests = Quota(settings.max_concurrent_requests, TooManyRequests, count)
        """Requests being processed, from the moment their body has arrived."""
        self.arriving = ArrivingBodies()
        self.tables = Quota(settings.max_concurrent_tables, TooManyTables, count, self.arriving)
        """Tables being scored."""
        self.body_bytes = Quota(
            settings.max_bytes_in_flight, TooManyBytesInFlight, count, self.arriving
        )
        """Bytes of bodies, compressed, decompressed and parsed."""
        self.spool_bytes = Quota(settings.max_spool_bytes, lambda _: SpoolFull(), count)
        """Bytes of responses in temporary files."""

    def rejected(self, error: OnwardError) -> OnwardError:
        """Count a rejection; gives the error back, to be raised."""
        self._count(error.code)
        return error

    def require_query(self, query: bytes) -> None:
        """Reject a query string with too many parameters.

        Raises:
            TooManyQueryParameters: it has.
        """
        if query and query.count(b"&") + query.count(b";") >= self._max_query_parameters:
            raise self.rejected(TooManyQueryParameters(self._max_query_parameters))

    def require_json(self, body: bytes) -> int:
        """Reject a JSON body with too many values, before it is parsed; from any thread.

        Returns:
            The number of values, arrays and objects twice, or more: separators within strings
            count too.

        Raises:
            TooManyJsonMembers: it has too many.
        """
        values = 0
        for start in range(0, len(body), _PIECE_BYTES):
            end = start + _PIECE_BYTES
            values += sum([n * body.count(sign, start, end) for sign, n in _JSON_SEPARATORS])
            self.require_values(values)
        return values

    def require_values(self, values: int) -> None:
        """Reject a request with too many values that become Python objects.

        Raises:
            TooManyJsonMembers: it has.
        """
        if values > self._max_json_members:
            raise self.rejected(TooManyJsonMembers(self._max_json_members))

    def decoded_bytes(self, body: bytes, json_bytes: int, *, strings: bool) -> int:
        """The most memory that decoding a body takes, beyond the body; from any thread.

        Args:
            body: the whole body.
            json_bytes: how many of its first bytes are JSON.
            strings: whether the others may be a BYTES tensor.

        Raises:
            TooManyJsonMembers: the JSON has too many values.
            ParsedBodyTooLarge: no budget would be large enough.
        """
        needed = 0
        if json_bytes:
            text = body if json_bytes == len(body) else body[:json_bytes]
            needed = _BYTES_PER_JSON_VALUE * self.require_json(text)
            needed += _COPIES_OF_JSON[_width_of(text)] * json_bytes
        rest = len(body) - json_bytes
        if strings:
            most = min(rest // _STRING_PREFIX_BYTES, self._max_json_members)
            needed += _COPIES_OF_STRINGS * rest + _BYTES_PER_STRING * most
        else:
            needed += _COPIES_OF_BINARY * rest
        if len(body) + needed > self.body_bytes.limit:
            raise self.rejected(ParsedBodyTooLarge(self.body_bytes.limit))
        return needed

    def require_ratio(self, compressed: int, decompressed: int) -> None:
        """Reject a compressed body that expands too much.

        Args:
            compressed: bytes decompressed so far.
            decompressed: bytes that they expanded to.

        Raises:
            DecompressionRatioExceeded: that is too many.
        """
        if decompressed > max(_RATIO_CHECKED_ABOVE_BYTES, self._max_ratio * compressed):
            raise self.rejected(DecompressionRatioExceeded(self._max_ratio))

    def require_rows(self, rows: int) -> None:
        """Reject a request with too many rows.

        Raises:
            TooManyRows: it has.
        """
        if rows > self._max_rows:
            raise self.rejected(TooManyRows(self._max_rows))

    def require_form_parts(self, parts: int) -> None:
        """Reject a multipart form with too many parts.

        Raises:
            TooManyFormParts: it has.
        """
        if parts > self._max_form_parts:
            raise self.rejected(TooManyFormParts(self._max_form_parts))


class RequestQuotas:
    """What one request holds of the shared quotas, until its response has been sent.

    Args:
        limits: of the process.
    """

    __slots__ = ("_requests", "_table", "body", "limits", "was_large")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.was_large = False
        """Whether it was a table, or its body was counted."""
        self._table = Reservation(limits.tables)
        self.body = Reservation(limits.body_bytes)
        """Bytes of its body, and later of its tensors or its response."""
        self._requests = Reservation(limits.requests)

    def start(self) -> None:
        """Count the request as being processed: its body has arrived.

        Raises:
            TooManyRequests: as many as allowed are.
        """
        self._requests.add(1)

    def start_table(self) -> None:
        """Count the request as a table that is scored.

        Raises:
            TooManyTables: as many as allowed are.
        """
        self._table.add(1)
        self.was_large = True

    def holds(self, quota: Quota) -> bool:
        """Whether the request holds some of a quota of bodies or tables."""
        if quota is self.limits.tables:
            return self._table.amount > 0
        return quota is self.limits.body_bytes and self.body.amount > 0

    def hold_bytes(self, size: int) -> None:
        """Hold so many bytes from now on; small ones are not counted.

        Raises:
            TooManyBytesInFlight: all requests together would hold too many.
        """
        is_counted = size > UNCOUNTED_BODY_BYTES
        if is_counted or self.body.amount:
            self.was_large = True
            self.body.set(size if is_counted else 0)

    def release(self) -> None:
        """Give everything back."""
        for held in (self.body, self._table, self._requests):
            if held.amount:
                held.release()


def _width_of(text: bytes) -> int:
    """How wide the characters of this JSON may be: 0 up to U+00FF, 1 up to U+FFFF, 2 beyond."""
    if b"\\u" in text:
        return 2
    if text.isascii():
        return 0
    # The first byte of a character beyond U+FFFF, in UTF-8.
    return 2 if any(bytes([first]) in text for first in range(0xF0, 0xF5)) else 1
