"""Structured logs: one line an event, with the request's id on it."""

import logging
import sys
import time
from contextvars import ContextVar
from typing import Literal

import orjson

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)

_TAKEN = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


def configure_logging(form: Literal["text", "json"], level: str) -> None:
    """Send every library's messages to standard error in one form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Ours carries the request's id, and uvicorn's costs half of the throughput.
    logging.getLogger("uvicorn.access").disabled = True


class JsonFormatter(logging.Formatter):
    """One JSON object a line; what was passed as ``extra`` becomes keys."""

    def format(self, record: logging.LogRecord) -> str:
        """Render the record."""
        line: dict[str, object] = {
            "time": _utc(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **_facts(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


class TextFormatter(logging.Formatter):
    """Time, level, event, then the facts as ``key=value``."""

    def format(self, record: logging.LogRecord) -> str:
        """Render the record."""
        facts = "".join(f" {key}={_plain(value)}" for key, value in _facts(record).items())
        text = f"{_utc(record)} {record.levelname.lower():7} {record.getMessage()}{facts}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return text


def _facts(record: logging.LogRecord) -> dict[str, object]:
    facts = {key: value for key, value in vars(record).items() if key not in _TAKEN}
    if (current := request_id.get()) is not None:
        facts["request_id"] = current
    return facts


def _plain(value: object) -> str:
    text = str(value)
    return text if text and text.isprintable() and " " not in text else repr(text)


def _utc(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03d}Z"
