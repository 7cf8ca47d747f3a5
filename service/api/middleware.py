"""Around every request: its id, its log line, its count, and the answer to a fault of ours."""

import asyncio
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
from service.errors import BodyStalled, Draining, OnwardError
from service.limits import QUOTAS, Limits, Quota, RequestQuotas
from service.observability.logs import request_id
from service.observability.metrics import Metrics
from service.settings import Settings

_HEADER = "x-request-id"
_ACCEPTABLE = re.compile(r"[\x21-\x7e]{1,128}")
_FIRST_ERROR = 400
_NO_STATUS = 1000  # above all of them

CLIENT_LEFT = 499
"""The customary status of a request whose client has left; counted and logged, never sent."""
STATUS_SENT = "onward.status_sent"
"""In an ASGI scope: the status of the response that the server itself sent for this request."""
DRAINED_BODY_BYTES = 64 * 1024
"""The rest of a body up to this size is read after an early response, and the connection kept."""

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

    def rejected(self, reason: str) -> None:
        """Count a request that exceeded a limit or a timeout, by its error's code."""
        self._metrics.rejected(reason)

    def logs(self, status: int) -> bool:
        """Whether such an answer gets a line in the log."""
        return status >= self._log_from or (status == 0 and self._log_from < _NO_STATUS)

    def log(
        self, method: str, path: str, status: int, seconds: float, reason: str | None = None
    ) -> None:
        """Write that line.

        Args:
            method: empty where the input was no request.
            path: as above.
            status: of the response.
            seconds: that it took.
            reason: of a request that was rejected before it was complete.
        """
        facts: dict[str, object] = {"method": method, "path": path, "status": status}
        if reason is not None:
            facts["reason"] = reason
        _log.info("request", extra=facts | {"milliseconds": round(seconds * 1e3, 3)})


class RequestContext:
    """ASGI middleware, written without Starlette's base class, which costs several requests' time.

    Args:
        ledger: where each request is counted and logged.
        settings: the timeouts of bodies.
        limits: shared by all requests.
    """

    def __init__(self, app: ASGIApp, ledger: Ledger, settings: Settings, limits: Limits) -> None:
        self._app = app
        self._ledger = ledger
        self._settings = settings
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; other kinds of connection pass through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        identity = identity_of(headers.get(_HEADER))
        token = request_id.set(identity)
        marks = {_HEADER: identity}
        if self._ledger.draining:
            marks["connection"] = "close"
        body = RequestBody(scope, receive, self._settings, self._limits)
        answer = _Answer(scope, send, marks, self._ledger, body)
        try:
            await self._app(scope, body.receive, answer.send)
        except ClientDisconnect:
            # No client is left to respond to, or the server has responded.
            answer.status = scope.get(STATUS_SENT, CLIENT_LEFT)
        except asyncio.CancelledError:
            # The time in which a stop waits for requests is over.
            if answer.status:
                raise
            await error_response(Draining())(scope, body.receive, answer.send)
        except Exception as error:
            _log.exception("request failed")
            if answer.status:
                raise  # half an answer is out; only closing the connection tells the caller
            await error_response(error)(scope, body.receive, answer.send)
        finally:
            body.close()
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
        body: "RequestBody",
    ) -> None:
        self.status = 0
        self._body = body
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
            headers = MutableHeaders(scope=message)
            headers.update(self._marks)
            if self.status >= _FIRST_ERROR and not self._body.can_be_drained:
                headers["connection"] = "close"
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


class RequestBody:
    """The body of one request as it arrives; one that stops arriving ends the request.

    Args:
        scope: of the request.
        receive: ASGI's own.
        settings: how long a body may make no progress, and how slowly it may arrive.
        limits: count bodies that stall, and interrupt one where there is no room for others.
    """

    def __init__(self, scope: Scope, receive: Receive, settings: Settings, limits: Limits) -> None:
        headers = Headers(scope=scope)
        self._scope = scope
        self._receive = receive
        self._limits = limits
        self._seconds = settings.body_seconds
        self._min_bytes = max(settings.min_body_bytes_per_second * settings.body_seconds, 1)
        self._waited = 0.0
        self._bytes = 0
        self._timeout: asyncio.Timeout | None = None
        self._error: OnwardError | None = None
        length = headers.get("content-length", "")
        self._is_chunked = "transfer-encoding" in headers
        self._left = int(length) if length.isdecimal() else 0
        self._expects_continue = "expect" in headers
        self.is_complete = not self._is_chunked and self._left == 0

    @property
    def can_be_drained(self) -> bool:
        """Whether the rest is so small that the connection can be kept after an early response."""
        if self.is_complete:
            return True
        if self._is_chunked or self._expects_continue or self._error is not None:
            return False
        return self._left <= DRAINED_BODY_BYTES

    async def receive(self) -> Message:
        """ASGI's next message.

        Only the time that is spent waiting for the client counts.

        Raises:
            BodyStalled: the body arrives too slowly.
        """
        if self.is_complete:
            return await self._receive()
        self._limits.arriving.add(self)
        self._expects_continue = False  # the client is told to go on
        if self._error is None:
            started = perf_counter()
            try:
                async with asyncio.timeout(max(self._seconds - self._waited, 0)) as self._timeout:
                    message = await self._receive()
                self._count(message, perf_counter() - started)
            except TimeoutError:
                self._stall()
            finally:
                self._timeout = None
        if self._error is not None:
            raise self._error
        return message

    def holds(self, quota: Quota) -> bool:
        """Whether the request holds some of a quota."""
        quotas = self._scope.get(QUOTAS)
        return isinstance(quotas, RequestQuotas) and quotas.holds(quota)

    def interrupt(self, error: OnwardError) -> None:
        """End the wait for the client with this error."""
        self._error = error
        if self._timeout is not None:
            self._timeout.reschedule(asyncio.get_running_loop().time())

    def close(self) -> None:
        """Forget the request; its error would else keep all that its traceback refers to."""
        self._limits.arriving.remove(self)
        self._error = None

    def _count(self, message: Message, waited: float) -> None:
        """Take note of what has arrived, and how long that took in seconds."""
        size = len(message.get("body", b""))
        self._waited += waited
        self._bytes += size
        self._left -= size
        self.is_complete = not message.get("more_body", False)
        if self.is_complete:
            self._limits.arriving.remove(self)
        elif self._bytes >= self._min_bytes:
            self._waited, self._bytes = 0.0, 0
        elif self._waited >= self._seconds:
            self._stall()

    def _stall(self) -> None:
        """End the request: too little has arrived since enough had arrived last."""
        if self._error is None:
            self._error = self._limits.rejected(BodyStalled(self._seconds))


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
