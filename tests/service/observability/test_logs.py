"""Logs have one line per event, as text or JSON, with the id of the request."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx

from service.observability.logs import (
    JsonFormatter,
    RateLimit,
    TextFormatter,
    ThreadHandler,
    request_id,
)
from tests.models import publish_price
from tests.processes import ROOT


def make_record(message: str, **extra: object) -> logging.LogRecord:
    record = logging.makeLogRecord({"msg": message, "levelname": "INFO", "name": "onward"})
    vars(record).update(extra)
    return record


def test_json_lines_contain_the_extra_fields_and_the_request_id() -> None:
    """Each item of ``extra`` is a key of the line."""
    token = request_id.set("abc")
    line = json.loads(JsonFormatter().format(make_record("model ready", model="iris", rows=3)))
    request_id.reset(token)

    assert (line["event"], line["level"]) == ("model ready", "info")
    assert (line["model"], line["rows"], line["request_id"]) == ("iris", 3, "abc")


def test_a_text_line_never_contains_a_line_break() -> None:
    """A value with spaces or line breaks is quoted, so that no value can forge a line."""
    line = TextFormatter().format(make_record("rejected", reason="two words\nINFO forged"))

    assert line.endswith("rejected reason='two words\\nINFO forged'")
    assert "\n" not in line


def test_a_traceback_follows_its_event() -> None:
    """The traceback follows in text, and is a key of the line in JSON."""
    try:
        _ = 1 / 0
    except ZeroDivisionError as error:
        failed = make_record("failed", exc_info=(type(error), error, error.__traceback__))

    assert "ZeroDivisionError" in json.loads(JsonFormatter().format(failed))["traceback"]
    assert "ZeroDivisionError" in TextFormatter().format(failed)


def test_each_call_site_has_a_rate_limit_and_suppressed_lines_are_counted() -> None:
    """A flood writes a thousand lines and fifty per second; other call sites are not affected."""
    now = 0.0
    limit = RateLimit(lambda: now)

    def passing(line: int, times: int) -> list[logging.LogRecord]:
        records = [make_record("request", pathname="a.py", lineno=line) for _ in range(times)]
        return [record for record in records if limit.filter(record)]

    assert len(passing(10, 5000)) == 1000
    assert len(passing(20, 5)) == 5
    now = 1.0
    later = passing(10, 5000)
    now = 1000.0
    last = passing(10, 2000)

    assert len(later) == 50
    assert vars(later[0])["lines_suppressed"] == 4000
    assert "lines_suppressed=4950" in TextFormatter().format(last[0])
    assert len(last) == 1000


def test_lines_are_written_in_order_and_before_a_flush_returns() -> None:
    """No line is lost when the process ends after a flush."""
    read, write = os.pipe()
    with os.fdopen(read) as reader, os.fdopen(write, "w") as writer:
        handler = ThreadHandler(writer)
        for number in range(100):
            handler.emit(make_record(f"event {number}"))
        handler.flush()
        writer.flush()

        assert [reader.readline() for _ in range(100)] == [f"event {n}\n" for n in range(100)]


def test_a_blocked_log_delays_neither_requests_nor_the_stop(models: Path) -> None:
    """Standard error is a pipe without a reader, and clients cause more lines than it holds."""
    publish_price(models)
    command = [sys.executable, "-m", "service", "--port", "0", "--device", "cpu"]
    environment = os.environ | {"ONWARD_DRAIN_SECONDS": "0"}

    with subprocess.Popen(
        [*command, "--models", str(models)], cwd=ROOT, env=environment, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        found = None
        while found is None:
            found = re.search(rb"running on (http://\S+)", process.stderr.readline())
        with httpx.Client(base_url=found[1].decode(), timeout=30) as client:
            statuses = {client.get(f"/nothing/{'x' * 200}").status_code for _ in range(900)}
            response = client.post("/models/price/predict", json={"size": 2})
        process.send_signal(signal.SIGTERM)
        ended = process.wait(30)

    assert (statuses, response.status_code, ended) == ({404}, 200, -signal.SIGTERM)
