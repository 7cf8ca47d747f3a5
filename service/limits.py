"""Limits that the requests of one process share, checked before work starts.

Each limit is a setting. A request that exceeds one is rejected at once, and counted by the code of
its error. Limits on what a single request may hold are checked here too, so that every protocol
applies the same rule.
"""

from collections.abc import Callable
from typing import Self

from service.errors import (
    OnwardError,
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

# Each value of a JSON document but the first of its container follows one of these.
_JSON_SEPARATORS = (b",", b":", b"[", b"{")


class Quota:
    """An amount that all requests of a process share; only for use on the event loop.

    Args:
        limit: the most that may be in use.
        error: makes the error of a request that would exceed it, given the limit.
        count: called with the code of each such error.
    """

    __slots__ = ("_count", "_error", "limit", "used")

    def __init__(
        self, limit: int, error: Callable[[int], OnwardError], count: CountRejection
    ) -> None:
        self.limit = limit
        self.used = 0
        self._error = error
        self._count = count

    def acquire(self, amount: int = 1) -> None:
        """Take an amount; raises this quota's error where that would exceed the limit."""
        if self.used + amount > self.limit:
            error = self._error(self.limit)
            self._count(error.code)
            raise error
        self.used += amount

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
        self._max_form_parts = settings.max_form_parts
        self.requests = Quota(settings.max_concurrent_requests, TooManyRequests, count)
        """Requests being processed, from the moment their body has arrived."""
        self.tables = Quota(settings.max_concurrent_tables, TooManyTables, count)
        """Tables being scored."""
        self.body_bytes = Quota(settings.max_bytes_in_flight, TooManyBytesInFlight, count)
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
        """Reject a JSON body with too many values, before it is parsed.

        Returns:
            The number of values, or more: separators within strings count too.

        Raises:
            TooManyJsonMembers: it has too many.
        """
        members = sum([body.count(separator) for separator in _JSON_SEPARATORS])
        if members > self._max_json_members:
            raise self.rejected(TooManyJsonMembers(self._max_json_members))
        return members

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
