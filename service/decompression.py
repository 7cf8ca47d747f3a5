"""Decompression of request bodies and files, in linear time and in pieces."""

import asyncio
import zlib
from collections.abc import AsyncIterator

from service.errors import InvalidRequest
from service.limits import Limits

# gzip has its own header (RFC 1952); what clients send as deflate has that of zlib (RFC 1950).
WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}

# More compressed bytes, which may expand a thousandfold, are decompressed in a thread.
_MAX_BYTES_DECOMPRESSED_INLINE = 1024
_OUTPUT_BYTES = 64 * 1024
# zlib copies the bytes after the end of a member. Short pieces bound that for many short members.
_MIN_PIECE_BYTES = 256
_MAX_PIECE_BYTES = 16 * 1024


async def decompress(
    pieces: AsyncIterator[bytes], encoding: str, limits: Limits | None = None
) -> AsyncIterator[bytes]:
    """Decompress data into pieces of at most 64 KiB.

    Args:
        pieces: of the compressed data.
        encoding: ``gzip`` or ``deflate``.
        limits: has the highest ratio of expansion; None for no limit.

    Raises:
        InvalidRequest: the data is invalid or incomplete.
        DecompressionRatioExceeded: it expands too much.
    """
    decompressor = Decompressor(encoding, limits)
    async for data in pieces:
        decompressor.feed(data)
        in_thread = len(data) > _MAX_BYTES_DECOMPRESSED_INLINE
        while piece := (
            await asyncio.to_thread(decompressor.read) if in_thread else decompressor.read()
        ):
            yield piece
    decompressor.require_end()


class Decompressor:
    """Decompresses data in linear time.

    Args:
        encoding: ``gzip`` or ``deflate``.
        limits: has the highest ratio of expansion; None for no limit.
    """

    def __init__(self, encoding: str, limits: Limits | None = None) -> None:
        self._encoding = encoding
        self._limits = limits
        self._stream = zlib.decompressobj(WINDOW_BITS[encoding])
        self._data = b""
        self._position = 0
        self._pending = b""
        self._piece_bytes = _MAX_PIECE_BYTES
        self._read_bytes = self._written_bytes = 0

    def feed(self, data: bytes) -> None:
        """Add compressed bytes; all output of the previous ones must have been read."""
        self._data, self._position = data, 0

    def read(self) -> bytes:
        """Return up to 64 KiB of decompressed bytes; empty if more input is needed.

        Raises:
            InvalidRequest: the data is invalid, or continues after its end.
            DecompressionRatioExceeded: it expands too much.
        """
        while self._pending or self._position < len(self._data):
            if output := self._decompress(self._pending or self._next_piece()):
                self._written_bytes += len(output)
                if self._limits is not None:
                    self._limits.require_ratio(self._read_bytes, self._written_bytes)
                return output
        return b""

    def require_end(self) -> None:
        """Raise `InvalidRequest` if the compressed data is incomplete."""
        if not self._stream.eof:
            raise InvalidRequest(
                f"The body's {self._encoding} data ends too early; send all of it."
            )

    def _next_piece(self) -> bytes:
        piece = self._data[self._position : self._position + self._piece_bytes]
        self._position += len(piece)
        self._read_bytes += len(piece)
        self._piece_bytes = min(2 * self._piece_bytes, _MAX_PIECE_BYTES)
        return piece

    def _decompress(self, piece: bytes) -> bytes:
        if self._stream.eof:
            if self._encoding != "gzip":
                raise InvalidRequest(
                    f"The body goes on after the end of its {self._encoding} data."
                )
            # RFC 1952: a gzip file may consist of several members.
            self._stream = zlib.decompressobj(WINDOW_BITS[self._encoding])
        stream = self._stream
        try:
            output = stream.decompress(piece, _OUTPUT_BYTES)
        except zlib.error as error:
            raise InvalidRequest(
                f"The body is not {self._encoding} to its end, as its header says: {error}."
            ) from None
        # zlib may report the bytes after a member as unconsumed, too.
        self._pending = b"" if stream.eof else stream.unconsumed_tail
        if stream.eof:
            # They are read again, in a shorter piece.
            unused = len(stream.unused_data)
            self._position -= unused
            self._read_bytes -= unused
            self._piece_bytes = _MIN_PIECE_BYTES
        return output
