"""``python -m service.engine.sandbox_main``: the process of `service.engine.sandbox`.

It writes an empty line when it has started. Each line of JSON on standard input then names a
version to load, and an empty line follows when the load has ended, successfully or not. The process
exits at the end of the input, because the service has stopped.
"""

import contextlib
import json
import os
import queue
import sys
import threading
from pathlib import Path

from service.engine.loader import ExecutionPlan, load
from service.engine.model import BatchLimits
from service.engine.repository import Candidate
from service.observability.metrics import Metrics


def main() -> None:
    """Load versions one by one until the input ends."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # ONNX Runtime may print
    _prefer_for_oom()
    print(file=replies, flush=True)
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=[lines], daemon=True).start()
    while True:
        name, version, folder, device, threads = json.loads(lines.get())
        candidate = Candidate(name, version, Path(folder), ())
        with contextlib.suppress(Exception):
            load(candidate, ExecutionPlan(device, threads), BatchLimits(1, 1), Metrics())
        print(file=replies, flush=True)


def _read(lines: "queue.SimpleQueue[str]") -> None:
    """Forward the lines of the input, and exit at its end."""
    for line in sys.stdin:
        lines.put(line)
    os._exit(0)


def _prefer_for_oom() -> None:
    """Make the kernel kill this process instead of the service if memory runs out."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


if __name__ == "__main__":
    main()
