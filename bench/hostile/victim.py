"""The client that hostile clients must not disturb: its waiting times and errors.

``python -m bench.hostile.victim HOST PORT`` calls until its standard input ends, and then prints
what it saw as JSON.
"""

import http.client
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import count

from bench.hostile.requests import PREDICT, ROW

_EVERY_SECONDS = 0.01
_FRESH_EVERY = 10
_PATIENCE_SECONDS = 30.0
# Of the row above by the shipped model, and how far 32-bit arithmetic may be from it.
_PROBABILITY = 0.7762902
_TOLERANCE = 1e-5
# Above hostile clients and what else the machine does, where the system allows it: its own waits
# for a core must not count as waits for the service.
_NICE = -5


@dataclass
class Seen:
    """Waiting times of the victim in milliseconds, and its errors by kind."""

    waits: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def longest(self) -> float:
        """The longest wait for a response, or until there was none."""
        return max(self.waits, default=0.0)

    @property
    def p99(self) -> float:
        """99th percentile; a long wait counts once for each call that it prevented."""
        every = _EVERY_SECONDS * 1000
        waits = [
            wait - missed * every
            for wait in self.waits
            for missed in range(max(1, int(wait / every)))
        ]
        return sorted(waits)[int(len(waits) * 0.99)] if waits else 0.0

    def to_json(self) -> str:
        """Serialize for another process."""
        return json.dumps({"waits": self.waits, "errors": self.errors})

    @classmethod
    def from_json(cls, text: str) -> "Seen":
        """Read the output of `to_json`."""
        read = json.loads(text)
        return cls(read["waits"], Counter(read["errors"]))


class Victim:
    """Calls a probe and a prediction every ten milliseconds, every tenth time by a new connection.

    Args:
        host: of the service.
        port: of the service.
    """

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self._keep_alive = self._connection()

    def call_until(self, stopped: threading.Event) -> Seen:
        """Call until the event is set."""
        seen = Seen()
        began = time.monotonic()
        for number in count():
            if stopped.wait(max(0.0, began - time.monotonic())):
                break
            began = time.monotonic() + _EVERY_SECONDS
            self._call(seen, fresh=number % _FRESH_EVERY == 0)
        self._keep_alive.close()
        return seen

    def _call(self, seen: Seen, *, fresh: bool) -> None:
        connection = self._connection() if fresh else self._keep_alive
        for method, path, body in (("GET", "/health/live", None), ("POST", PREDICT, ROW)):
            began = time.perf_counter()
            error = _error_of(connection, method, path, body)
            seen.waits.append((time.perf_counter() - began) * 1000)
            if error:
                seen.errors[error] += 1
        if fresh:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(*self._address, timeout=_PATIENCE_SECONDS)


def _error_of(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None
) -> str:
    """The error of a request, or an empty string."""
    try:
        headers = {"Content-Type": "application/json"} if body else {}
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        content = response.read()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        return type(error).__name__
    if response.status != HTTPStatus.OK:
        return str(response.status)
    if body is not None and not _is_right(content):
        return "wrong prediction"
    return ""


def _is_right(content: bytes) -> bool:
    predicted = json.loads(content)
    probability = float(predicted["probability"])
    return bool(predicted["label"] == "admitted") and abs(probability - _PROBABILITY) < _TOLERANCE


def main(arguments: Sequence[str]) -> int:
    """Call until standard input ends."""
    with suppress(PermissionError):
        os.nice(_NICE)
    stopped = threading.Event()
    victim = Victim(arguments[0], int(arguments[1]))
    found: list[Seen] = []
    thread = threading.Thread(target=lambda: found.append(victim.call_until(stopped)))
    thread.start()
    sys.stdin.read()
    stopped.set()
    thread.join()
    sys.stdout.write(found[0].to_json())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
