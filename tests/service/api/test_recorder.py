"""The log lines of requests."""

import logging
from typing import Literal

import pytest

from service.api.recorder import RequestRecorder
from service.engine.registry import Readiness, Registry
from service.observability.metrics import Metrics


@pytest.mark.parametrize(("log_requests", "written"), [("errors", 1000), ("all", 1500)])
def test_a_flood_of_rejected_requests_is_logged_in_part(
    log_requests: Literal["errors", "all"], written: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Only some of a thousand lines are written, unless every request is to be logged."""
    caplog.set_level(logging.INFO)
    recorder = RequestRecorder(Metrics(), Readiness(Registry("cpu"), "lenient"), log_requests)

    for _ in range(1500):
        recorder.log("", "", 400, 0.0, reason="no HTTP")

    lines = [record for record in caplog.records if record.getMessage() == "request"]
    assert written <= len(lines) <= written + 50
