"""Read the table files of clients in separate processes, whose memory is limited.

A file of a kilobyte may have a gigabyte of values. The libraries that read it allocate what it
says, and abort the process if that fails. So the service never reads one in its own process.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from types import TracebackType
from typing import Self

from service.errors import (
    DeadlineExceeded,
    DecompressionRatioExceeded,
    InvalidRequest,
    OnwardError,
    TableReaderFailed,
)
from service.filetypes import FileType
from service.limits import Limits
from service.settings import Settings
from service.tablefiles.frames import HEAD_BYTES, Kind, decode_head
from service.tablefiles.reader_process import ReaderProcess

_MAX_PROCESSES = 4
# Starting a process takes a third of a second, so that it is stored for the next file.
_IDLE_SECONDS = 30.0
# After a larger file, a process would keep memory that other files do not need.
_MAX_REUSED_BYTES = 4 * 1024 * 1024
_WRITE_BYTES = 256 * 1024
# Workbooks up to this size may expand by any ratio.
_MIN_EXPANDED_BYTES = 1024 * 1024

_log = logging.getLogger(__name__)


class TableFileProcesses:
    """The processes that read table files: they start when they are needed, and end when idle.

    Args:
        settings: the memory of a process, and the limits of a file.
        limits: count what they reject.
        most: files that are read at the same time; the others wait.
    """

    def __init__(self, settings: Settings, limits: Limits, most: int = _MAX_PROCESSES) -> None:
        self.limits = limits
        self.memory_mib = settings.max_table_file_memory_mib
        self.timeout_seconds = settings.deadline_seconds
        self.max_ratio = settings.max_decompression_ratio
        self.turns = asyncio.Semaphore(most)
        self._idle: list[ReaderProcess] = []
        self._timer: asyncio.TimerHandle | None = None

    def open(self, body: bytes, kind: FileType) -> "ClientFile":
        """Return a file to read, as an asynchronous context manager."""
        return ClientFile(self, body, kind)

    async def take(self) -> ReaderProcess:
        """Return an idle process, or start one."""
        while self._idle:
            process = self._idle.pop()
            if process.runs:
                process.forget_errors()
                return process
            process.end()
        return await ReaderProcess.start(self.memory_mib)

    def give_back(self, process: ReaderProcess) -> None:
        """Store a process that has read a file, until it was idle for long."""
        self._idle.append(process)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(_IDLE_SECONDS, self.close)

    def close(self) -> None:
        """End the idle processes."""
        if self._timer is not None:
            self._timer.cancel()
        while self._idle:
            self._idle.pop().end()


class ClientFile:
    """A table file of a client, which is read while the context is open.

    Args:
        processes: which read files.
        body: the file.
        kind: its type.
    """

    def __init__(self, processes: TableFileProcesses, body: bytes, kind: FileType) -> None:
        self._processes = processes
        self._body = body
        self._kind = kind
        self._size = len(body)
        self._process: ReaderProcess | None = None
        self._writing: asyncio.Task[None] | None = None
        self._has_ended = False
        self.numbers: frozenset[int] = frozenset()
        """The positions of the columns of numbers."""

    async def __aenter__(self) -> Self:
        """Open the file.

        Raises:
            InvalidRequest: it cannot be read, or takes too much memory.
            TableReaderFailed: its process has ended.
            DecompressionRatioExceeded: it expands too much.
            DeadlineExceeded: it takes too long.
        """
        try:
            async with asyncio.timeout(self._processes.timeout_seconds):
                await self._processes.turns.acquire()
                await self._open()
        except TimeoutError:
            raise DeadlineExceeded(self._processes.timeout_seconds) from None
        return self

    async def _open(self) -> None:
        """Have a process read the file up to its columns; release the turn if that fails."""
        try:
            self._process = await self._processes.take()
            self._writing = asyncio.create_task(self._write(self._process, self._body))
            # Only the process holds the file from here on.
            self._body = b""
            _, content = await self._receive(self._process)
            self.numbers = frozenset(json.loads(content))
        except BaseException:
            self._leave()
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave()

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the table as the text of a CSV file; raise as `__aenter__` does."""
        process = self._process
        if process is None:
            raise RuntimeError("a file is read after its context was left")
        while True:
            try:
                async with asyncio.timeout(self._processes.timeout_seconds):
                    kind, content = await self._receive(process)
            except TimeoutError:
                raise DeadlineExceeded(self._processes.timeout_seconds) from None
            if kind is Kind.END:
                self._has_ended = True
                return
            yield content

    async def _write(self, process: ReaderProcess, body: bytes) -> None:
        """Write the file to its process, in pieces, as the transport copies them."""
        max_bytes = max(_MIN_EXPANDED_BYTES, self._processes.max_ratio * len(body))
        job = json.dumps({"size": len(body), "max_bytes": max_bytes})
        # A process that has ended is reported where its replies are read.
        with suppress(ConnectionError):
            process.jobs.write(f"{job}\n".encode())
            for start in range(0, len(body), _WRITE_BYTES):
                process.jobs.write(body[start : start + _WRITE_BYTES])
                await process.jobs.drain()

    async def _receive(self, process: ReaderProcess) -> tuple[Kind, bytes]:
        """Receive the next frame; raise the error that it says."""
        try:
            kind, length = decode_head(await process.replies.readexactly(HEAD_BYTES))
            content = await process.replies.readexactly(length)
        except asyncio.IncompleteReadError:
            raise await self._explain_end(process) from None
        if kind is Kind.REJECTED:
            self._has_ended = True
            raise InvalidRequest(content.decode())
        if kind is Kind.EXPANDS:
            self._has_ended = True
            error = DecompressionRatioExceeded(self._processes.max_ratio)
            raise self._processes.limits.reject(error)
        return kind, content

    async def _explain_end(self, process: ReaderProcess) -> OnwardError:
        """Log why the process has ended, and return the error of its file."""
        end = await process.wait()
        name = "the process that reads table files"
        if end.is_out_of_memory:
            _log.warning("%s needs more memory: %s", name, end)
            return InvalidRequest(
                f"The body is {self._kind.description} that cannot be read within "
                f"{self._processes.memory_mib:,} MiB of memory: it expands to more, or it is "
                "damaged; send fewer rows at once, or send the table as text/csv."
            )
        _log.error("%s has failed: %s", name, end)
        return TableReaderFailed(
            "The process that reads table files has ended before the end of this one; try again, "
            "or send the table as text/csv."
        )

    def _leave(self) -> None:
        """Store the process for the next file if it has finished this one."""
        process, self._process = self._process, None
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None
        if process is None:
            self._processes.turns.release()
        elif self._has_ended and process.runs and self._size <= _MAX_REUSED_BYTES:
            self._processes.give_back(process)
            self._processes.turns.release()
        else:
            # Its memory is in use until it has ended.
            process.end(self._processes.turns.release)
