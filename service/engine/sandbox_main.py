"""``python -m service.engine.sandbox_main``: the process of `service.engine.sandbox`.

It writes an empty line when it has started. Then each line of JSON on standard input names a
version to load, and another empty line follows when the load has ended, however. The end of the
input ends the process at once: the service has stopped, or was killed.
"""

import contextlib
import json
import os
import queue
import sys
import threading
from pathlib import Path

from service.engine.loader import ExecutionPlan, load
from service.engine.model import Limits
from service.engine.repository import Candidate
from service.observability.metrics import Metrics


def main() -> None:
    """Load one version after the other until the input ends."""
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
            load(candidate, ExecutionPlan(device, threads), Limits(1, 1), Metrics())
        print(file=replies, flush=True)


def _read(lines: "queue.SimpleQueue[str]") -> None:
    """Pass lines of the input on, and end the process with the last one."""
    for line in sys.stdin:
        lines.put(line)
    os._exit(0)


def _prefer_for_oom() -> None:
    """Make the kernel end this process rather than the service when memory is short."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


if __name__ == "__main__":
    main()
