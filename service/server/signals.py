"""Handlers of the signals SIGTERM, SIGINT and SIGHUP.

SIGTERM stops the service without losing requests: readiness turns false immediately, and the server
closes its port after a delay in which load balancers notice. SIGHUP scans the models folder.
A timer ends the process if a model or a client delays the shutdown.
"""

import asyncio
import logging
import os
import queue
import signal
import threading
import time
from types import FrameType

from service.engine.registry import Readiness
from service.observability.logs import flush_logs
from service.workers.coordination import ModelControl

_STOP = (signal.SIGTERM, signal.SIGINT)
# How long a shutdown may take in addition to draining and the deadline of requests, and how long it
# may take after a second SIGINT.
_MARGIN_SECONDS = 1.0

_log = logging.getLogger(__name__)


class ExitTimer:
    """Ends the process if a shutdown takes too long, from a thread that nothing can block."""

    def __init__(self) -> None:
        # The only kind of queue that is safe to use in a signal handler.
        self._limits: queue.SimpleQueue[float] = queue.SimpleQueue()

    def start(self) -> None:
        """Start the thread of the timer."""
        threading.Thread(target=self._run, name="exit timer", daemon=True).start()

    def set(self, seconds: float) -> None:
        """End the process after a number of seconds, unless already set to an earlier time."""
        self._limits.put(time.monotonic() + seconds)

    def _run(self) -> None:
        limit = self._limits.get()
        while (left := limit - time.monotonic()) > 0:
            try:
                limit = min(limit, self._limits.get(timeout=left))
            except queue.Empty:
                break
        names = sorted(thread.name for thread in threading.enumerate() if not thread.daemon)
        _log.error("stop took too long and is forced", extra={"threads": names})
        flush_logs()
        os._exit(1)


class SignalHandlers:
    """Handlers that run before the server's own, which close the port.

    Args:
        readiness: turned false by a shutdown.
        control: scans the models folder in every worker.
        drain_seconds: how long requests are still accepted after SIGTERM. SIGINT, which people
            send from a terminal, closes the port immediately.
        deadline_seconds: how long requests may take after that.
    """

    def __init__(
        self,
        readiness: Readiness,
        control: ModelControl,
        *,
        drain_seconds: float,
        deadline_seconds: float,
    ) -> None:
        self._readiness = readiness
        self._control = control
        self._drain_seconds = drain_seconds
        self._stop_seconds = deadline_seconds + _MARGIN_SECONDS
        self._previous: dict[int, signal._HANDLER] = {}
        self._rescans: set[asyncio.Task[None]] = set()
        self._exit_timer = ExitTimer()
        self._interrupted = False

    def install(self) -> None:
        """Install the handlers; has no effect outside the main thread, which gets no signals."""
        if threading.current_thread() is not threading.main_thread():
            return
        self._loop = asyncio.get_running_loop()
        self._exit_timer.start()
        for number in _STOP:
            self._previous[number] = signal.signal(number, self._stop)
        self._previous[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._handle_hangup)

    def remove(self) -> None:
        """Restore the previous handlers; the timer of a shutdown in progress continues."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _stop(self, number: int, _: FrameType | None) -> None:
        first = not self._readiness.is_draining
        self._readiness.drain()
        # A handler may interrupt any code, so the rest runs on the event loop.
        if number == signal.SIGINT:
            self._exit_timer.set(_MARGIN_SECONDS if self._interrupted else self._stop_seconds)
            self._interrupted = True
            self._loop.call_soon_threadsafe(self._call_previous, number)
        elif first:  # a worker may get SIGTERM from the service manager and from its parent
            self._exit_timer.set(self._drain_seconds + self._stop_seconds)
            self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        _log.info("draining", extra={"seconds": self._drain_seconds})
        self._loop.call_later(self._drain_seconds, self._call_previous, signal.SIGTERM)

    def _call_previous(self, number: int) -> None:
        if callable(handler := self._previous.get(number)):
            handler(number, None)

    def _handle_hangup(self, _number: int, _: FrameType | None) -> None:
        self._loop.call_soon_threadsafe(self._start_rescan)

    def _start_rescan(self) -> None:
        rescan = asyncio.create_task(self._control.rescan())
        self._rescans.add(rescan)
        rescan.add_done_callback(self._rescans.discard)
