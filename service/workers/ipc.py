"""Communication between the workers of one service, through sockets in a shared folder.

Each worker has a slot in the folder. A worker that replaces a dead one takes its slot, including
the file of its counts, so that the number of files does not grow. Request and reply are one JSON
document each; then the connection is closed. Unlike a file, a socket shows when its process has
died.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import socket
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableSet
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from service.errors import CannotStart, OnwardError

WORKERS_FOLDER = "_ONWARD_WORKERS_FOLDER"
"""The environment variable that contains the folder of the workers of one service."""

# The length of a socket's path is limited to 107 characters on Linux, 103 on macOS.
_MAX_FOLDER_LENGTH = 90
_SUFFIX = ".sock"
# Digits of the largest process id.
_PROCESS_ID_WIDTH = 10
# For replies that need no work; a worker that takes longer hangs, and will be replaced.
_REPLY_SECONDS = 2.0

_log = logging.getLogger(__name__)

Handler = Callable[[Any], Awaitable[object]]


@dataclass(frozen=True)
class Slot:
    """A worker's slot, claimed while ``descriptor`` is open."""

    folder: Path
    number: int
    descriptor: int


@dataclass(frozen=True)
class Reply:
    """The reply of another worker.

    Attributes:
        worker: its process id, for messages.
        slot: the number of its slot.
        content: of the reply.
        error: a message if the request failed.
    """

    worker: str
    slot: int
    content: Any = None
    error: str | None = None


@contextmanager
def runtime_dir() -> Iterator[Path]:
    """A temporary folder for the workers of one service.

    Raise `CannotStart` if it cannot be created, or its path is too long for sockets.
    """
    try:
        directory = tempfile.TemporaryDirectory(prefix="onward-workers-")
    except OSError as error:
        raise CannotStart(
            f"Several workers share metrics and commands through files, and no folder for them "
            f"can be made ({error.strerror}); mount a writable /tmp, or use one worker."
        ) from error
    with directory as name:
        if len(name) > _MAX_FOLDER_LENGTH:
            raise CannotStart(
                f"Several workers share a folder, and the path {name!r} is too long for their "
                f"sockets; set TMPDIR to a shorter one, or use one worker."
            )
        descriptor = os.open(name, os.O_RDONLY)
        try:
            # The lock keeps systemd-tmpfiles from cleaning up the folder.
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            yield Path(name)
        finally:
            os.close(descriptor)


def claim_slot(folder: Path) -> Slot:
    """Claim the lowest slot of a writable folder that no running process has."""
    number = 0
    while True:
        descriptor = os.open(folder / f"{number}.pid", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            # The kernel releases the lock when the process ends or crashes.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            number += 1
            continue
        # Of fixed width, so that the next worker can overwrite it even on a full disk.
        with contextlib.suppress(OSError):
            os.pwrite(descriptor, str(os.getpid()).ljust(_PROCESS_ID_WIDTH).encode(), 0)
        return Slot(folder, number, descriptor)


def read_process_id(folder: Path, slot: int) -> str:
    """Return the id of the process that claimed a slot last; empty if it is not known."""
    return (folder / f"{slot}.pid").read_text().rstrip()


class SharedNameSet(MutableSet[str]):
    """A set of names that several processes share, stored as empty files in a folder.

    Every change is one system call, so it needs no lock.

    Args:
        folder: contains only these files; names must be valid file names.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (self._folder / name).exists()

    def __iter__(self) -> Iterator[str]:
        return (path.name for path in self._folder.iterdir())

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def add(self, value: str) -> None:
        """Add a name."""
        (self._folder / value).touch()

    def discard(self, value: str) -> None:
        """Remove a name, if it is present."""
        (self._folder / value).unlink(missing_ok=True)

    @classmethod
    def _from_iterable(cls, it: Iterable[str]) -> set[str]:  # type: ignore[override] # results of set operations are not shared
        return set(it)


class Channel:
    """Requests between this worker and the others; without a slot, it is the only one."""

    def __init__(self, slot: Slot | None = None) -> None:
        self._path = None if slot is None else slot.folder / f"{slot.number}{_SUFFIX}"
        self._handlers: dict[str, Handler] = {}
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def handle(self, method: str, handler: Handler) -> None:
        """Register the handler of a method; it is called with the argument of a request."""
        self._handlers[method] = handler

    async def open(self) -> None:
        """Accept requests from now on."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._server = await asyncio.start_unix_server(self._accept, self._path)

    async def close(self) -> None:
        """Accept no more requests."""
        if self._server is not None and self._path is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)
        for task in self._tasks:
            task.cancel()

    async def request(
        self, method: str, argument: object = None, *, seconds: float = _REPLY_SECONDS
    ) -> list[Reply]:
        """Send a request to all other running workers, and return their replies.

        A worker that ends before it has replied is left out; one that has not replied after so
        many seconds gets a reply with an error. The argument is any JSON value.
        """
        if self._path is None:
            return []
        content = orjson.dumps([method, argument])
        others = set(self._path.parent.glob(f"*{_SUFFIX}")) - {self._path}
        replies = await asyncio.gather(*(_request(path, content, seconds) for path in others))
        return [reply for reply in replies if reply is not None]

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # An OSError means that the other worker has ended.
        with contextlib.closing(writer), contextlib.suppress(OSError):
            if content := await reader.read():
                writer.write(orjson.dumps(await self._reply(*orjson.loads(content))))
                await writer.drain()

    async def _reply(self, method: str, argument: object) -> dict[str, object]:
        try:
            return {"content": await self._handlers[method](argument)}
        except OnwardError as error:
            return {"error": str(error)}
        except Exception as error:  # noqa: BLE001 - the other worker gets any error
            _log.exception("a request of another worker failed", extra={"method": method})
            return {"error": f"{type(error).__name__}: {error}"}


def broadcast(folder: Path, method: str) -> None:
    """Send a request to every worker without waiting for replies; for other processes."""
    content = orjson.dumps([method, None])
    for path in folder.glob(f"*{_SUFFIX}"):
        with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(OSError):
            connection.settimeout(_REPLY_SECONDS)
            connection.connect(str(path))
            connection.sendall(content)


async def _request(path: Path, content: bytes, seconds: float) -> Reply | None:
    slot = int(path.stem)
    worker = read_process_id(path.parent, slot)
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_unix_connection(path)
            with contextlib.closing(writer):
                writer.write(content)
                writer.write_eof()
                reply = await reader.read()
        return Reply(worker, slot, **orjson.loads(reply))
    except TimeoutError:
        return Reply(worker, slot, error=f"it did not reply within {seconds:g} s")
    except (OSError, orjson.JSONDecodeError):
        return None  # the worker has ended, possibly during its reply
