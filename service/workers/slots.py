"""The numbered places of a service's workers, in a folder that they share.

A worker that is started in place of a dead one takes its place, and with it the file of the dead
one's counts. So there are never more files than there were workers at one time.
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from service.errors import CannotStart

if sys.platform != "win32":
    import fcntl

# A socket's whole path may have some hundred bytes: 107 on Linux, 103 on macOS.
_LONGEST_FOLDER = 90
# Digits of the largest process id.
_PROCESS_WIDTH = 10

# The environment variable by which the workers of one service find their folder.
WORKERS_FOLDER = "_ONWARD_WORKERS_FOLDER"


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
