"""What the client and its asynchronous twin have in common."""

from collections.abc import Mapping
from typing import Any

from service.sdk.errors import InvalidData
from service.sdk.transfer import Attempts, Call, RetryPolicy

DEFAULT_URL = "http://localhost:8000"
DEFAULT_TIMEOUT = 60.0
DEFAULT_RETRIES = 3
_AGENT = {"user-agent": "onward-client"}


class Connection:
    """What both clients have in common."""

    def __init__(
        self, url: str, timeout: float, retries: int, headers: Mapping[str, str] | None
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise InvalidData(f"The address must begin with http:// or https://, got {url!r}.")
        self.url = url.rstrip("/")
        self._policy = RetryPolicy(retries, timeout)
        self._headers = {**_AGENT, **(headers or {})}

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
            "timeout": seconds,
        }
