"""Logs: one line an event, machine-readable where asked, carrying the request's id."""

import json
import logging

from service.logs import JsonFormatter, TextFormatter, request_id


def record(message: str, **facts: object) -> logging.LogRecord:
    made = logging.makeLogRecord({"msg": message, "levelname": "INFO", "name": "onward"})
    vars(made).update(facts)
    return made


def test_json_lines_carry_facts_and_request_id() -> None:
    """Everything passed as extra is a key of its own."""
    token = request_id.set("abc")
    line = json.loads(JsonFormatter().format(record("model ready", model="iris", rows=3)))
    request_id.reset(token)

    assert (line["event"], line["level"]) == ("model ready", "info")
    assert (line["model"], line["rows"], line["request_id"]) == ("iris", 3, "abc")


def test_text_lines_stay_one_line() -> None:
    """A fact with spaces or line breaks is quoted, so that no value can forge a line."""
    line = TextFormatter().format(record("refused", reason="two words\nINFO forged"))

    assert line.endswith("refused reason='two words\\nINFO forged'")
    assert "\n" not in line


def test_a_traceback_follows_its_event() -> None:
    """JSON keeps it in its own key."""
    try:
        _ = 1 / 0
    except ZeroDivisionError as error:
        failed = record("failed", exc_info=(type(error), error, error.__traceback__))

    assert "ZeroDivisionError" in json.loads(JsonFormatter().format(failed))["traceback"]
    assert "ZeroDivisionError" in TextFormatter().format(failed)
