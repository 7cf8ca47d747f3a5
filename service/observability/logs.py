"""Structured logs: one line per event, with the id of the request.

A thread writes the lines, so that a blocked standard error, such as a pipe without a reader, blocks
nothing else. Clients can trigger log lines, so each call site has a rate limit.
"""

import logging
import queue
import sys
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Literal, TextIO

import orjson

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)

# The rate limit of each call site.
_BURST_LINES = 1000
_LINES_PER_SECOND = 50
# While this many lines wait to be written, new lines are lost.
_MAX_QUEUED_LINES = 10_000
_FLUSH_SECONDS = 0.5

_STANDARD_ATTRIBUTES = set(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "color_message",
}


def configure_logging(form: Literal["text", "json"], level: str, *, limited: bool = True) -> None:
    """Write the log messages of every library, from a level, to standard error in one format.

    If ``limited``, each call site has a rate limit.
    """
    handler = ThreadHandler(sys.stderr)
    if limited:
        handler.addFilter(RateLimit())
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # The service writes its own, with request ids; uvicorn's would halve the throughput.
    logging.getLogger("uvicorn.access").disabled = True


class ThreadHandler(logging.Handler):
    """Writes lines in a thread. If the stream blocks, lines are queued, then new ones are lost."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._lines: queue.SimpleQueue[str | threading.Event] = queue.SimpleQueue()
        self._lost = 0
        threading.Thread(target=self._write, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the record for writing."""
        try:
            if self._lines.qsize() >= _MAX_QUEUED_LINES:
                self._lost += 1
                return
            if self._lost:
                record.lines_lost, self._lost = self._lost, 0
            self._lines.put(self.format(record))
        except Exception:  # noqa: BLE001 - like every handler of the standard library
            self.handleError(record)

    def flush(self) -> None:
        """Wait until all lines are written, for at most half a second."""
        written = threading.Event()
        self._lines.put(written)
        written.wait(_FLUSH_SECONDS)

    def _write(self) -> None:
        while True:
            line = self._lines.get()
            if isinstance(line, threading.Event):
                line.set()
                continue
            try:
                self._stream.write(line + "\n")
                self._stream.flush()
            except (OSError, ValueError):
                pass  # the reader has closed the stream, and there is no other to report it to


class LineBudget:
    """Limits the rate of lines of one kind by a token bucket; the clock is in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lines_left = float(_BURST_LINES)
        self._updated = clock()
        self._suppressed = 0

    def take(self) -> int | None:
        """Return the number of suppressed lines since the last one; None to suppress this one."""
        now = self._clock()
        refill = (now - self._updated) * _LINES_PER_SECOND
        self._lines_left = min(self._lines_left + refill, _BURST_LINES)
        self._updated = now
        if self._lines_left < 1:
            self._suppressed += 1
            return None
        self._lines_left -= 1
        suppressed, self._suppressed = self._suppressed, 0
        return suppressed


class RateLimit(logging.Filter):
    """Limits the rate of each call site, and adds the number of suppressed lines to a later line.

    The clock is in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._budgets: dict[tuple[str, int], LineBudget] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to write a record."""
        call_site = record.pathname, record.lineno
        budget = self._budgets.get(call_site)
        if budget is None:
            budget = self._budgets[call_site] = LineBudget(self._clock)
        suppressed = budget.take()
        if suppressed:
            record.lines_suppressed = suppressed
        return suppressed is not None


def flush_logs() -> None:
    """Wait until all messages are written; for a process that is about to exit."""
    for handler in logging.getLogger().handlers:
        handler.flush()


class JsonFormatter(logging.Formatter):
    """One JSON object per line; the items of ``extra`` become keys."""

    def format(self, record: logging.LogRecord) -> str:
        """Render the record."""
        line: dict[str, object] = {
            "time": _format_time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **_extra_fields(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


class TextFormatter(logging.Formatter):
    """Time, level and event, then the items of ``extra`` as ``key=value``."""

    def format(self, record: logging.LogRecord) -> str:
        """Render the record."""
        fields = "".join(f" {key}={_quote(value)}" for key, value in _extra_fields(record).items())
        text = f"{_format_time(record)} {record.levelname.lower():7} {record.getMessage()}{fields}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return text


def _extra_fields(record: logging.LogRecord) -> dict[str, object]:
    """Return the items of ``extra``, and the id of the current request."""
    attributes = vars(record).items()
    extra = {key: value for key, value in attributes if key not in _STANDARD_ATTRIBUTES}
    if (current := request_id.get()) is not None:
        extra["request_id"] = current
    return extra


def _quote(value: object) -> str:
    """Return the value as text, in quotes if it is empty or has spaces or control characters."""
    text = str(value)
    return text if text and text.isprintable() and " " not in text else repr(text)


def _format_time(record: logging.LogRecord) -> str:
    """Return the time of a record in ISO 8601, with milliseconds."""
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03d}Z"
