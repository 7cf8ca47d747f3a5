"""gzip and deflate bodies, decompressed as they arrive."""

import asyncio
import zlib
from collections.abc import AsyncIterator

from service.errors import InvalidRequest
from service.limits import Limits

# gzip has a header of its own (RFC 1952); deflate, as clients send it, that of zlib (RFC 1950).
WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}

# More compressed bytes, which may expand to a thousand times their size, do so in a thread.
_MOST_BYTES_AT_ONCE = 1024
_OUTPUT_BYTES = 64 * 1024
# zlib copies what follows the end of a member. Short pieces bound that for many short members.
_SHORTEST_PIECE_BYTES = 256
_LONGEST_PIECE_BYTES = 16 * 1024


async def unpacked(
    arriving: AsyncIterator[bytes], encoding: str, limits: Limits | None = None
) -> AsyncIterator[bytes]:
    """The decompressed bytes, in pieces of at most 64 KiB where they were compressed.

    Args:
        arriving: the body as it was sent.
        encoding: ``gzip``, ``deflate`` or ``identity``.
        limits: bounds how much they may expand; None does not.

    Raises:
        InvalidRequest: they are not in that encoding, or end too early.
        DecompressionRatioExceeded: they expand too much.
    """
    if encoding == "identity":
        async for data in arriving:
            yield data
        return
    decompressor = Decompressor(encoding, limits)
    async for data in arriving:
        decompressor.feed(data)
        in_thread = len(data) > _MOST_BYTES_AT_ONCE
        while piece := (
            await asyncio.to_thread(decompressor.read) if in_thread else decompressor.read()
        ):
            yield piece
    decompressor.require_end()


class Decompressor:
    """Decompresses one body in time that is linear in its bytes.

    Args:
        encoding: ``gzip`` or ``deflate``.
        limits: bounds how much the body may expand; None does not.
    """

    def __init__(self, encoding: str, limits: Limits | None = None) -> None:
        self._encoding = encoding
        self._limits = limits
        self._stream = zlib.decompressobj(WINDOW_BITS[encoding])
        self._data = b""
        self._position = 0
        self._pending = b""
        self._piece_bytes = _LONGEST_PIECE_BYTES
        self._read_bytes = self._written_bytes = 0

    def feed(self, data: bytes) -> None:
        """Take the next compressed bytes; those before must have been read to their end."""
        self._data, self._position = data, 0

    def read(self) -> bytes:
        """The next at most 64 KiB of decompressed bytes; none once all that was fed is read.

        Raises:
            InvalidRequest: the bytes are not in this encoding, or go on after its end.
            DecompressionRatioExceeded: they expand too much.
        """
        while self._pending or self._position < len(self._data):
            output = self._decompress(self._next_piece())
            if output:
                self._written_bytes += len(output)
                if self._limits is not None:
                    self._limits.require_ratio(self._read_bytes, self._written_bytes)
                return output
        return b""

    def require_end(self) -> None:
        """Require that the compressed data is complete.

        Raises:
            InvalidRequest: it is not.
        """
        if not self._stream.eof:
            raise InvalidRequest(
                f"The body's {self._encoding} data ends too early; send all of it."
            )

    def _next_piece(self) -> bytes:
        if self._pending:
            return self._pending
        piece = self._data[self._position : self._position + self._piece_bytes]
        self._position += len(piece)
        self._read_bytes += len(piece)
        self._piece_bytes = min(2 * self._piece_bytes, _LONGEST_PIECE_BYTES)
        return piece

    def _decompress(self, piece: bytes) -> bytes:
        if self._stream.eof:
            if self._encoding != "gzip":
                raise InvalidRequest(
                    f"The body goes on after the end of its {self._encoding} data."
                )
            # RFC 1952: a gzip file may have several members, one after the other.
            self._stream = zlib.decompressobj(WINDOW_BITS[self._encoding])
        stream = self._stream
        try:
            output = stream.decompress(piece, _OUTPUT_BYTES)
        except zlib.error as error:
            raise InvalidRequest(
                f"The body is not {self._encoding} to its end, as its header says: {error}."
            ) from None
        self._pending = stream.unconsumed_tail
        if stream.eof:
            # What follows this member is read again, in a shorter piece.
            unused = len(stream.unused_data)
            self._position -= unused
            self._read_bytes -= unused
            self._piece_bytes = _SHORTEST_PIECE_BYTES
        return output
