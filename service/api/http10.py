"""Responses to HTTP/1.0 clients, which know no chunks."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.quotas import quotas_of_scope


class ContentLengthForHttp10:
    """ASGI middleware that sends a response of unknown length to HTTP/1.0 clients as a whole.

    They could not tell the end of a response that streams from a connection that broke. What is
    kept of it counts as bytes in flight.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; those of later versions pass through."""
        if scope["type"] == "http" and scope["http_version"] == "1.0":
            send = _WholeResponse(scope, send).send
        await self._app(scope, receive, send)


class _WholeResponse:
    """A response that is kept until its length is known."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._send = send
        self._quota = quotas_of_scope(scope).body
        self._start: Message | None = None
        self._parts: list[bytes] = []

    async def send(self, message: Message) -> None:
        """Keep a part, or send everything; raises `TooManyBytesInFlight` where it is too much."""
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
