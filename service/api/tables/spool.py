"""What is written faster than it is read: a little in memory, the rest in a temporary file.

Most clients send a whole body before they read any answer. An answer that streams meanwhile must
go somewhere, or both sides wait for each other for ever.
"""

import asyncio
import logging
import tempfile
from collections import deque
from typing import IO

_MEMORY_BYTES = 1024 * 1024
_PIECE_BYTES = 64 * 1024
# Who has read nothing for so long does not read while it sends.
_STALLED_SECONDS = 0.25

_log = logging.getLogger(__name__)


class Spool:
    """Bytes on their way from one writer to one reader, in their order.

    A reader that is merely slow is waited for; one that does not read at all gets a file.

    Args:
        most_bytes: of the file; above it the writer waits.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._pieces: deque[bytes] = deque()
        self._held = 0
        self._file: IO[bytes] | None = None
        self._read = self._written = 0
        self._ended = False
        self._moved = asyncio.Condition()

    async def put(self, piece: bytes) -> None:
        """Hand a piece over; waits while there is no room for it."""
        async with self._moved:
            while not self._kept(piece):
                if not self._in_file and await self._reading():
                    continue
                if await self._filed(piece):
                    break
                await self._moved.wait()
            self._moved.notify_all()

    async def get(self) -> bytes | None:
        """The next bytes, or None after the last ones."""
        async with self._moved:
            while not self._pieces and not self._in_file and not self._ended:
                await self._moved.wait()
            if self._pieces:
                data = self._pieces.popleft()
                self._held -= len(data)
            elif self._in_file:
                data = await asyncio.to_thread(self._from_file)
            else:
                return None
            self._moved.notify_all()
            return data

    async def end(self) -> None:
        """Nothing more will be put."""
        async with self._moved:
            self._ended = True
            self._moved.notify_all()

    def close(self) -> None:
        """Let the file go, which nobody else can see."""
        if self._file is not None:
            self._file.close()

    @property
    def _in_file(self) -> bool:
        return self._read < self._written

    def _kept(self, piece: bytes) -> bool:
        """Keep the piece in memory, where there is room and nothing in the file before it."""
        if self._in_file or (self._held and self._held + len(piece) > _MEMORY_BYTES):
            return False
        self._pieces.append(piece)
        self._held += len(piece)
        return True

    async def _filed(self, piece: bytes) -> bool:
        if self._written + len(piece) > self._most_bytes:
            return False
        return await asyncio.to_thread(self._to_file, piece)

    async def _reading(self) -> bool:
        """Whether the reader takes something before it counts as stalled."""
        try:
            async with asyncio.timeout(_STALLED_SECONDS):
                await self._moved.wait()
        except TimeoutError:
            return False
        return True

    def _to_file(self, piece: bytes) -> bool:
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - `close` does it
            self._file.seek(self._written)
            done = 0
            while done < len(piece):
                done += self._file.write(piece[done:])
        except OSError as error:
            _log.warning("no file for an answer that is not read", extra={"reason": str(error)})
            self._most_bytes = 0
            return False
        self._written += len(piece)
        return True

    def _from_file(self) -> bytes:
        if self._file is None:
            return b""
        self._file.seek(self._read)
        data = self._file.read(min(_PIECE_BYTES, self._written - self._read))
        self._read += len(data)
        if self._read == self._written:
            self._read = self._written = 0
            self._file.truncate(0)
        return data
