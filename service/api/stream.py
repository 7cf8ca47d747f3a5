"""The bytes of a table as they arrive, and as many of them as tell what it is."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.types import Receive

from service.codecs.csv_header import SAMPLE_BYTES
from service.errors import OnwardError


@dataclass(frozen=True)
class Arrival:
    """The first bytes, whether they are all, and those that follow."""

    sample: bytes
    whole: bool
    rest: AsyncIterator[bytes]


class Incoming:
    """The body of one request, received while what has arrived of it is worked on.

    Args:
        receive: of the request.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._changed = asyncio.Condition()
        self._piece: bytes | None = None
        self._ended = False
        self._error: OnwardError | None = None

    async def until_disconnect(self) -> None:
        """Receive the body, one piece ahead of `pieces`; returns when the client has left."""
        while True:
            try:
                message = await self._receive()
            except OnwardError as error:  # the body has stalled; `pieces` says so in its place
                async with self._changed:
                    self._error = error
                    self._changed.notify_all()
                await asyncio.Event().wait()
            if message["type"] == "http.disconnect":
                return
            async with self._changed:
                self._piece = message.get("body", b"")
                self._ended = not message.get("more_body", False)
                self._changed.notify_all()
                await self._changed.wait_for(lambda: self._piece is None)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body by the piece.

        Raises:
            BodyStalled: it arrives too slowly.
        """
        while True:
            async with self._changed:
                await self._changed.wait_for(self._has_changed)
                piece, self._piece = self._piece, None
                self._changed.notify_all()
            if piece:
                yield piece
            elif self._error is not None:
                raise self._error
            elif piece is None:
                return

    def _has_changed(self) -> bool:
        return self._piece is not None or self._ended or self._error is not None


async def begun(pieces: AsyncIterator[bytes], most: int, enough: int = SAMPLE_BYTES) -> Arrival:
    """Wait for enough to tell how a table is written, and at least its first line.

    Args:
        pieces: of the table.
        most: bytes of a line, after which it is not waited for.
        enough: bytes; a form that needs no telling needs few.
    """
    sample = bytearray()
    has_end = has_text = False
    async for piece in pieces:
        sample += piece
        has_end = has_end or b"\n" in piece or b"\r" in piece
        has_text = has_text or bool(piece.strip())
        if (len(sample) >= enough and has_end and has_text) or len(sample) > most:
            return Arrival(bytes(sample), whole=False, rest=pieces)
    return Arrival(bytes(sample), whole=True, rest=pieces)
