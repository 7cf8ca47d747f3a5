"""Ids of requests: the caller's own, or one that nobody else has."""

import os
import re

from service.api.inference import request_id_from


def test_new_ids_are_never_the_same() -> None:
    """However many are given, and whichever of two processes gives them."""
    request_id_from(None)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, " ".join(request_id_from(None) for _ in range(1000)).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        theirs = pipe.read().split()
    os.waitpid(child, 0)

    ours = [request_id_from(None) for _ in range(1000)]

    assert len({*ours, *theirs}) == 2000
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in (*ours, *theirs))


def test_an_id_that_is_safe_to_repeat_is_the_callers_own() -> None:
    """Any other is not repeated."""
    assert request_id_from("mine-1") == "mine-1"
    for unsafe in ("", "two words", "x" * 129, "ü", "a\r\nb: c"):
        assert re.fullmatch("[0-9a-f]{32}", request_id_from(unsafe))
