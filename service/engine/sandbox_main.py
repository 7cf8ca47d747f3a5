"""``python -m service.engine.sandbox_main``: the other process of `service.engine.sandbox`.

A line says that it is there. Then a line of JSON names a version, and an empty one comes back when
that has been tried, however it ended. The end of the input ends the process, whatever it tries: the
service has stopped, or was killed.
"""

import contextlib
import json
import os
import queue
import sys
import threading
from pathlib import Path

from service.engine.execution_plan import ExecutionPlan
from service.engine.loader import load
from service.engine.model import Limits
from service.engine.repository import Candidate
from service.observability.metrics import Metrics


def main() -> None:
    """Try one version after the other until the input ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # the runtime may print
    _offer_itself()
    print(file=answers, flush=True)
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=[lines], daemon=True).start()
    while True:
        name, version, folder, device, threads = json.loads(lines.get())
        candidate = Candidate(name, version, Path(folder), ())
        with contextlib.suppress(Exception):
            load(candidate, ExecutionPlan(device, threads), Limits(1, 1), Metrics())
        print(file=answers, flush=True)


def _read(lines: "queue.SimpleQueue[str]") -> None:
    """Pass lines of the input on, and end the process with the last one."""
    for line in sys.stdin:
        lines.put(line)
    os._exit(0)


def _offer_itself() -> None:
    """Be the first that the system ends when memory is short, instead of the service."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


if __name__ == "__main__":
    main()
