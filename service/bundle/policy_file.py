"""``policy.json`` on disk: read with every check, replaced whole, by one writer at a time."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from service.bundle.policy import POLICY, Policy
from service.bundle.store import read_document, replace_document

if sys.platform != "win32":
    import fcntl
    import os


def read_policy(home: Path) -> Policy | None:
    """What ``models/<name>`` says about its versions, or None where it says nothing.

    Raises:
        BundleError: the file cannot be read, or is not valid.
    """
    return read_document(Policy, home / POLICY)


def change_policy(home: Path, change: Callable[[Policy], Policy]) -> tuple[Policy, Policy]:
    """Replace the policy by what ``change`` makes of it; a reader meets the old or the new one.

    Returns:
        What it was, and what it is.

    Raises:
        BundleError: the file that is there is not valid, or ``change`` refuses.
        OSError: it cannot be written.
    """
    with _alone(home):
        before = read_policy(home) or Policy()
        after = change(before)
        if after != before:
            replace_document(home / POLICY, after)
    return before, after


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Keep other writers out; the system lets go of the lock even of one that was killed."""
    if sys.platform == "win32":
        yield  # a folder cannot be locked there
        return
    descriptor = os.open(home, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
