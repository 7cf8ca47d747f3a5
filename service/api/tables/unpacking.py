"""A packed body unpacked as it arrives, however large it grows."""

import zlib
from collections.abc import AsyncIterator, Iterator

from service.api.bodies import WINDOW_BITS
from service.errors import InvalidRequest

# A packed byte may hold a thousand; no more than so many are held at once.
_PIECE_BYTES = 64 * 1024


async def unpacked(arriving: AsyncIterator[bytes], encoding: str) -> AsyncIterator[bytes]:
    """The bytes that these unpack to, by the piece.

    Args:
        arriving: as they were sent.
        encoding: ``gzip``, ``deflate`` or ``identity``.

    Raises:
        InvalidRequest: they are not what the encoding says, or end too early.
    """
    unpacker = None if encoding == "identity" else _Unpacker(encoding)
    async for data in arriving:
        if unpacker is None:
            yield data
            continue
        for piece in unpacker.unpack(data):
            yield piece
    if unpacker is not None:
        unpacker.require_end()


class _Unpacker:
    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._stream = zlib.decompressobj(WINDOW_BITS[encoding])

    def unpack(self, packed: bytes) -> Iterator[bytes]:
        while packed:
            if self._stream.eof:
                # RFC 1952: a gzip file may have several members, one after the other.
                self._stream = zlib.decompressobj(WINDOW_BITS[self._encoding])
            try:
                yield self._stream.decompress(packed, _PIECE_BYTES)
            except zlib.error as error:
                raise InvalidRequest(
                    f"The body is not {self._encoding} to its end, as its header says: {error}."
                ) from None
            stream = self._stream
            packed = stream.unused_data if stream.eof else stream.unconsumed_tail

    def require_end(self) -> None:
        if not self._stream.eof:
            raise InvalidRequest(
                f"The body's {self._encoding} data ends too early; send all of it."
            )
