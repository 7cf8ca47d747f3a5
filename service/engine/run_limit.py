"""Ends runs that take too long, for a thread that makes one after another."""

import threading
from time import monotonic
from typing import Any, Self

from service.engine.session import new_control, terminate

_LOOK_SECONDS = 0.1


class RunLimit:
    """Watches the runs of one thread from another; to be used as a context manager.

    One thread for all of them: starting a timer for each would take longer than most runs.
    """

    def __init__(self) -> None:
        self.exceeded = False
        """Whether a run was ended."""
        self._control: Any = new_control()
        self._deadline: float | None = None
        self._done = threading.Event()

    def __enter__(self) -> Self:
        """Start to watch."""
        threading.Thread(target=self._watch, name="run limit", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the watching thread."""
        self._done.set()

    def start(self, seconds: float) -> Any:  # noqa: ANN401 - the runtime has no types
        """Begin a run; gives the control that it must be run with."""
        self._deadline = monotonic() + seconds
        return self._control

    def stop(self) -> None:
        """Note that the run has ended."""
        self._deadline = None

    def _watch(self) -> None:
        while not self._done.wait(_LOOK_SECONDS):
            deadline = self._deadline
            if deadline is not None and monotonic() > deadline:
                self.exceeded = True
                terminate(self._control)
                return
