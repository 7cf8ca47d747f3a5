"""One request and its response as data, and when a request is repeated."""

import json
import random
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Self, TypeVar

import httpx

from service.sdk.errors import (
    OnwardClientError,
    RequestTimeout,
    ServiceError,
    ServiceUnreachable,
    describe_foreign,
    error_of_response,
)
from service.sdk.results import ScoredTable
from service.sdk.tables import TableSource

T = TypeVar("T")

RETRIED = (429, 503)
"""The statuses after which a request is repeated."""
_FIRST_PAUSE_SECONDS = 0.25
_LONGEST_PAUSE_SECONDS = 8.0
_FIRST_ERROR = 400
# Nothing of the request was sent yet.
_BEFORE_SENDING = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@dataclass(frozen=True)
class Call:
    """A request; ``path`` is below the address of the service."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | TableSource = b""

    @property
    def repeatable(self) -> bool:
        """Whether the body can be sent again."""
        return isinstance(self.body, bytes) or self.body.repeatable


@dataclass(frozen=True)
class Reply:
    """A response with all its content."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    url: str

    @classmethod
    def of(cls, response: httpx.Response) -> Self:
        """Return a response of httpx that was read."""
        return cls(response.status_code, response.headers, response.content, str(response.url))

    def document(self) -> dict[str, Any]:
        """Return the JSON of the response; raise the error that it describes."""
        self.require_success()
        try:
            document = json.loads(self.content)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            sentence = describe_foreign(self.status, self.headers, self.content, self.url)
            raise ServiceError(sentence, status=self.status)
        return document

    def require_success(self) -> None:
        """Raise the error that the response describes, if it does."""
        if self.status >= _FIRST_ERROR or self.status < 200:  # noqa: PLR2004 - HTTP
            raise error_of_response(self.status, self.headers, self.content, self.url)

    def require_table(self) -> None:
        """Raise the error of a response that is no table, such as the page of a proxy."""
        self.require_success()
        sentence = describe_foreign(self.status, self.headers, self.content, self.url)
        raise ServiceError(sentence, status=self.status)


Operation = Generator[Call, Reply, T]
"""Requests that depend on each other: yields a `Call`, receives its `Reply`, returns a result."""


@dataclass(frozen=True)
class RetryPolicy:
    """How often a request is repeated, and the seconds that it may take with all repetitions."""

    retries: int
    timeout: float


class Attempts:
    """The attempts of one request."""

    def __init__(self, policy: RetryPolicy, *, repeatable: bool) -> None:
        self._left = policy.retries if repeatable else 0
        self._timeout = policy.timeout
        self._deadline = time.monotonic() + policy.timeout
        self._pause = _FIRST_PAUSE_SECONDS

    @property
    def seconds_left(self) -> float:
        """The time until the deadline."""
        return max(self._deadline - time.monotonic(), 0.001)

    def pause_after_response(self, response: httpx.Response) -> float | None:
        """Return the seconds until the next attempt; None if the response is the last.

        A response with a status of `RETRIED` must have been read.
        """
        # A model that does not serve has a reason, which waiting rarely changes.
        if response.status_code not in RETRIED or b'"model_not_ready"' in response.content:
            return None
        return self._next_pause(parse_retry_after(response.headers.get("retry-after")))

    def pause_after_failure(self, error: httpx.TransportError, url: str) -> float:
        """Return the seconds until the next attempt; raise the client's own error if none is."""
        pause = self._next_pause(None) if isinstance(error, _BEFORE_SENDING) else None
        if pause is None:
            raise error_of_transport(error, url, self._timeout) from error
        return pause

    def _next_pause(self, requested: float | None) -> float | None:
        if self._left <= 0:
            return None
        self._left -= 1
        pause = self._pause * random.uniform(0.5, 1.0) if requested is None else requested  # noqa: S311 - spreads clients
        self._pause = min(self._pause * 2, _LONGEST_PAUSE_SECONDS)
        return pause if pause < self._deadline - time.monotonic() else None


def is_table(response: httpx.Response) -> bool:
    """Return whether a response is a table that can be read in pieces."""
    return response.is_success and "html" not in response.headers.get("content-type", "")


def read_scored(response: httpx.Response, written: int) -> ScoredTable:
    """Return what a response says about its table."""
    return ScoredTable(response.headers.get("x-model-version", ""), written)


def parse_retry_after(text: str | None) -> float | None:
    """Return the seconds of a ``Retry-After`` header, which may also be a date."""
    if text is None:
        return None
    try:
        return max(float(int(text)), 0.0)
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max((date - datetime.now(UTC)).total_seconds(), 0.0)


def error_of_transport(error: httpx.TransportError, url: str, timeout: float) -> OnwardClientError:
    """Return the client's error for one of httpx."""
    if isinstance(error, httpx.PoolTimeout):
        return RequestTimeout(
            f"All connections of the http_client were in use for {timeout:g} seconds, so nothing "
            f"was sent to {url}. Send fewer requests at the same time, or pass an http_client with "
            "more connections."
        )
    if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
        return RequestTimeout(
            f"{url} sent no response within {timeout:g} seconds. Send fewer rows, or pass a "
            "larger timeout to the client."
        )
    reason = str(error) or type(error).__name__
    if isinstance(error, _BEFORE_SENDING):
        return ServiceUnreachable(
            f"No connection to {url}: {reason}. Check that the service is running at this address."
        )
    return ServiceUnreachable(f"The connection to {url} broke: {reason}. Repeat the request.")
