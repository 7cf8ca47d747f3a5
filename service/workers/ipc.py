"""The way from one worker of a service to the others: a Unix socket each, in their folder.

A question is one JSON document and so is its answer; then the connection ends. A socket tells at
once that its process has died, which a file of commands would not.
"""

import asyncio
import contextlib
import logging
import os
import socket
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableSet
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from service.errors import CannotStart, OnwardError

if sys.platform != "win32":
    import fcntl

# A socket's whole path may have some hundred bytes: 107 on Linux, 103 on macOS.
_LONGEST_FOLDER = 90
# Digits of the largest process id.
_PROCESS_WIDTH = 10

# The environment variable by which the workers of one service find their folder.
WORKERS_FOLDER = "_ONWARD_WORKERS_FOLDER"


Handler = Callable[[Any], Awaitable[object]]
# An answer to what needs no work; a worker that takes longer hangs, and is soon replaced.
QUICK_SECONDS = 2.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Slot:
    """A worker's place; it is taken as long as the descriptor ``held`` is open."""

    folder: Path
    number: int
    held: int


def claim(folder: Path) -> Slot:
    """Take the lowest place that no living process holds.

    Raises:
        OSError: the folder cannot be written.
    """
    number = 0
    while True:
        held = os.open(folder / f"{number}.pid", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            # The kernel lets go of it with the process, so nobody has to notice the death.
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(held)
            number += 1
            continue
        # Of one width, so that the next worker overwrites it even where the disk is full.
        with contextlib.suppress(OSError):
            os.pwrite(held, str(os.getpid()).ljust(_PROCESS_WIDTH).encode(), 0)
        return Slot(folder, number, held)


@contextmanager
def meeting_place() -> Iterator[Path]:
    """A folder for the workers of one service, only for them, until the block ends.

    Raises:
        CannotStart: none can be made, or not where a socket may be.
    """
    try:
        made = tempfile.TemporaryDirectory(prefix="onward-workers-")
    except OSError as error:
        raise CannotStart(
            f"Several workers share metrics and commands through files, and no folder for them "
            f"can be made ({error.strerror}); mount a writable /tmp, or use one worker."
        ) from error
    with made as name:
        if len(name) > _LONGEST_FOLDER:
            raise CannotStart(
                f"Several workers meet in a folder, and the path {name!r} is too long for their "
                f"sockets; set TMPDIR to a shorter one, or use one worker."
            )
        held = os.open(name, os.O_RDONLY)
        try:
            # By this lock the system's cleaners of temporary files know that it is in use.
            fcntl.flock(held, fcntl.LOCK_SH)
            yield Path(name)
        finally:
            os.close(held)


def process_of(folder: Path, number: int) -> str:
    """The id of the process that took a place last, for people; empty where it is not known."""
    return (folder / f"{number}.pid").read_text().rstrip()


@dataclass(frozen=True)
class Answer:
    """What another worker said; ``error`` is a sentence where it could not do what was asked.

    ``worker`` is its process, for people, and ``slot`` the number of its slot.
    """

    worker: str
    slot: int
    content: Any = None
    error: str | None = None


class Channel:
    """One worker's end of it; without a slot there are no others, and nobody to ask.

    Args:
        slot: this worker's place among the workers of one service.
    """

    def __init__(self, slot: Slot | None = None) -> None:
        self._slot = slot
        self._handlers: dict[str, Handler] = {}
        self._server: asyncio.Server | None = None
        self._answering: set[asyncio.Task[None]] = set()

    def on(self, question: str, handler: Handler) -> None:
        """Answer a question of the others by what ``handler`` gives for its argument."""
        self._handlers[question] = handler

    async def open(self) -> None:
        """Answer from now on."""
        if self._slot is not None:
            path = _socket(self._slot)
            path.unlink(missing_ok=True)
            self._server = await asyncio.start_unix_server(self._connected, path)

    async def close(self) -> None:
        """Answer no more."""
        if self._server is not None and self._slot is not None:
            self._server.close()
            _socket(self._slot).unlink(missing_ok=True)
        for answering in self._answering:
            answering.cancel()

    async def ask(
        self, question: str, argument: object = None, *, seconds: float = QUICK_SECONDS
    ) -> list[Answer]:
        """What every other living worker answers; one that ends meanwhile has no say.

        Args:
            question: one that the others are `on`.
            argument: anything that JSON can hold.
            seconds: how long to wait for each; later is an error of that worker.
        """
        if self._slot is None:
            return []
        content = orjson.dumps([question, argument])
        others = set(self._slot.folder.glob("*.sock")) - {_socket(self._slot)}
        answers = await asyncio.gather(*(_asked(path, content, seconds) for path in others))
        return [answer for answer in answers if answer is not None]

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answering = asyncio.create_task(self._serve(reader, writer))
        self._answering.add(answering)
        answering.add_done_callback(self._answering.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if asked := await reader.read():
                writer.write(orjson.dumps(await self._reply(*orjson.loads(asked))))
                await writer.drain()
        except OSError:
            pass  # who asked has gone
        finally:
            writer.close()

    async def _reply(self, question: str, argument: object) -> dict[str, object]:
        try:
            return {"content": await self._handlers[question](argument)}
        except OnwardError as error:
            return {"error": str(error)}
        except Exception as error:  # noqa: BLE001 - who asked is to hear of it, whatever it is
            _log.exception("another worker's question failed", extra={"question": question})
            return {"error": f"{type(error).__name__}: {error}"}


def tell(folder: Path, question: str) -> None:
    """Ask every worker, from outside of them and of any event loop, and wait for no answer."""
    content = orjson.dumps([question, None])
    for path in folder.glob("*.sock"):
        with socket.socket(socket.AF_UNIX) as line, contextlib.suppress(OSError):
            line.settimeout(QUICK_SECONDS)
            line.connect(str(path))
            line.sendall(content)


async def _asked(path: Path, content: bytes, seconds: float) -> Answer | None:
    slot = int(path.stem)
    worker = process_of(path.parent, slot)
    try:
        async with asyncio.timeout(seconds):
            reply = await _exchange(path, content)
    except TimeoutError:
        return Answer(worker, slot, error=f"it gave no answer within {seconds:g} s")
    except OSError:
        return None  # nobody listens there any more
    try:
        return Answer(worker, slot, **orjson.loads(reply))
    except orjson.JSONDecodeError:
        return None  # it ended before it had answered


async def _exchange(path: Path, content: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(content)
        writer.write_eof()
        return await reader.read()
    finally:
        writer.close()


def _socket(slot: Slot) -> Path:
    return slot.folder / f"{slot.number}.sock"


class SharedNames(MutableSet[str]):
    """Every change is one step on disk, so no lock is needed and none can be left behind.

    Args:
        folder: holds a file for each name and nothing else; names must be fit for files.
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
        """Put a name in."""
        (self._folder / value).touch()

    def discard(self, value: str) -> None:
        """Take a name out, if it is in."""
        (self._folder / value).unlink(missing_ok=True)

    @classmethod
    def _from_iterable(cls, it: Iterable[str]) -> set[str]:  # type: ignore[override] # a result is shared with nobody
        return set(it)
