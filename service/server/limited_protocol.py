"""uvicorn's HTTP/1.1 protocol with limits on the size and the duration of requests.

Requests are parsed one at a time: while a response is due no more input is parsed, so responses
have the order of their requests, and the server stops reading from a client that does not read.
Each complete request gets exactly one response (RFC 9112).
"""

import re
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NoReturn

import httptools
from uvicorn import Config
from uvicorn.protocols.utils import get_local_addr, get_remote_addr
from uvicorn.server import ServerState

from service.api.errors import error_response
from service.api.inference import RawResponse, header_lines
from service.api.middleware import BODY_ARRIVED, DRAINED_BODY_BYTES, STATUS_SENT
from service.errors import (
    FeatureNotImplemented,
    HeadTimeout,
    HeadTooLarge,
    InvalidRequest,
    LimitExceeded,
    OnwardError,
    TooManyHeaders,
    Unavailable,
    UrlTooLong,
)
from service.observability.metrics import request_id_from
from service.server.connections import Connection, Connections, IdlePeriod, IdleState

_END_OF_HEAD = b"\r\n\r\n"
_HOST = re.compile(rb"[\w.~!$&'()*+,;=:%\[\]-]*", re.ASCII)
_LONGEST_HOST_SHOWN = 60
# Input is parsed up to the next empty line at a time, since a request can only end there. Chunked
# bodies may have many empty lines, so their pieces have at least this size.
_MIN_CHUNKED_BYTES = 1024
# The parser calls back for each chunk: 5,000 in a piece if each has one byte. After a piece, other
# connections are next if this one had so many chunks in a turn of the event loop.
_MAX_CHUNKED_BYTES = 32 * 1024
_MAX_CHUNKS_PER_TURN = 4096
_MAX_REQUESTS_PER_TURN = 16


def body_length(headers: Sequence[tuple[bytes, bytes]], http_version: str) -> int | None:
    """Return the length of a request's body in bytes; None if it is chunked.

    Checks the rules of RFC 9112 for the end of a request that the parser does not check. The
    headers have lower-case names.

    Raises:
        InvalidRequest: the head breaks a rule, so a proxy may find another end.
        FeatureNotImplemented: the transfer coding is not chunked.
    """
    hosts = [value for name, value in headers if name == b"host"]
    codings = [value for name, value in headers if name == b"transfer-encoding"]
    lengths = [value for name, value in headers if name == b"content-length"]
    if http_version not in {"1.0", "1.1"}:
        raise InvalidRequest(f"HTTP/{http_version} is not supported; use HTTP/1.1.")
    if len(hosts) > 1 or (not hosts and http_version == "1.1"):  # section 3.2
        raise InvalidRequest(f"Send one Host header; the request has {len(hosts)}.")
    if hosts and not _HOST.fullmatch(hosts[0]):
        found = hosts[0][:_LONGEST_HOST_SHOWN].decode("latin-1")
        raise InvalidRequest(
            f"The Host header is {found!r}; send the name of a host, such as example.org:8000."
        )
    if not codings:
        return int(lengths[0]) if lengths else 0
    if http_version == "1.0":  # section 6.1
        raise InvalidRequest("HTTP/1.0 has no Transfer-Encoding; send a Content-Length.")
    if codings[0].strip().lower() != b"chunked":
        raise FeatureNotImplemented("A Transfer-Encoding other than chunked")
    return None


def head_without_upgrade(
    parser: httptools.HttpRequestParser, url: bytes, headers: Sequence[tuple[bytes, bytes]]
) -> bytes:
    """Return a parsed head without its Upgrade header.

    A server may ignore the header (RFC 9110, section 7.8), but with it the parser reads no body.
    """
    version = parser.get_http_version().encode()
    fields = [field for field in headers if field[0] != b"upgrade"]
    return b"%b %b HTTP/%b\r\n%b\r\n" % (parser.get_method(), url, version, header_lines(fields))


class LimitedProtocol(Connection):
    """The protocol of one connection; all of them share ``open_connections``."""

    def __init__(
        self,
        open_connections: Connections,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
    ) -> None:
        super().__init__(open_connections, config, server_state, app_state)
        # Input that waits for a response, from an offset.
        self._buffered = b""
        self._buffered_start = 0
        self._is_consuming = self._ignores_input = False
        # The request that is being parsed. `_body_left` is None for a chunked body.
        self._had_request = self._in_head = self._in_body = False
        self._body_left: int | None = 0
        self._head_bytes = 0
        # Pieces of the body in this turn of the event loop; in a chunked one, chunks.
        self._body_parts = 0
        # Whether the last input had a complete head or a part of a body; the bytes since then.
        self._has_progress = False
        self._unframed_bytes = 0
        self._error: OnwardError | None = None
        # The responses: one that the fast path owes, and an error to send after those that are due.
        self._fast_response_due = False
        self._rejection: OnwardError | None = None
        self._is_shutting_down = False
        # Times of the event loop.
        self._request_since = self._idle_since = self.loop.time()

    @abstractmethod
    def _take_request(self, data: bytes, start: int) -> int:
        """Process a request without uvicorn's parser; return how many bytes were consumed."""

    @abstractmethod
    def _write(self, response: RawResponse, request_id: bytes) -> None:
        """Write a complete response."""

    # Callbacks of the transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Ignore the rest of the input."""
        self._ignores_input = True
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Process input, or buffer it while a response is due."""
        if self._buffered:
            self._buffered += data
        else:
            self._consume(data)

    def eof_received(self) -> bool:  # type: ignore[override] # asyncio's type of it
        """Keep the connection open if a response is due: the client may have closed one side."""
        self._at_eof = True
        return self._is_response_due() and self.transport.closing_since is None

    def resume_writing(self) -> None:
        """Continue, since the client has read its response."""
        super().resume_writing()
        self._continue()

    def shutdown(self) -> None:
        """Close the connection once the request in progress is finished."""
        self._is_shutting_down = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False
        elif not (self._fast_response_due or self._has_partial_request()):
            self.transport.close()

    # Input

    def _consume(self, data: bytes, start: int = 0) -> None:
        """Process input from a position until a response is due, and buffer the rest."""
        requests = self._body_parts = 0
        self._is_consuming = True
        while start < len(data) and not self._ignores_input:
            if not self._in_body and (self._is_response_due() or self.flow.write_paused):
                break
            in_request = self._in_head or self._in_body
            is_last = requests == _MAX_REQUESTS_PER_TURN and not in_request
            if is_last or self._body_parts >= _MAX_CHUNKS_PER_TURN:
                self.loop.call_soon(self._continue)  # after other connections
                break
            if in_request:
                start += self._feed(data, start)
            else:
                requests += 1
                start += self._take_request(data, start) or self._feed(data, start)
        self._is_consuming = False
        if start < len(data) and not self._ignores_input:
            # Not a slice: copying the rest after each of many requests would take quadratic time.
            self._buffered = data
            self._buffered_start = start
            self.flow.hold_reading()
        elif self._at_eof or self._is_shutting_down:
            self._continue()
        elif self._in_body and self._body_left is None:
            # Otherwise the event loop would read up to 32 times in a turn.
            self.flow.hold_reading()
            self.loop.call_soon(self._continue)

    def _note_first_request(self) -> None:
        self._had_request = True
        self._open_connections.note_first_request(self)

    def _is_response_due(self) -> bool:
        """Return whether a complete request still needs its response."""
        if self._fast_response_due or self.pipeline:
            return True
        cycle = self.cycle
        return cycle is not None and not cycle.response_complete and not self._in_body

    def _continue(self) -> None:
        """Process the buffered input, if that is possible now."""
        if self._is_consuming or self._raw.is_closing() or self._is_response_due():
            return
        if self._rejection is not None:
            self._send_rejection(self._rejection)
        elif self._is_shutting_down and not self._has_partial_request():
            self.transport.close()
        elif self._buffered and (self._in_body or not self.flow.write_paused):
            data, self._buffered = self._buffered, b""
            self.flow.release_reading()
            self._consume(data, self._buffered_start)
        elif self._at_eof and not self._buffered:
            self.transport.close()
        elif not self._buffered:
            self.flow.release_reading()

    def _feed(self, data: bytes, start: int) -> int:
        """Pass a piece of input to uvicorn's parser; return how many bytes were consumed."""
        end = self._find_piece_end(data, start)
        self._has_progress = False
        try:
            try:
                self.parser.feed_data(data[start:end])
            except httptools.HttpParserUpgrade as upgrade:
                end = start + upgrade.args[0]
                self._restart_without_upgrade()
        except (httptools.HttpParserError, FeatureNotImplemented) as error:
            self._reject(self._error or InvalidRequest(f"The input is not HTTP/1.1: {error}."))
            return end - start
        if self._has_partial_request() and not self._has_progress:
            self._unframed_bytes += end - start
            if self._unframed_bytes > self._settings.max_head_bytes:
                self._reject(HeadTooLarge(self._settings.max_head_bytes))
        else:
            self._unframed_bytes = 0
        return end - start

    def _find_piece_end(self, data: bytes, start: int) -> int:
        """Return the end of a piece of input that contains at most one end of a request."""
        end = len(data)
        if self._in_body:
            if self._body_left is not None:
                return min(start + max(self._body_left, 1), end)
            end = min(start + _MAX_CHUNKED_BYTES, end)
            start += _MIN_CHUNKED_BYTES
        found = data.find(_END_OF_HEAD, start, end)
        return end if found < 0 else found + len(_END_OF_HEAD)

    def _restart_without_upgrade(self) -> None:
        """Parse the head again without its Upgrade header."""
        if self.parser.get_method() == b"CONNECT":
            self._fail(FeatureNotImplemented("The method CONNECT"))
        head = head_without_upgrade(self.parser, self.url, self.headers)
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.parser.feed_data(head)

    # Callbacks of the parser

    def on_message_begin(self) -> None:
        """Reset the state for a new request."""
        self._request_since = self.loop.time()
        self._in_head = True
        if not self._had_request:
            self._note_first_request()
        self._error = None
        self._head_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Append to the URL, up to the limit."""
        super().on_url(url)
        if len(self.url) > self._settings.max_url_bytes:
            self._fail(UrlTooLong(self._settings.max_url_bytes))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header, up to the limits, and drop trailers.

        The parser still acts on some trailers, so a request with trailers is the last one of its
        connection.
        """
        if not self._in_head:
            self.cycle.keep_alive = False
            return
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > self._settings.max_head_bytes:
            self._fail(HeadTooLarge(self._settings.max_head_bytes))
        super().on_header(name, value)
        if len(self.headers) > self._settings.max_headers:
            self._fail(TooManyHeaders(self._settings.max_headers))

    def on_headers_complete(self) -> None:
        """Start the request, unless its head is invalid."""
        self._has_progress = True
        if self.parser.should_upgrade():
            return  # `_feed` parses the head again
        self._in_head = False
        try:
            self._body_left = body_length(self.headers, self.parser.get_http_version())
            self._add_addresses()
            super().on_headers_complete()
        except InvalidRequest as error:
            self._fail(error)
        except httptools.HttpParserInvalidURLError:
            self._fail(InvalidRequest("The URL is not valid; send a path such as /models."))
        self._in_body = True
        if self._is_shutting_down:
            self.cycle.keep_alive = False

    def _add_addresses(self) -> None:
        """Add the addresses of both sides to the scope; they are read once per connection."""
        if self.client is None:
            self.server = get_local_addr(self._raw)
            self.client = get_remote_addr(self._raw)
        self.scope["server"], self.scope["client"] = self.server, self.client

    def on_body(self, body: bytes) -> None:
        """Append to the body."""
        self._has_progress = self._has_body_progress = True
        self._body_parts += 1
        if self._body_left is not None:
            self._body_left -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Complete the request; ignore further input if the connection closes after it."""
        if self._in_head:
            return  # see `on_headers_complete`
        self._in_body = False
        self.scope[BODY_ARRIVED] = True  # type: ignore[literal-required] # see STATUS_SENT
        super().on_message_complete()
        if not self.cycle.keep_alive:
            self._ignores_input = True

    def on_response_complete(self) -> None:
        """Continue after a response of the ASGI app has been sent.

        This replaces uvicorn's method, which would start a timer of its own for each request. The
        timeout between requests is that of `check_timeouts`.
        """
        self.transport.flush()
        self.server_state.total_requests += 1
        self._idle_since = self.loop.time()
        if not self.transport.is_closing():
            self.flow.resume_reading()
            if self.pipeline:  # of short requests after a chunked body, in the same piece of input
                self._start_asgi_task(*self.pipeline.pop())
        if self._raw.is_closing():
            return
        rest = self._body_left
        is_early = self._in_body and self.cycle.response_complete
        if is_early and (rest is None or rest > DRAINED_BODY_BYTES):
            self.transport.close()  # a new connection is quicker than the rest of the body
        else:
            self._continue()

    def _fail(self, error: OnwardError) -> NoReturn:
        """Stop parsing with an error, which `_feed` sends."""
        self._error = error
        raise error

    # Closing and rejecting

    def _reject(self, error: OnwardError) -> None:
        """Send an error and ignore further input, after the responses that are due."""
        self._ignores_input = True
        if isinstance(error, LimitExceeded | HeadTimeout | Unavailable):
            self._recorder.metrics.count_rejection(error.code)
        if self._is_response_due():
            self._rejection = error
        else:
            self._send_rejection(error)

    def _send_rejection(self, error: OnwardError) -> None:
        response = error_response(error)
        cycle, self._rejection = self.cycle, None
        if cycle is not None and not cycle.response_complete:
            if cycle.response_started:
                self._raw.abort()  # only this shows the client that its response is incomplete
                return
            cycle.scope[STATUS_SENT] = response.status_code  # type: ignore[literal-required] # our own key in the scope
            cycle.disconnected = True
            cycle.message_event.set()
        else:
            status, reason = response.status_code, str(error)
            self._recorder.record("", "", status, 0.0, code=error.code, reason=reason)
        lines = header_lines([*response.raw_headers, (b"connection", b"close")])
        raw_response = RawResponse(response.status_code, lines, bytes(response.body))
        self._write(raw_response, request_id_from(None).encode())
        self.transport.linger()

    def _has_partial_request(self) -> bool:
        return self._in_head or self._in_body

    def is_receiving(self) -> bool:
        """Return whether the client is still sending a request, or has sent more of them."""
        return self._has_partial_request() or bool(self._buffered)

    def discard_input(self) -> None:
        """Read and discard all further input; close the connection at its end."""
        self._ignores_input = True
        self._buffered = b""
        self.flow.release_reading()
        self.flow.resume_reading()
        if self._at_eof:
            self._raw.close()

    # Timeouts

    def find_idle_period(self) -> IdlePeriod | None:
        """Return what the connection waits for; None while a request is processed."""
        cycle = self.cycle
        if self.transport.closing_since is not None:
            return IdlePeriod(IdleState.CLOSING, self.transport.closing_since)
        if self._is_response_due():
            return None
        if self._has_partial_request():
            if cycle is not None and cycle.response_started and not cycle.response_complete:
                return None
            return IdlePeriod(IdleState.IN_REQUEST, self._request_since)
        if self._raw.get_write_buffer_size():
            return IdlePeriod(IdleState.UNREAD_RESPONSE, self._unread_mark[1])
        state = IdleState.BETWEEN_REQUESTS if self._had_request else IdleState.BEFORE_FIRST_REQUEST
        return IdlePeriod(state, self._idle_since)

    def _check_request(self, elapsed: float) -> None:
        """Apply the timeouts of a partial request; the ASGI app has its own for bodies it reads."""
        if self._in_head:
            if elapsed > self._settings.head_seconds:
                self._reject(HeadTimeout(self._settings.head_seconds))
        elif self.cycle.response_complete and elapsed > self._settings.body_seconds:
            self.transport.linger()
