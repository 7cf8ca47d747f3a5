"""The ids of requests, from the client or generated, and their log lines."""

import logging
import os
import re
from typing import Literal

import pytest

from service.observability.metrics import Metrics, RequestRecorder, request_id_from


@pytest.mark.parametrize(("log_requests", "written"), [("errors", 1000), ("all", 1500)])
def test_a_flood_of_rejected_requests_is_logged_in_part(
    log_requests: Literal["errors", "all"], written: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Only some of a thousand lines are written, unless every request is to be logged."""
    caplog.set_level(logging.INFO)
    recorder = RequestRecorder(Metrics(), log_requests)

    for _ in range(1500):
        recorder.log("", "", 400, 0.0, reason="no HTTP")

    lines = [record for record in caplog.records if record.getMessage() == "request"]
    assert written <= len(lines) <= written + 50


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
    """An id with unsafe characters is replaced by a generated one."""
    assert request_id_from("mine-1") == "mine-1"
    for unsafe in ("", "two words", "x" * 129, "ü", "a\r\nb: c"):
        assert re.fullmatch("[0-9a-f]{32}", request_id_from(unsafe))
