"""What is written faster than it is read: a little in memory, the rest in a temporary file.

Most clients send a whole body before they read any of the response. A response that streams
meanwhile must go somewhere, or both sides wait for each other for ever.
"""

import asyncio
import logging
import tempfile
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeVar

from service.limits import Quota

T = TypeVar("T")

_MEMORY_BYTES = 1024 * 1024
_PIECE_BYTES = 64 * 1024
# Room in the file is reserved by so many bytes at a time.
_STEP_BYTES = 1024 * 1024
# A client that has read nothing for so long does not read while it sends.
_STALLED_SECONDS = 0.25

_log = logging.getLogger(__name__)


class Spool:
    """Bytes on their way from one writer to one reader, in their order.

    A reader that is merely slow is waited for; one that does not read at all gets a file.
    Leaving the context removes the file and gives back what it has reserved.

    Args:
        quota: bytes of the files of all spools. Where it is used up the writer waits.
        folder: of the file; None is the system's temporary folder.
    """

    def __init__(self, quota: Quota, folder: Path | None = None) -> None:
        self._reservation = quota.hold()
        self._quota = quota
        self._folder = folder
        self._pieces: deque[bytes] = deque()
        self._held = 0
        self._file: IO[bytes] | None = None
        self._working: asyncio.Future[Any] | None = None
        self._read = self._written = 0
        self._full = False
        self._ended = False
        self._moved = asyncio.Condition()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        if self._working is not None and not self._working.done():
            # A cancelled task leaves its thread behind; closing the file under it might hand its
            # descriptor to somebody else.
            await asyncio.wait([self._working])
        if self._file is not None:
            self._file.close()
        self._reservation.release()

    async def prepare(self) -> bool:
        """Make the file, and fill its first bytes; whether there is room for them."""
        return not self._quota.limit or (self._grow() and await self._in_thread(self._made))

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
                data = await self._in_thread(self._from_file)
                self._read += len(data)
                if self._read == self._written:
                    self._read = self._written = 0
                    self._shrink()
            else:
                return None
            self._moved.notify_all()
            return data

    async def end(self) -> None:
        """Nothing more will be put."""
        async with self._moved:
            self._ended = True
            self._moved.notify_all()

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
        while self._written + len(piece) > self._reservation.amount:
            if not self._grow():
                return False
        if not await self._in_thread(partial(self._to_file, piece, self._written)):
            return False
        self._written += len(piece)
        return True

    def _grow(self) -> bool:
        """Reserve more of the quota; whether there was any."""
        step = min(_STEP_BYTES, self._quota.limit - self._quota.used)
        if step <= 0 or self._full:
            return False
        self._reservation.add(step)
        return True

    def _shrink(self) -> None:
        """Give back what a file that has been read needs no more."""
        self._reservation.subtract(max(0, self._reservation.amount - _STEP_BYTES))

    async def _reading(self) -> bool:
        """Whether the reader takes something before it counts as stalled."""
        try:
            async with asyncio.timeout(_STALLED_SECONDS):
                await self._moved.wait()
        except TimeoutError:
            return False
        return True

    async def _in_thread(self, work: Callable[[], T]) -> T:
        working = asyncio.ensure_future(asyncio.to_thread(work))
        self._working = working
        return await asyncio.shield(working)

    def _made(self) -> bool:
        return self._to_file(bytes(self._reservation.amount), at=0)

    def _to_file(self, piece: bytes, at: int) -> bool:
        """Write a piece; whether the disk took it."""
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=0, dir=self._folder)  # noqa: SIM115 - `__aexit__` closes it
            self._file.seek(at)
            done = 0
            while done < len(piece):
                done += self._file.write(piece[done:])
        except OSError as error:
            _log.warning("a response cannot be stored", extra={"reason": str(error)})
            self._full = True
            return False
        return True

    def _from_file(self) -> bytes:
        if self._file is None:
            return b""
        self._file.seek(self._read)
        data = self._file.read(min(_PIECE_BYTES, self._written - self._read))
        if self._read + len(data) == self._written:
            self._file.truncate(_STEP_BYTES)
        return data
