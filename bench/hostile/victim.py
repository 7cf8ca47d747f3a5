"""The victim: a client that hostile clients must not disturb, with its waiting times and errors.

``python -m bench.hostile.victim HOST PORT`` sends requests until its standard input ends, and then
prints its observations as JSON.
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

import numpy as np

from bench.hostile.requests import PREDICT, ROW

_INTERVAL_SECONDS = 0.01
_NEW_CONNECTION_EVERY = 10
_TIMEOUT_SECONDS = 30.0
# The prediction of the shipped model for `ROW`, and the tolerance of 32-bit arithmetic.
_PROBABILITY = 0.7762902
_TOLERANCE = 1e-5
# A higher priority than the hostile clients, if the system allows it: waiting for a core must not
# count as waiting for the service.
_NICE = -5


@dataclass
class Observations:
    """Waiting times of the victim in milliseconds, and its errors by kind."""

    waits: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def longest(self) -> float:
        """The longest wait for a response or an error."""
        return max(self.waits, default=0.0)

    @property
    def p99(self) -> float:
        """99th percentile; a long wait counts once for each request that it prevented."""
        interval = _INTERVAL_SECONDS * 1000
        waits = [
            wait - missed * interval
            for wait in self.waits
            for missed in range(max(1, int(wait / interval)))
        ]
        return float(np.quantile(waits, 0.99)) if waits else 0.0

    def to_json(self) -> str:
        """Serialize for another process."""
        return json.dumps({"waits": self.waits, "errors": self.errors})

    @classmethod
    def from_json(cls, text: str) -> "Observations":
        """Read the output of `to_json`."""
        read = json.loads(text)
        return cls(read["waits"], Counter(read["errors"]))


class Victim:
    """Sends a probe and a prediction every 10 ms, every tenth time over a new connection.

    Args:
        host: of the service.
        port: of the service.
    """

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self._persistent = self._connect()

    def call_until(self, stopped: threading.Event) -> Observations:
        """Send requests until the event is set."""
        observed = Observations()
        began = time.monotonic()
        for number in count():
            if stopped.wait(max(0.0, began - time.monotonic())):
                break
            began = time.monotonic() + _INTERVAL_SECONDS
            self._call(observed, new_connection=number % _NEW_CONNECTION_EVERY == 0)
        self._persistent.close()
        return observed

    def _call(self, observed: Observations, *, new_connection: bool) -> None:
        connection = self._connect() if new_connection else self._persistent
        for method, path, body in (("GET", "/health/live", None), ("POST", PREDICT, ROW)):
            began = time.perf_counter()
            error = _find_error(connection, method, path, body)
            observed.waits.append((time.perf_counter() - began) * 1000)
            if error:
                observed.errors[error] += 1
        if new_connection:
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(*self._address, timeout=_TIMEOUT_SECONDS)


def _find_error(
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
    if body is not None and not _is_correct(content):
        return "wrong prediction"
    return ""


def _is_correct(content: bytes) -> bool:
    predicted = json.loads(content)
    probability = float(predicted["probability"])
    return bool(predicted["label"] == "admitted") and abs(probability - _PROBABILITY) < _TOLERANCE


def main(arguments: Sequence[str]) -> int:
    """Send requests until standard input ends."""
    with suppress(PermissionError):
        os.nice(_NICE)
    stopped = threading.Event()
    victim = Victim(arguments[0], int(arguments[1]))
    found: list[Observations] = []
    thread = threading.Thread(target=lambda: found.append(victim.call_until(stopped)))
    thread.start()
    sys.stdin.read()
    stopped.set()
    thread.join()
    sys.stdout.write(found[0].to_json())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
