"""``policy.json`` on disk: read with every check, replaced whole, by one writer at a time."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from service.bundle.disk import flush_folder, parse_document, read_optional, to_json, write_flushed
from service.bundle.policy import POLICY, Policy

if sys.platform != "win32":
    import fcntl
    import os

_UNFINISHED = ".policy.json.unfinished"


def read_policy(home: Path) -> Policy | None:
    """What ``models/<name>`` says about its versions, or None where it says nothing.

    Raises:
        BundleError: the file cannot be read, or is not valid.
    """
    content = read_optional(home / POLICY)
    return None if content is None else parse_document(Policy, content, POLICY)


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
            unfinished = home / _UNFINISHED
            write_flushed(unfinished, to_json(after))
            unfinished.replace(home / POLICY)
            flush_folder(home)
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
