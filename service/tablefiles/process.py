"""Read the table files of clients in separate processes, whose memory is limited.

A file of a kilobyte may have a gigabyte of values. The libraries that read it allocate what it
says, and abort the process if that fails. So the service never reads one in its own process.
"""

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from service.errors import DeadlineExceeded, DecompressionRatioExceeded, InvalidRequest
from service.filetypes import FileType
from service.limits import Limits
from service.settings import Settings
from service.tablefiles.frames import HEAD_BYTES, Kind, decode_head

_ROOT = Path(__file__).parents[2]
# Files that are read at the same time; the others wait.
_MAX_PROCESSES = 4
# Starting a process takes a third of a second, so that it is stored for the next file.
_IDLE_SECONDS = 30.0
# After a larger file, a process would keep memory that other files do not need.
_MAX_REUSED_BYTES = 4 * 1024 * 1024
_WRITE_BYTES = 256 * 1024
# Workbooks up to this size may expand by any ratio.
_MIN_EXPANDED_BYTES = 1024 * 1024


class ReaderProcess:
    """A process that reads table files one by one, and its pipes."""

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        replies: asyncio.StreamReader,
        jobs: asyncio.StreamWriter,
        transport: asyncio.ReadTransport,
    ) -> None:
        self._process = process
        self._transport = transport
        self.replies = replies
        self.jobs = jobs

    @classmethod
    async def start(cls, memory_mib: int) -> Self:
        """Start a process with this limit of its memory."""
        paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        # One thread of Polars: files of several clients are read by several processes.
        variables = {"PYTHONPATH": os.pathsep.join(paths), "POLARS_MAX_THREADS": "1"}
        process = subprocess.Popen(  # noqa: ASYNC220, S603 - this program, within a millisecond
            [sys.executable, "-m", "service.tablefiles.process_main", str(memory_mib)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | variables,
        )
        loop = asyncio.get_running_loop()
        replies = asyncio.StreamReader()
        # Not the processes of asyncio, which need an event loop in the main thread.
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(replies), process.stdout
        )
        sending, protocol = await loop.connect_write_pipe(
            lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), process.stdin
        )
        jobs = asyncio.StreamWriter(sending, protocol, None, loop)
        return cls(process, replies, jobs, transport)

    @property
    def runs(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def end(self) -> None:
        """End the process immediately, whatever it does."""
        self._process.kill()
        self.jobs.close()
        self._transport.close()
        # The end of a large process takes a while.
        threading.Thread(target=self._process.wait, daemon=True).start()


class TableFileProcesses:
    """The processes that read table files: they start when they are needed, and end when idle."""

    def __init__(self, settings: Settings, limits: Limits) -> None:
        self.limits = limits
        self.memory_mib = settings.max_table_file_memory_mib
        self.timeout_seconds = settings.deadline_seconds
        self.max_ratio = settings.max_decompression_ratio
        self.turns = asyncio.Semaphore(_MAX_PROCESSES)
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
            InvalidRequest: it cannot be read.
            DecompressionRatioExceeded: it expands too much.
            DeadlineExceeded: it takes too long.
        """
        await self._processes.turns.acquire()
        try:
            self._process = await self._processes.take()
            self._writing = asyncio.create_task(self._write(self._process, self._body))
            # Only the process holds the file from here on.
            self._body = b""
            _, content = await self._receive()
            self.numbers = frozenset(json.loads(content))
        except BaseException:
            self._leave()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave()

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the table as the text of a CSV file; raise as `__aenter__` does."""
        written = 0
        while True:
            kind, content = await self._receive()
            if kind is Kind.END:
                self._has_ended = True
                return
            written += len(content)
            self._processes.limits.require_ratio(self._size, written)
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

    async def _receive(self) -> tuple[Kind, bytes]:
        """Receive the next frame; raise the error that it says."""
        process = self._process
        if process is None:
            raise self._crashed()
        try:
            async with asyncio.timeout(self._processes.timeout_seconds):
                kind, length = decode_head(await process.replies.readexactly(HEAD_BYTES))
                content = await process.replies.readexactly(length)
        except TimeoutError:
            raise DeadlineExceeded(self._processes.timeout_seconds) from None
        except asyncio.IncompleteReadError:
            raise self._crashed() from None
        if kind is Kind.REJECTED:
            self._has_ended = True
            raise InvalidRequest(content.decode())
        if kind is Kind.EXPANDS:
            self._has_ended = True
            error = DecompressionRatioExceeded(self._processes.max_ratio)
            raise self._processes.limits.reject(error)
        return kind, content

    def _crashed(self) -> InvalidRequest:
        return InvalidRequest(
            f"The body is {self._kind.description} that cannot be read within "
            f"{self._processes.memory_mib:,} MiB of memory: it expands to more, or it is damaged; "
            "send fewer rows at once, or send the table as text/csv."
        )

    def _leave(self) -> None:
        """Store the process for the next file if it has finished this one."""
        self._processes.turns.release()
        process, self._process = self._process, None
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None
        if process is None:
            return
        if self._has_ended and process.runs and self._size <= _MAX_REUSED_BYTES:
            self._processes.give_back(process)
        else:
            process.end()
