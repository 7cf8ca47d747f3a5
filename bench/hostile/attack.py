"""One hostile client as a process, which keeps its own processor time from the victim.

``python -m bench.hostile.attack NAME HOST PORT SECONDS`` says that it is ready, waits for a line on
standard input, attacks, and prints its outcomes as JSON. The name ``burn:0.5`` is a client that
sends nothing and takes half of a core.
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

PATIENCE_SECONDS = 40.0
_BURN = "burn:"
_BURN_TURN_SECONDS = 0.01
_NICE = 10


def burning(share: float) -> str:
    """The name of a client that takes this share of a core and sends nothing."""
    return f"{_BURN}{share:.2f}"


def main(arguments: Sequence[str]) -> int:
    """Attack as the arguments say."""
    name, host, port, seconds = arguments[0], arguments[1], int(arguments[2]), float(arguments[3])
    os.nice(_NICE)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    attack = Attack(host, port, PATIENCE_SECONDS)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    before = time.process_time()
    if name.startswith(_BURN):
        _burn(float(name.removeprefix(_BURN)), seconds)
    else:
        uvloop.run(run_attack(attack, CLIENTS[name], seconds))
    spent = time.process_time() - before
    sys.stdout.write(json.dumps({"outcomes": attack.outcomes, "seconds": spent}))
    return 0


def _burn(share: float, seconds: float) -> None:
    """Compute for a share of the time."""
    ends = time.monotonic() + seconds
    while (now := time.monotonic()) < ends:
        while time.monotonic() - now < share * _BURN_TURN_SECONDS:
            pass
        time.sleep((1 - share) * _BURN_TURN_SECONDS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
