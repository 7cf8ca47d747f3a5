"""Limits on single requests, and quotas that all requests of a process share.

Each limit is a setting and is checked before work starts. A request that exceeds one is rejected
immediately, and counted by its error code. All protocols use the same checks.
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
"""The key of a request's `RequestQuotas` in its ASGI scope."""
UNCOUNTED_BODY_BYTES = 64 * 1024
"""Bodies up to this size are not counted; the number of connections limits them."""
STRING_LENGTH_BYTES = 4
"""The length before each string in the bytes of a BYTES tensor."""

# Each value in a JSON document follows one of these. Arrays and objects count twice, because they
# take twice the time and memory of a number.
_JSON_SEPARATORS = ((b",", 1), (b":", 1), (b"[", 2), (b"{", 2))
# Counting separators holds the interpreter lock, at 1 GB/s; other threads run between pieces.
_PIECE_BYTES = 1024 * 1024
# The most memory that orjson or simdjson takes for a value, measured with lists and objects (nested
# or empty), long and short keys, numbers and strings: docs/decisions/0023-limits.md.
_BYTES_PER_JSON_VALUE = 112
# Memory for strings, as a multiple of the encoded text: decoding base64 and error messages copy
# strings again, and Python stores each character in one, two or four bytes.
_COPIES_OF_JSON = (2, 4, 10)
# Per string of a BYTES tensor: the object, and its references in a list and an array.
_BYTES_PER_STRING = 100
_COPIES_OF_STRINGS = 4
_COPIES_OF_BINARY = 2
# A body is not interrupted while it has been arriving for less than this.
_RECENT_SECONDS = 5.0
# Small bodies of repeated rows compress better than any reasonable limit on the ratio.
_RATIO_CHECKED_ABOVE_BYTES = 1024 * 1024


class ArrivingBody(Protocol):
    """A request body that is still arriving."""

    def holds(self, quota: "Quota") -> bool:
        """Return whether its request holds some of a quota."""

    def interrupt(self, error: OnwardError) -> None:
        """Stop waiting for the body, and reject its request with this error."""


class ArrivingBodies:
    """The request bodies that are still arriving, oldest first. Not thread-safe.

    A client that sends slowly holds some of a quota all the while. If a quota is used up, the body
    that has been arriving longest is rejected too, so that slow clients cannot block it.
    """

    def __init__(self) -> None:
        self._since: dict[ArrivingBody, float] = {}

    def add(self, body: ArrivingBody) -> None:
        """Add a body that has begun to arrive."""
        self._since.setdefault(body, monotonic())

    def remove(self, body: ArrivingBody) -> None:
        """Remove a body that has arrived or was rejected."""
        self._since.pop(body, None)

    def make_room(self, quota: "Quota", error: OnwardError) -> None:
        """Reject the oldest body that holds some of this quota, unless it began recently."""
        now = monotonic()
        for body, since in self._since.items():
            if now - since < _RECENT_SECONDS:
                return
            if body.holds(quota):
                self.remove(body)
                body.interrupt(error)
                return


class Quota:
    """An amount that all requests of a process share. Not thread-safe.

    Args:
        limit: the most that may be in use.
        error: creates the error of a request that would exceed the limit, given the limit.
        count: called with the code of each such error.
        arriving: if the quota is used up, one of these bodies is rejected to make room.
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
        """Take an amount; raise the quota's error if that would exceed the limit."""
        if self.used + amount > self.limit:
            # In a local variable, the error and its traceback would form a reference cycle, which
            # would keep objects of the calling frames, such as a body, until they are collected.
            raise self.reject()
        self.used += amount

    def reject(self) -> OnwardError:
        """Create and count the error of a request that would exceed the limit."""
        if self._arriving is not None:
            self._arriving.make_room(self, self._error(self.limit))
        error = self._error(self.limit)
        self._count(error.code)
        return error

    def release(self, amount: int = 1) -> None:
        """Return an amount to the quota."""
        self.used -= amount


class Reservation:
    """An amount of a quota that one request holds from entering the context to leaving it."""

    __slots__ = ("_quota", "amount")

    def __init__(self, quota: Quota, amount: int = 0) -> None:
        self._quota = quota
        self.amount = amount

    def __enter__(self) -> Self:
        """Acquire the amount; raise the quota's error if that would exceed its limit."""
        self._quota.acquire(self.amount)
        return self

    def __exit__(self, *_: object) -> None:
        """Release all of it."""
        self._quota.release(self.amount)
        self.amount = 0

    def add(self, amount: int) -> None:
        """Acquire more; raise the quota's error if that would exceed its limit."""
        self._quota.acquire(amount)
        self.amount += amount

    def subtract(self, amount: int) -> None:
        """Release a part of it."""
        self._quota.release(amount)
        self.amount -= amount

    def set(self, amount: int) -> None:
        """Change the amount; raise the quota's error if that would exceed its limit."""
        if amount > self.amount:
            self.add(amount - self.amount)
        else:
            self.subtract(self.amount - amount)

    def move(self) -> "Reservation":
        """Move the amount to a new reservation; this one then holds nothing."""
        moved = Reservation(self._quota)
        moved.amount, self.amount = self.amount, 0
        return moved

    def release(self) -> None:
        """Release all of it."""
        self.__exit__()


class Limits:
    """All limits of one process; ``count`` is called with the error code of each rejection."""

    def __init__(self, settings: Settings, count: CountRejection = lambda _: None) -> None:
        self._count = count
        self._settings = settings
        self.requests = Quota(settings.max_concurrent_requests, TooManyRequests, count)
        """Requests being processed, from the moment their body has arrived."""
        self.arriving = ArrivingBodies()
        self.tables = Quota(settings.max_concurrent_tables, TooManyTables, count, self.arriving)
        """Tables being scored."""
        self.body_bytes = Quota(
            settings.max_bytes_in_flight, TooManyBytesInFlight, count, self.arriving
        )
        """Bytes of bodies and responses, compressed, decompressed and parsed."""
        self.spool_bytes = Quota(settings.max_spool_bytes, lambda _: SpoolFull(), count)
        """Bytes of responses in temporary files."""

    def reject(self, error: OnwardError) -> OnwardError:
        """Count an error and return it, to be raised."""
        self._count(error.code)
        return error

    def require_query(self, query: bytes) -> None:
        """Raise `TooManyQueryParameters` if a query string has too many."""
        limit = self._settings.max_query_parameters
        if query and query.count(b"&") + query.count(b";") >= limit:
            raise self.reject(TooManyQueryParameters(limit))

    def require_json(self, body: bytes) -> int:
        """Raise `TooManyJsonMembers` if a JSON body has too many values to parse. Thread-safe.

        For the limit, names count like values: in one large object, a name takes most of the time.

        Returns:
            An upper bound of the number of values, with arrays and objects counted twice:
            separators within strings count too.
        """
        values = names = 0
        for start in range(0, len(body), _PIECE_BYTES):
            end = start + _PIECE_BYTES
            values += sum([n * body.count(sign, start, end) for sign, n in _JSON_SEPARATORS])
            names += body.count(b":", start, end)
            self.require_values(values + names)
        return values

    def require_values(self, values: int) -> None:
        """Raise `TooManyJsonMembers` if too many values would become Python objects."""
        if values > self._settings.max_json_members:
            raise self.reject(TooManyJsonMembers(self._settings.max_json_members))

    def estimate_decoded_bytes(self, body: bytes, json_bytes: int, *, strings: bool) -> int:
        """Return the most bytes that decoding a body takes in addition to the body. Thread-safe.

        Args:
            body: the complete body.
            json_bytes: how many of its first bytes are JSON.
            strings: whether the other bytes may be a BYTES tensor.

        Raises:
            TooManyJsonMembers: the JSON has too many values.
            ParsedBodyTooLarge: decoding takes more than all requests together may hold.
        """
        needed = 0
        if json_bytes:
            text = body if json_bytes == len(body) else body[:json_bytes]
            needed = _BYTES_PER_JSON_VALUE * self.require_json(text)
            needed += _COPIES_OF_JSON[_character_width(text)] * json_bytes
        rest = len(body) - json_bytes
        if strings:
            most = min(rest // STRING_LENGTH_BYTES, self._settings.max_json_members)
            needed += _COPIES_OF_STRINGS * rest + _BYTES_PER_STRING * most
        else:
            needed += _COPIES_OF_BINARY * rest
        if len(body) + needed > self.body_bytes.limit:
            raise self.reject(ParsedBodyTooLarge(self.body_bytes.limit))
        return needed

    def require_ratio(self, compressed: int, decompressed: int) -> None:
        """Raise `DecompressionRatioExceeded` if bytes of a body have expanded too much."""
        limit = self._settings.max_decompression_ratio
        if decompressed > max(_RATIO_CHECKED_ABOVE_BYTES, limit * compressed):
            raise self.reject(DecompressionRatioExceeded(limit))

    def require_rows(self, rows: int) -> None:
        """Raise `TooManyRows` if a request has too many."""
        if rows > self._settings.max_request_rows:
            raise self.reject(TooManyRows(self._settings.max_request_rows))

    def require_form_parts(self, parts: int) -> None:
        """Raise `TooManyFormParts` if a multipart form has too many."""
        if parts > self._settings.max_form_parts:
            raise self.reject(TooManyFormParts(self._settings.max_form_parts))


class RequestQuotas:
    """The amounts of the shared quotas that one request holds until its response has been sent."""

    __slots__ = ("_requests", "_table", "body", "limits", "was_large")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.was_large = False
        """Whether it has taken so much memory that freed memory should return to the system."""
        self._table = Reservation(limits.tables)
        self.body = Reservation(limits.body_bytes)
        """Bytes of its body, and later of its tensors or its response."""
        self._requests = Reservation(limits.requests)

    def acquire_request(self) -> None:
        """Count the request, whose body has arrived; raise `TooManyRequests` at the limit."""
        self._requests.add(1)

    def acquire_table(self) -> None:
        """Count the request as a table; raise `TooManyTables` at the limit."""
        self._table.add(1)

    def release_table(self) -> None:
        """Count the request as a table no longer: all of it has been scored.

        Called before the end of the response is sent, as its client may then send the next table.
        """
        self._table.release()

    def holds(self, quota: Quota) -> bool:
        """Return whether the request holds some of the quota of bodies or tables."""
        if quota is self.limits.tables:
            return self._table.amount > 0
        return quota is self.limits.body_bytes and self.body.amount > 0

    def hold_bytes(self, size: int) -> None:
        """Set the number of bytes that the request holds; small numbers are not counted.

        Raise `TooManyBytesInFlight` if all requests together would hold too many.
        """
        is_counted = size > UNCOUNTED_BODY_BYTES
        if is_counted or self.body.amount:
            self.was_large = True
            self.body.set(size if is_counted else 0)

    def release(self) -> None:
        """Release everything."""
        for reservation in (self.body, self._table, self._requests):
            reservation.release()


def _character_width(text: bytes) -> int:
    """Return the width class of a JSON text: 0 up to U+00FF, 1 up to U+FFFF, 2 beyond."""
    if b"\\u" in text:
        return 2
    if text.isascii():
        return 0
    # The first byte of a character beyond U+FFFF, in UTF-8.
    return 2 if any(bytes([first]) in text for first in range(0xF0, 0xF5)) else 1
