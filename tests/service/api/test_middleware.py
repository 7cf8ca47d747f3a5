"""Ids of requests: the caller's own, or one that nobody else has."""

import os
import re

from service.api.middleware import identity_of


def test_new_ids_are_never_the_same() -> None:
    """However many are given, and whichever of two processes gives them."""
    identity_of(None)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, " ".join(identity_of(None) for _ in range(1000)).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        theirs = pipe.read().split()
    os.waitpid(child, 0)

    ours = [identity_of(None) for _ in range(1000)]

    assert len({*ours, *theirs}) == 2000
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in (*ours, *theirs))


def test_an_id_that_is_safe_to_repeat_is_the_callers_own() -> None:
    """Any other is not repeated."""
    assert identity_of("mine-1") == "mine-1"
    for unsafe in ("", "two words", "x" * 129, "ü", "a\r\nb: c"):
        assert re.fullmatch("[0-9a-f]{32}", identity_of(unsafe))
