"""What the operating system's signals mean while the service runs.

SIGTERM stops it without losing a request: readiness turns false at once, and the server closes its
port only after a while, when load balancers have noticed. SIGHUP looks at the models folder.
A stop ends in time, whatever a model or a client does.
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
# What a stop may take besides draining and the deadline of requests, and all of one that a second
# SIGINT hurries.
_LAST_SECONDS = 1.0

_log = logging.getLogger(__name__)


class ExitTimer:
    """Ends the process where a stop takes too long; nothing in it can prevent that by waiting."""

    def __init__(self) -> None:
        # Of all queues, a signal handler may use this one alone.
        self._limits: queue.SimpleQueue[float] = queue.SimpleQueue()

    def start(self) -> None:
        """Be ready to be set."""
        threading.Thread(target=self._run, name="exit timer", daemon=True).start()

    def set(self, seconds: float) -> None:
        """End the process after so many seconds, or earlier if it was set so; from anywhere."""
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


class Signals:
    """Handlers in front of the server's own, which close the port.

    Args:
        readiness: what turns false.
        control: what looks at the folder, on every worker.
        drain_seconds: how long requests are still taken after SIGTERM; after SIGINT, which people
            send from a terminal, not at all.
        deadline_seconds: how long requests may take from then on.
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
        self._last_seconds = deadline_seconds + _LAST_SECONDS
        self._before: dict[int, signal._HANDLER] = {}
        self._looks: set[asyncio.Task[None]] = set()
        self._exit_timer = ExitTimer()
        self._interrupted = False

    def install(self) -> None:
        """Handle signals from now on; in another thread than the main one there are none."""
        if threading.current_thread() is not threading.main_thread():
            return
        self._loop = asyncio.get_running_loop()
        self._exit_timer.start()
        for number in _STOP:
            self._before[number] = signal.signal(number, self._stop)
        if hasattr(signal, "SIGHUP"):
            self._before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._hang_up)

    def remove(self) -> None:
        """Leave signals to whoever handled them before; a stop in progress still ends in time."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _stop(self, number: int, _: FrameType | None) -> None:
        first = not self._readiness.draining
        self._readiness.drain()
        # A handler may run in the middle of anything, so all else waits for the event loop.
        if number == signal.SIGINT:
            self._exit_timer.set(_LAST_SECONDS if self._interrupted else self._last_seconds)
            self._interrupted = True
            self._loop.call_soon_threadsafe(self._hand_over, number)
        elif first:  # a service manager may signal each worker, and then the parent does so again
            self._exit_timer.set(self._drain_seconds + self._last_seconds)
            self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        _log.info("draining", extra={"seconds": self._drain_seconds})
        self._loop.call_later(self._drain_seconds, self._hand_over, signal.SIGTERM)

    def _hand_over(self, number: int) -> None:
        if callable(before := self._before.get(number)):
            before(number, None)

    def _hang_up(self, _number: int, _: FrameType | None) -> None:
        self._loop.call_soon_threadsafe(self._start_look)

    def _start_look(self) -> None:
        look = asyncio.create_task(self._control.rescan())
        self._looks.add(look)
        look.add_done_callback(self._looks.discard)
