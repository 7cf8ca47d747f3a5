"""Around every request: its id, its log line, its count, and the answer to a fault of ours."""

import logging
import os
import re
from collections.abc import Mapping
from time import perf_counter
from typing import Literal

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.errors import error_response
from service.engine.readiness import Readiness
from service.logs import request_id
from service.metrics import Metrics

_HEADER = "x-request-id"
_ACCEPTABLE = re.compile(r"[\x21-\x7e]{1,128}")
_FIRST_ERROR = 400
_NO_STATUS = 1000  # above all of them
_CLIENT_LEFT = 499  # by custom; it is counted and logged, never sent

_IDENTITY_BYTES = 16
# Drawn at once, for asking the system takes several times as long as taking one of them.
_IDENTITIES = 256

_log = logging.getLogger(__name__)

# Two processes must not give the same.
_new: list[str] = []
os.register_at_fork(after_in_child=_new.clear)


class Ledger:
    """What is noted of every request, whichever door it came in by.

    Args:
        readiness: tells when the service is stopping, and callers are to reconnect elsewhere.
        log_requests: which requests get a log line.
    """

    def __init__(
        self,
        metrics: Metrics,
        readiness: Readiness,
        log_requests: Literal["all", "errors", "none"],
    ) -> None:
        self._metrics = metrics
        self._readiness = readiness
        self._log_from = {"all": 0, "errors": _FIRST_ERROR, "none": _NO_STATUS}[log_requests]

    @property
    def draining(self) -> bool:
        """Whether the service is stopping."""
        return self._readiness.draining

    def count(self, status: int) -> None:
        """Count an answer; nought is none at all."""
        self._metrics.responded(status)

    def logs(self, status: int) -> bool:
        """Whether such an answer gets a line in the log."""
        return status >= self._log_from or (status == 0 and self._log_from < _NO_STATUS)

    def log(self, method: str, path: str, status: int, seconds: float) -> None:
        """Write that line."""
        facts = {"method": method, "path": path, "status": status}
        _log.info("request", extra=facts | {"milliseconds": round(seconds * 1e3, 3)})

    def keep(self) -> None:
        """Make sure, where there are several workers, that nothing is lost of what was entered."""
        self._metrics.keep_if_shared()


class RequestContext:
    """ASGI middleware, written without Starlette's base class, which costs several requests' time.

    Args:
        ledger: where each request is entered.
    """

    def __init__(self, app: ASGIApp, ledger: Ledger) -> None:
        self._app = app
        self._ledger = ledger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; other kinds of connection pass through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        identity = identity_of(Headers(scope=scope).get(_HEADER))
        token = request_id.set(identity)
        marks = {_HEADER: identity}
        if self._ledger.draining:
            marks["connection"] = "close"
        answer = _Answer(scope, send, marks, self._ledger)
        try:
            await self._app(scope, receive, answer.send)
        except ClientDisconnect:
            answer.status = _CLIENT_LEFT  # nobody is left to answer, and it is no fault of ours
        except Exception as error:
            _log.exception("request failed")
            if answer.status:
                raise  # half an answer is out; only closing the connection tells the caller
            await error_response(error)(scope, receive, answer.send)
        finally:
            answer.account()
            request_id.reset(token)


class _Answer:
    """What goes out for one request: marked by headers, and accounted for once."""

    def __init__(
        self,
        scope: Scope,
        send: Send,
        marks: Mapping[str, str],
        ledger: Ledger,
    ) -> None:
        self.status = 0
        self._scope = scope
        self._send = send
        self._marks = marks
        self._ledger = ledger
        self._started = perf_counter()
        self._accounted = False

    async def send(self, message: Message) -> None:
        """Pass a part of the answer on."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message).update(self._marks)
        elif not message.get("more_body"):
            # Before it is out, so that who has the answer finds it counted, whichever worker tells.
            self.account()
        await self._send(message)

    def account(self) -> None:
        """Count and log the request, unless that has been done."""
        if not self._accounted:
            self._accounted = True
            seconds, scope = perf_counter() - self._started, self._scope
            self._ledger.count(self.status)
            if self._ledger.logs(self.status):
                self._ledger.log(scope["method"], scope["path"], self.status, seconds)
            self._ledger.keep()


def identity_of(given: str | None) -> str:
    """The caller's id where it is safe to repeat in a header and a log, else a new one."""
    if given is not None and _ACCEPTABLE.fullmatch(given):
        return given
    try:
        return _new.pop()
    except IndexError:
        drawn = os.urandom(_IDENTITIES * _IDENTITY_BYTES).hex()
        width = 2 * _IDENTITY_BYTES
        first, *others = [drawn[i : i + width] for i in range(0, len(drawn), width)]
        _new.extend(others)
        return first
