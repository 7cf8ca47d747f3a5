"""Request ids: the client's, or a unique one."""

import os
import re

from service.api.inference import request_id_from


def test_generated_ids_are_unique() -> None:
    """That also holds for forked processes."""
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


def test_a_safe_id_of_the_client_is_used() -> None:
    """Any other id is replaced."""
    assert request_id_from("mine-1") == "mine-1"
    for unsafe in ("", "two words", "x" * 129, "ü", "a\r\nb: c"):
        assert re.fullmatch("[0-9a-f]{32}", request_id_from(unsafe))
