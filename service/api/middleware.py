"""ASGI middleware around every request: id, log line, count, quotas, body timeouts, and errors."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.body import HEAD, RequestHead
from service.api.errors import FIRST_ERROR, error_response, read_error_code
from service.api.inference import RawResponse
from service.api.routing import PredictRouter, find_own_path
from service.engine.heap import Heap
from service.engine.registry import Readiness
from service.errors import BodyStalled, Draining, OnwardError
from service.limits import QUOTAS, Limits, Quota, RequestQuotas
from service.observability.logs import request_id
from service.observability.metrics import RequestRecorder, request_id_from
from service.settings import Settings

_ID_HEADER = b"x-request-id"
_CLOSE = (b"connection", b"close")

CLIENT_DISCONNECTED = 499
"""The status of a request whose client has disconnected; counted and logged, never sent."""
STATUS_SENT = "onward.status_sent"
"""In an ASGI scope: the status of a response that the server itself has sent."""
RESPOND = "onward.respond"
"""In an ASGI scope: a function that writes a whole `RawResponse` at once.

That of the server takes the response and the request's id. `RequestContext` wraps it to record the
response too. Both return False if the response must be sent by messages.
"""
BODY_ARRIVED = "onward.body_arrived"
"""In an ASGI scope: true if the server has received the whole body, so that reading never waits."""
DRAINED_BODY_BYTES = 64 * 1024
"""After an early response, the rest of a body up to this size is read, to reuse the connection."""

_log = logging.getLogger(__name__)


class RequestContext:
    """The outermost ASGI middleware; a single one, because each layer costs every request.

    It gives a request its id and its quotas, counts and logs the response, and responds to errors
    that no other code has handled. Responses of unknown length are buffered for HTTP/1.0 clients.
    After a large request, the C library returns freed memory to the system.
    """

    def __init__(
        self,
        app: ASGIApp,
        readiness: Readiness,
        recorder: RequestRecorder,
        settings: Settings,
        limits: Limits,
    ) -> None:
        self._readiness = readiness
        self._app = app
        self._recorder = recorder
        self._settings = settings
        self._limits = limits
        self._heap = Heap()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve an HTTP request."""
        head = scope.get(HEAD)
        if head is None:
            head = scope[HEAD] = RequestHead(scope["headers"], scope["query_string"])
        quotas = scope[QUOTAS] = RequestQuotas(self._limits)
        identity = request_id_from(head.fields.get(_ID_HEADER))
        token = request_id.set(identity)
        added = [(_ID_HEADER, identity.encode())]
        if self._readiness.is_draining:
            added.append(_CLOSE)
        body = RequestBody(scope, receive, self._settings, self._limits)
        response = _ResponseRecorder(scope, send, added, self._recorder, body)
        if RESPOND in scope:
            scope[RESPOND] = partial(response.respond, scope[RESPOND])
        try:
            await self._serve(scope, body, response)
        finally:
            scope.pop(RESPOND, None)  # it refers to the scope
            body.close()
            quotas.release()
            response.record()
            request_id.reset(token)
            if quotas.was_large:
                self._heap.trim_soon()

    async def _serve(
        self, scope: Scope, body: "RequestBody", response: "_ResponseRecorder"
    ) -> None:
        """Serve a request, and respond to any error."""
        is_http10 = scope["http_version"] == "1.0"
        send = _BufferedResponse(scope, response.send).send if is_http10 else response.send
        try:
            await self._app(scope, body.receive, send)
        except ClientDisconnect:
            # The client has disconnected, or the server itself has responded.
            response.status = scope.get(STATUS_SENT, CLIENT_DISCONNECTED)
        except asyncio.CancelledError:
            # The grace period of a shutdown has ended.
            if response.status:
                raise
            await error_response(Draining())(scope, body.receive, response.send)
        except Exception as error:
            _log.exception("request failed")
            if response.status:
                raise  # the response is incomplete, so the server must close the connection
            await error_response(error)(scope, body.receive, response.send)


class PredictRoutingMiddleware:
    """ASGI middleware that responds to predictions, and passes other requests on.

    These then have paths with the prefix of a proxy, if there is one, and without a slash at the
    end, however they have arrived.
    """

    def __init__(self, app: ASGIApp, router: PredictRouter, root_path: str) -> None:
        self._app = app
        self._router = router
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve an HTTP request."""
        found = self._router.find(scope["path"]) if scope["method"] == "POST" else None
        if found is None:
            await self._pass_on(scope, receive, send)
            return
        (_, _, name, version), handler = found
        try:
            response = await handler(Request(scope, receive), name, version)
        except OnwardError as error:
            response = error_response(error)
        await response(scope, receive, send)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, root_path = scope["path"], self._root_path
        if not root_path and not path.endswith("/"):
            await self._app(scope, receive, send)
            return
        own_path = find_own_path(path, root_path)
        location = self._find_canonical(scope, own_path)
        if location is None:
            changed = {**scope, "path": root_path + own_path, "root_path": root_path}
            await self._app(changed, receive, send)
            return
        query = scope["query_string"].decode("latin-1")
        response = RedirectResponse(f"{location}?{query}" if query else location)
        await response(scope, receive, send)

    def _find_canonical(self, scope: Scope, own_path: str) -> str | None:
        """Return the address of a page that a browser requests by another; None if it is the same.

        Relative addresses in a page depend on the slash at the end of its own address.
        """
        head: RequestHead = scope[HEAD]
        is_read = scope["method"] in {"GET", "HEAD"}
        if not (is_read and "text/html" in head.fields.get(b"accept", "")):
            return None
        path = scope["path"]
        if own_path == "/":
            return f"{path}/" if path == self._root_path else None
        if not path.endswith("/"):
            return None
        # Relative, since a proxy may have removed a prefix.
        raw_path: bytes = scope.get("raw_path") or path.encode()
        return f"../{raw_path.decode('latin-1').split('/')[-2]}"


class _ResponseRecorder:
    """Sends the response to a request with additional headers, and records it once."""

    def __init__(
        self,
        scope: Scope,
        send: Send,
        added: Sequence[tuple[bytes, bytes]],
        recorder: RequestRecorder,
        body: "RequestBody",
    ) -> None:
        self.status = 0
        self._body = body
        self._scope = scope
        self._send = send
        self._added = added
        self._recorder = recorder
        self._started = perf_counter()
        self._is_recorded = False

    async def send(self, message: Message) -> None:
        """Send a message of the response."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message.get("headers", ()), *self._added]
            if self.status >= FIRST_ERROR and not self._body.can_be_drained:
                headers.append(_CLOSE)
            message["headers"] = headers
        elif not message.get("more_body"):
            # Before it is sent, so that metrics count a response before its client has it.
            self.record(message.get("body", b""))
        await self._send(message)

    def respond(self, write: Callable[[RawResponse, bytes], bool], response: RawResponse) -> bool:
        """Write and record a whole response; False if it must be sent by messages."""
        ((_, identity), *others) = self._added
        if others:
            return False
        self.status = response.status
        self.record(response.content)
        if write(response, identity):
            return True
        self.status = 0
        return False

    def record(self, body: bytes = b"") -> None:
        """Count and log the request once; the code of an error is read from its body."""
        if not self._is_recorded:
            self._is_recorded = True
            seconds, scope = perf_counter() - self._started, self._scope
            code = read_error_code(self.status, body) if self.status >= FIRST_ERROR else None
            self._recorder.record(scope["method"], scope["path"], self.status, seconds, code=code)


class RequestBody:
    """Receives the body of a request; a body that arrives too slowly ends the request."""

    def __init__(self, scope: Scope, receive: Receive, settings: Settings, limits: Limits) -> None:
        head: RequestHead = scope[HEAD]
        self._scope = scope
        self._receive = receive
        self._limits = limits
        self._seconds = settings.body_seconds
        self._min_bytes = max(settings.min_body_bytes_per_second * settings.body_seconds, 1)
        self._waited = 0.0
        self._bytes = 0
        self._timeout: asyncio.Timeout | None = None
        self._error: OnwardError | None = None
        self._is_chunked = b"transfer-encoding" in head.fields
        self._left = head.content_length or 0
        self._expects_continue = b"expect" in head.fields
        self.is_complete = not self._is_chunked and self._left == 0

    @property
    def can_be_drained(self) -> bool:
        """Whether the rest is small enough to keep the connection open after an early response."""
        if self.is_complete:
            return True
        if self._is_chunked or self._expects_continue or self._error is not None:
            return False
        return self._left <= DRAINED_BODY_BYTES

    async def receive(self) -> Message:
        """Receive the next ASGI message; raise `BodyStalled` if the body arrives too slowly.

        Only the time of waiting for the client counts towards the timeout.
        """
        if self.is_complete:
            return await self._receive()
        if self._scope.get(BODY_ARRIVED, False):
            self.is_complete = True
            self._limits.arriving.remove(self)
            return await self._receive()
        self._limits.arriving.add(self)
        self._expects_continue = False  # the server sends 100 Continue
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
        """Return whether the request holds some of a quota."""
        return get_quotas(self._scope).holds(quota)

    def interrupt(self, error: OnwardError) -> None:
        """End the wait for the client with this error."""
        self._error = error
        if self._timeout is not None:
            self._timeout.reschedule(asyncio.get_running_loop().time())

    def close(self) -> None:
        """Release the request and its error, whose traceback refers to many objects."""
        self._limits.arriving.remove(self)
        self._error = None

    def _count(self, message: Message, waited: float) -> None:
        """Count the bytes of a message, and the seconds waited for it."""
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
        if self._error is None:
            self._error = self._limits.reject(BodyStalled(self._seconds))


def get_quotas(scope: Scope) -> RequestQuotas:
    """Return the quotas held by the request of an ASGI scope."""
    quotas: RequestQuotas = scope[QUOTAS]
    return quotas


class _BufferedResponse:
    """A response that is buffered until its length is known.

    Without a length, HTTP/1.0 clients cannot distinguish the end of a response from a broken
    connection. Buffered bytes count as bytes in flight.
    """

    def __init__(self, scope: Scope, send: Send) -> None:
        self._send = send
        self._quota = get_quotas(scope).body
        self._start: Message | None = None
        self._parts: list[bytes] = []

    async def send(self, message: Message) -> None:
        """Buffer a part, or send the whole response; may raise `TooManyBytesInFlight`."""
        if message["type"] == "http.response.start":
            self._parts.clear()  # of a response that failed
            self._start = None
            if "content-length" not in MutableHeaders(scope=message):
                self._start = message
                return
        elif self._start is not None:
            part = message.get("body", b"")
            self._quota.add(len(part))
            self._parts.append(part)
            if message.get("more_body"):
                return
            body, start = b"".join(self._parts), self._start
            MutableHeaders(scope=start)["content-length"] = str(len(body))
            await self._send(start)
            message = {"type": "http.response.body", "body": body}
        await self._send(message)
