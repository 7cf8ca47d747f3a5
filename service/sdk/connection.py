"""What the client and its asynchronous twin have in common."""

import math
from collections.abc import Mapping
from typing import Any

import httpx

from service.sdk.errors import InvalidData
from service.sdk.transfer import Attempts, Call, RetryPolicy

DEFAULT_URL = "http://localhost:8000"
DEFAULT_TIMEOUT = 60.0
DEFAULT_RETRIES = 3
MOST_IN_FLIGHT = 16
"""Requests that `AsyncClient` sends at the same time; more do not make the service faster."""
LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=100)
"""The connections of a client; each request in flight has one, so none waits for another."""
_AGENT = {"user-agent": "onward-client"}


class Connection:
    """What both clients have in common."""

    def __init__(
        self,
        url: str | httpx.URL,
        timeout: float | None,
        retries: int,
        headers: Mapping[str, str] | None,
    ) -> None:
        address = str(url) if isinstance(url, httpx.URL) else url
        if not isinstance(address, str) or not address.startswith(("http://", "https://")):
            raise InvalidData(f"The address must begin with http:// or https://, got {url!r}.")
        self.url = address.rstrip("/")
        self._policy = RetryPolicy(_check_retries(retries), _check_timeout(timeout))
        self._headers = {**_AGENT, **(headers or {})}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def attempts(self, call: Call) -> Attempts:
        """Return the attempts of a new request."""
        return Attempts(self._policy, repeatable=call.repeatable)

    def request_options(self, call: Call, seconds: float) -> dict[str, Any]:
        """Return the arguments of httpx for a request, without its content."""
        return {
            "method": call.method,
            "url": self.url + call.path,
            "params": call.query or None,
            "headers": {**self._headers, **call.headers},
            "timeout": None if math.isinf(seconds) else seconds,
        }


def require_open(*, is_closed: bool) -> None:
    """Raise `InvalidData` if a client was closed."""
    if is_closed:
        raise InvalidData("This client is closed, so it sends nothing; create another one.")


def _check_timeout(timeout: float | None) -> float:
    """Return the seconds of a request; None is no limit."""
    if timeout is None:
        return math.inf
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0:
        raise InvalidData(
            f"timeout is a number of seconds above 0, or None for no limit, got {timeout!r}."
        )
    return timeout


def _check_retries(retries: int) -> int:
    if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
        raise InvalidData(f"retries is a whole number from 0, got {retries!r}.")
    return retries
