"""``python -m service.engine.rehearsing``: the other process of `service.engine.rehearsal`.

A line says that it is there. Then a line of JSON names a version, and an empty one comes back when
that has been tried, however it ended.
"""

import contextlib
import json
import os
import sys
from pathlib import Path

from service.engine.loading import load
from service.engine.model import Limits
from service.engine.plan import Plan
from service.engine.repository import Candidate
from service.metrics import Metrics


def main() -> None:
    """Try one version after the other until the input ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # the runtime may print
    _offer_itself()
    print(file=answers, flush=True)
    for line in sys.stdin:
        name, version, folder, device, threads = json.loads(line)
        candidate = Candidate(name, version, Path(folder), ())
        with contextlib.suppress(Exception):
            load(candidate, Plan(device, threads), Limits(1, 1), Metrics())
        print(file=answers, flush=True)


def _offer_itself() -> None:
    """Be the first that the system ends when memory is short, instead of the service."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


if __name__ == "__main__":
    main()
