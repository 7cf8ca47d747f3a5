"""The bytes of a table as they arrive, and as many of them as tell what it is."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.types import Receive

from service.api.tables.layout import SAMPLE_BYTES
from service.errors import BodyStalled


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
        pause_seconds: how long a piece is waited for.
    """

    def __init__(self, receive: Receive, pause_seconds: float) -> None:
        self._receive = receive
        self._pause_seconds = pause_seconds
        self._changed = asyncio.Condition()
        self._piece: bytes | None = None
        self._ended = False

    async def until_disconnect(self) -> None:
        """Receive the body, one piece ahead of `pieces`; returns when the client has left."""
        while True:
            message = await self._receive()
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
            BodyStalled: a piece was waited for too long.
        """
        while True:
            async with self._changed:
                if self._piece is None and self._ended:
                    return
                try:
                    async with asyncio.timeout(self._pause_seconds):
                        await self._changed.wait_for(lambda: self._piece is not None)
                except TimeoutError:
                    raise BodyStalled(
                        f"Nothing more of the body arrived for {self._pause_seconds:g} s; send it "
                        "without such pauses, or in several requests."
                    ) from None
                piece, self._piece = self._piece, None
                self._changed.notify_all()
            if piece:
                yield piece


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
