"""Around every request: its id, its log line, its count, and the answer to a fault of ours."""

import logging
import re
import uuid
from time import perf_counter
from typing import Literal

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.errors import error_response
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
        log_requests: which requests get a log line.
    """

    def __init__(
        self, app: ASGIApp, metrics: Metrics, log_requests: Literal["all", "errors", "none"]
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._log_requests = log_requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; other kinds of connection pass through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        identity = _identity(Headers(scope=scope).get(_HEADER))
        token = request_id.set(identity)
        started = perf_counter()
        status = 0

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[_HEADER] = identity
            await send(message)

        try:
            await self._app(scope, receive, send_marked)
        except ClientDisconnect:
            status = _CLIENT_LEFT  # nobody is left to answer, and it is no fault of ours
        except Exception as error:
            _log.exception("request failed")
            if status:
                raise  # half an answer is out; only closing the connection tells the caller
            await error_response(error)(scope, receive, send_marked)
        finally:
            self._account(scope, status, perf_counter() - started)
            request_id.reset(token)

    def _account(self, scope: Scope, status: int, seconds: float) -> None:
        self._metrics.responded(status)
        wanted = self._log_requests
        if wanted == "none" or (wanted == "errors" and 0 < status < _FIRST_ERROR):
            return
        facts = {"method": scope["method"], "path": scope["path"], "status": status}
        _log.info("request", extra=facts | {"milliseconds": round(seconds * 1e3, 3)})


def _identity(given: str | None) -> str:
    """The caller's id where it is safe to repeat in a header and a log, else a new one."""
    if given is not None and _ACCEPTABLE.fullmatch(given):
        return given
    return uuid.uuid4().hex
