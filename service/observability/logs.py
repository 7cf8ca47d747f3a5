"""Structured logs: one line an event, with the request's id on it.

Lines are written by a thread, so that standard error, which may be a pipe that nobody reads, holds
up nothing else. Clients can cause lines; how many of one kind are written is limited.
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

# From one place in the code so many lines may come at once, and so many a second in the long run.
_BURST_LINES = 1000
_LINES_PER_SECOND = 50
# Of lines that wait to be written; with more, new ones are lost.
_MOST_WAITING = 10_000
_FLUSH_SECONDS = 0.5

_TAKEN = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


def configure_logging(form: Literal["text", "json"], level: str, *, limited: bool = True) -> None:
    """Send every library's messages to standard error in one form.

    Args:
        form: of a line.
        level: the least severe that is written.
        limited: whether the lines of each place in the code are limited.
    """
    handler = ThreadHandler(sys.stderr)
    if limited:
        handler.addFilter(RateLimit())
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Ours carries the request's id, and uvicorn's costs half of the throughput.
    logging.getLogger("uvicorn.access").disabled = True


class ThreadHandler(logging.Handler):
    """Writes lines in a thread. Where they are not taken, they wait, and then new ones are lost.

    Args:
        stream: where lines are written.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._lines: queue.SimpleQueue[str | threading.Event] = queue.SimpleQueue()
        self._lost = 0
        threading.Thread(target=self._write, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Have the record written soon."""
        try:
            if self._lines.qsize() >= _MOST_WAITING:
                self._lost += 1
                return
            if self._lost:
                record.lines_lost, self._lost = self._lost, 0
            self._lines.put(self.format(record))
        except Exception:  # noqa: BLE001 - as every handler of the library does
            self.handleError(record)

    def flush(self) -> None:
        """Wait until all lines are written, but not for long."""
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
                pass  # nobody reads any more, and there is nowhere else to say so


class LineBudget:
    """How many lines of one kind may be written: a token bucket.

    Args:
        clock: gives seconds that only increase.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lines_left = float(_BURST_LINES)
        self._updated = clock()
        self._suppressed = 0

    def take(self) -> int | None:
        """Take one line.

        Returns:
            How many lines were suppressed since the last one; None where this one must be, too.
        """
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
    """Limits the lines of each call site, and counts the suppressed ones on a later line.

    Args:
        clock: gives seconds that only increase.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._budgets: dict[tuple[str, int], LineBudget] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is written."""
        call_site = record.pathname, record.lineno
        budget = self._budgets.get(call_site)
        if budget is None:
            budget = self._budgets[call_site] = LineBudget(self._clock)
        suppressed = budget.take()
        if suppressed:
            record.lines_suppressed = suppressed
        return suppressed is not None


def flush_logs() -> None:
    """Wait until what was logged is written, but not for long; for a process that ends at once."""
    for handler in logging.getLogger().handlers:
        handler.flush()


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
