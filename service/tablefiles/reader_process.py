"""One process that reads table files, its pipes, and why it has ended."""

import asyncio
import os
import re
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_FOLDER = str(Path(__file__).parents[2])
# An installed package is found without its folder, which would hide modules of Python.
_ROOT = None if _FOLDER in sysconfig.get_paths().values() else _FOLDER
# Of the standard error that is stored, and of it in the log.
_STORED_BYTES, _LOGGED_LENGTH = 16 * 1024, 1000
# An ended process closes its pipes a little earlier.
_END_SECONDS = 5.0
_OUT_OF_MEMORY = re.compile(
    r"memory allocation of \d+ bytes failed|MemoryError|bad_alloc|Cannot allocate memory"
)


def _do_nothing() -> None:
    pass


@dataclass(frozen=True)
class ProcessEnd:
    """How a process has ended."""

    status: int
    """Its exit status; of a signal, the negative number."""
    errors: str
    """The end of its standard error."""

    @property
    def is_out_of_memory(self) -> bool:
        """Whether it could not allocate memory."""
        return _OUT_OF_MEMORY.search(self.errors) is not None

    def __str__(self) -> str:
        errors = " ".join(self.errors.split())[-_LOGGED_LENGTH:]
        return f"exit status {self.status}, {errors or 'without a message'}"


class _ErrorOutput(asyncio.Protocol):
    """Stores the end of what a process writes to its standard error."""

    def __init__(self) -> None:
        self.content = b""
        self.ended = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.content = (self.content + data)[-_STORED_BYTES:]

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - of asyncio
        self.ended.set()


class ReaderProcess:
    """A process that reads table files one by one, and its pipes."""

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        replies: asyncio.StreamReader,
        jobs: asyncio.StreamWriter,
        errors: _ErrorOutput,
        transports: Sequence[asyncio.BaseTransport],
    ) -> None:
        self._process = process
        self._errors = errors
        self._transports = transports
        self.replies = replies
        self.jobs = jobs

    @classmethod
    async def start(cls, memory_mib: int) -> Self:
        """Start a process with this limit of its memory."""
        paths = filter(None, [_ROOT, os.environ.get("PYTHONPATH")])
        variables = {
            "PYTHONPATH": os.pathsep.join(paths),
            # One thread of Polars: files of several clients are read by several processes.
            "POLARS_MAX_THREADS": "1",
            # The end of the errors has the reason, not a backtrace.
            "RUST_BACKTRACE": "0",
        }
        process = subprocess.Popen(  # noqa: ASYNC220, S603 - this program, within a millisecond
            # -P: the working directory may have a file with the name of a library.
            [sys.executable, "-P", "-m", "service.tablefiles.process_main", str(memory_mib)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | variables,
        )
        transports: list[asyncio.BaseTransport] = []
        try:
            return await cls._connect(process, transports)
        except BaseException:
            process.kill()
            for connected in (*transports, process.stdin, process.stdout, process.stderr):
                if connected is not None:
                    connected.close()
            _wait(process)
            raise

    @classmethod
    async def _connect(
        cls, process: "subprocess.Popen[bytes]", transports: list[asyncio.BaseTransport]
    ) -> Self:
        """Connect the pipes of a process to the event loop, and append their transports.

        The processes of asyncio need an event loop in the main thread.
        """
        loop = asyncio.get_running_loop()
        replies = asyncio.StreamReader()
        receiving, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(replies), process.stdout
        )
        transports.append(receiving)
        failing, errors = await loop.connect_read_pipe(_ErrorOutput, process.stderr)
        transports.append(failing)
        sending, protocol = await loop.connect_write_pipe(
            lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), process.stdin
        )
        transports.append(sending)
        jobs = asyncio.StreamWriter(sending, protocol, None, loop)
        return cls(process, replies, jobs, errors, transports)

    @property
    def runs(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    async def wait(self) -> ProcessEnd:
        """Wait for the end of a process that has closed its output."""
        try:
            status = await asyncio.to_thread(self._process.wait, _END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = await asyncio.to_thread(self._process.wait)
        await self._errors.ended.wait()
        return ProcessEnd(status, self._errors.content.decode(errors="replace"))

    def forget_errors(self) -> None:
        """Drop the messages about earlier files."""
        self._errors.content = b""

    def end(self, then: Callable[[], None] = _do_nothing) -> None:
        """End the process immediately, whatever it does; call ``then`` when it has ended."""
        self._process.kill()
        for transport in self._transports:
            transport.close()
        _wait(self._process, then)


def _wait(process: "subprocess.Popen[bytes]", then: Callable[[], None] = _do_nothing) -> None:
    """Wait for a killed process in a thread, as the end of a large one takes a while."""
    loop = asyncio.get_running_loop()

    def wait() -> None:
        process.wait()
        with suppress(RuntimeError):  # the service has stopped
            loop.call_soon_threadsafe(then)

    threading.Thread(target=wait, daemon=True).start()
