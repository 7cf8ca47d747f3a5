"""A connection's transport as uvicorn's parts see it: how it reads on, and how it closes."""

import asyncio
import os
import socket
import struct
from typing import Protocol

from uvicorn.protocols.http.flow_control import FlowControl

# The status line of a final response, and the largest body that is copied to its head.
_HEAD = (b"HTTP/1.1 2", b"HTTP/1.1 3", b"HTTP/1.1 4", b"HTTP/1.1 5")
_MAX_JOINED_BYTES = 64 * 1024
_NO_LINGER = struct.pack("ii", 1, 0)


def reset_on_close(transport: asyncio.Transport) -> None:
    """Have the kernel drop what a client does not read, instead of keeping it for the client."""
    connection = transport.get_extra_info("socket")
    if connection is not None:
        with socket.socket(fileno=os.dup(connection.fileno())) as same:
            same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)


def is_reset(transport: asyncio.Transport) -> bool:
    """Whether the client has reset the connection."""
    connection = transport.get_extra_info("socket")
    return connection is not None and connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0


class Closing(Protocol):
    """What knows how to close a connection."""

    @property
    def is_closing(self) -> bool:
        """Whether no more can be written."""

    def close_gracefully(self) -> None:
        """Close once everything is written."""


class HoldingFlowControl(FlowControl):
    """Flow control that reads no more while input is held, whatever an application receives."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__(transport)
        self._holds = False

    def hold_reading(self) -> None:
        """Read no more until it is released."""
        self._holds = True
        self.pause_reading()

    def release_reading(self) -> None:
        """Read on."""
        self._holds = False
        super().resume_reading()

    def resume_reading(self) -> None:
        """Read on, unless input is held."""
        if not self._holds:
            super().resume_reading()


class GracefulTransport(asyncio.Transport):
    """The transport as uvicorn sees it: it closes as the protocol does.

    uvicorn writes the head of a response before it has the body. Here it is sent with the body, if
    that follows in the same turn of the event loop: one packet instead of two.

    Args:
        protocol: of the connection.
        raw: the event loop's own transport.
    """

    def __init__(self, protocol: Closing, raw: asyncio.Transport) -> None:
        super().__init__()
        self._protocol: Closing | None = protocol
        self._raw = raw
        self._head = b""

    def detach(self) -> None:
        """Forget the protocol of a closed connection.

        The two refer to each other, and the garbage collector takes a quarter of the processor
        time in a flood of connections if it must free them.
        """
        self._protocol = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write to the client."""
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
        """Whether no more can be written."""
        return self._protocol is None or self._protocol.is_closing

    def close(self) -> None:
        """Close once everything is written."""
        if self._protocol is not None:
            self._protocol.close_gracefully()
