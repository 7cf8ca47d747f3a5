"""Run one hostile client in a separate process, whose processor time is measured separately.

``python -m bench.hostile.attack NAME HOST PORT SECONDS`` prints that it is ready, waits for a line
on standard input, attacks, and prints its outcomes as JSON. The name ``busy:0.50`` is a client that
sends nothing and uses half of a core.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Sequence

import uvloop

from bench.hostile.clients import CLIENTS
from bench.hostile.connection import Attack, run_attack

TIMEOUT_SECONDS = 40.0
_BUSY = "busy:"
_PERIOD_SECONDS = 0.01
_NICE = 10


def busy_client(share: float) -> str:
    """The name of a client that uses this share of a core and sends nothing."""
    return f"{_BUSY}{share:.2f}"


def main(arguments: Sequence[str]) -> int:
    """Run the client of the arguments, and print its outcomes."""
    name, host, port, seconds = arguments[0], arguments[1], int(arguments[2]), float(arguments[3])
    os.nice(_NICE)
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    attack = Attack(host, port, TIMEOUT_SECONDS)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    before = time.process_time()
    if name.startswith(_BUSY):
        _compute(float(name.removeprefix(_BUSY)), seconds)
    else:
        uvloop.run(run_attack(attack, CLIENTS[name], seconds))
    spent = time.process_time() - before
    sys.stdout.write(json.dumps({"outcomes": attack.outcomes, "seconds": spent}))
    return 0


def _compute(share: float, seconds: float) -> None:
    """Compute for a share of the time."""
    ends = time.monotonic() + seconds
    while (now := time.monotonic()) < ends:
        while time.monotonic() - now < share * _PERIOD_SECONDS:
            pass
        time.sleep((1 - share) * _PERIOD_SECONDS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
