"""Wrappers around a connection's transport: flow control, graceful closing, fewer packets."""

import asyncio
import os
import socket
import struct
from abc import ABC, abstractmethod

from uvicorn.protocols.http.flow_control import FlowControl

# The start of a final response, and the largest body that is joined with its head.
_HEAD = (b"HTTP/1.1 2", b"HTTP/1.1 3", b"HTTP/1.1 4", b"HTTP/1.1 5")
_MAX_JOINED_BYTES = 64 * 1024
_NO_LINGER = struct.pack("ii", 1, 0)


def reset_on_close(transport: asyncio.Transport) -> None:
    """Make the kernel discard unread output when the connection closes, instead of storing it."""
    connection = transport.get_extra_info("socket")
    if connection is not None:
        with socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
            duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)


def is_reset(connection: socket.socket) -> bool:
    """Return whether the client has reset the connection."""
    return connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0


class ReceivingProtocol(ABC):
    """The methods of a protocol that `GracefulTransport` calls."""

    @abstractmethod
    def is_receiving(self) -> bool:
        """Return whether the client is still sending a request, or has sent more of them."""

    @abstractmethod
    def discard_input(self) -> None:
        """Read and discard all further input; close the connection at its end."""


class HoldingFlowControl(FlowControl):
    """Flow control that reads only while neither uvicorn nor the protocol has paused reading."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__(transport)
        self._holds = self._is_paused = False

    def hold_reading(self) -> None:
        """Pause reading until `release_reading`."""
        self._holds = True
        super().pause_reading()

    def release_reading(self) -> None:
        """Resume reading, unless uvicorn has paused it."""
        self._holds = False
        if not self._is_paused:
            super().resume_reading()

    def pause_reading(self) -> None:
        """Pause reading until `resume_reading`; uvicorn does while a body waits for the app."""
        self._is_paused = True
        super().pause_reading()

    def resume_reading(self) -> None:
        """Resume reading, unless `hold_reading` has paused it."""
        self._is_paused = False
        if not self._holds:
            super().resume_reading()


class GracefulTransport(asyncio.Transport):
    """A transport for uvicorn that closes gracefully and joins heads with bodies.

    uvicorn writes the head of a response before its body. Both are sent in one packet if the body
    follows in the same turn of the event loop.
    """

    def __init__(self, protocol: ReceivingProtocol, raw: asyncio.Transport) -> None:
        super().__init__()
        self._protocol: ReceivingProtocol | None = protocol
        self._raw = raw
        self._head = b""
        self.closing_since: float | None = None
        """Since when the connection waits for its client to close it, in the loop's time."""

    def detach(self) -> None:
        """Drop what is not yet written, and the reference to the protocol of a closed connection.

        The two refer to each other, and in a flood of connections the garbage collector would take
        a quarter of the processor time to free them.
        """
        self._head = b""
        self._protocol = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write to the client; nothing if the connection is lost."""
        if self._protocol is None:
            return
        if self._head:
            head, self._head = self._head, b""
            if len(data) <= _MAX_JOINED_BYTES:
                self._raw.write(b"".join((head, data)))
                return
            self._raw.write(head)
        elif isinstance(data, bytes) and data.startswith(_HEAD):
            self._head = data
            asyncio.get_running_loop().call_soon(self.flush)
            return
        self._raw.write(data)

    def flush(self) -> None:
        """Write the head of a response whose body has not followed."""
        if self._head:
            head, self._head = self._head, b""
            self._raw.write(head)

    def is_closing(self) -> bool:
        """Return whether nothing more can be written."""
        return self._protocol is None or self.closing_since is not None or self._raw.is_closing()

    def close(self) -> None:
        """Close once everything is written; if the client is still sending, give it time to read.

        Closing a socket with unread input resets the connection, and the client may lose the
        response (RFC 9112, section 9.6).
        """
        self.flush()
        if self._protocol is None or not self._protocol.is_receiving():
            self._raw.close()
        else:
            self.linger()

    def linger(self) -> None:
        """Send the end of the output, and wait for the client to close the connection."""
        if self._protocol is not None and not self.is_closing():
            self.closing_since = asyncio.get_running_loop().time()
            self._raw.write_eof()
            self._protocol.discard_input()

    def abort(self) -> None:
        """Close immediately, and discard unread output."""
        if self._raw.get_write_buffer_size():
            reset_on_close(self._raw)
        self._raw.abort()
