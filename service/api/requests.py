"""Around every request: its id, its log line, its count, and the answer to a fault of ours."""

import logging
import re
import uuid
from collections.abc import Callable, Mapping
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
_CLIENT_LEFT = 499  # by custom; it is counted and logged, never sent

_log = logging.getLogger(__name__)


class RequestContext:
    """ASGI middleware, written without Starlette's base class, which costs several requests' time.

    Args:
        readiness: tells when the service is stopping, and callers are to reconnect elsewhere.
        log_requests: which requests get a log line.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        readiness: Readiness,
        log_requests: Literal["all", "errors", "none"],
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._readiness = readiness
        self._log_requests = log_requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; other kinds of connection pass through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        identity = _identity(Headers(scope=scope).get(_HEADER))
        token = request_id.set(identity)
        marks = {_HEADER: identity}
        if self._readiness.draining:
            marks["connection"] = "close"
        answer = _Answer(scope, send, marks, self._account)
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

    def _account(self, scope: Scope, status: int, seconds: float) -> None:
        self._metrics.responded(status)
        wanted = self._log_requests
        if wanted == "none" or (wanted == "errors" and 0 < status < _FIRST_ERROR):
            return
        facts = {"method": scope["method"], "path": scope["path"], "status": status}
        _log.info("request", extra=facts | {"milliseconds": round(seconds * 1e3, 3)})


class _Answer:
    """What goes out for one request: marked by headers, and accounted for once."""

    def __init__(
        self,
        scope: Scope,
        send: Send,
        marks: Mapping[str, str],
        account: Callable[[Scope, int, float], None],
    ) -> None:
        self.status = 0
        self._scope = scope
        self._send = send
        self._marks = marks
        self._account = account
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
            self._account(self._scope, self.status, perf_counter() - self._started)


def _identity(given: str | None) -> str:
    """The caller's id where it is safe to repeat in a header and a log, else a new one."""
    if given is not None and _ACCEPTABLE.fullmatch(given):
        return given
    return uuid.uuid4().hex
