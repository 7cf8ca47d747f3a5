"""The numbered places of a service's workers, in a folder that they share.

A worker that is started in place of a dead one takes its place, and with it the files that the
dead one counted in. So there are never more files than there were workers at one time.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

if sys.platform != "win32":
    import fcntl


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
        os.truncate(held, 0)
        os.write(held, str(os.getpid()).encode())
        return Slot(folder, number, held)


def process_of(folder: Path, number: int) -> str:
    """The id of the process that took a place last, for people."""
    return (folder / f"{number}.pid").read_text()
