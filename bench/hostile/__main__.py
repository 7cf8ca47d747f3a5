"""``python -m bench.hostile``: what one hostile client does to all others.

Each client attacks a service of default settings while a victim calls it every ten milliseconds.
The bars: the victim waits for at most 250 ms and sees no error, the service takes at most 600 MiB a
worker, every client gets what a sound service gives it, and within 60 s after its end memory,
descriptors, threads and connections are near the levels before. Ends with 1 where one is missed.
"""

import argparse
import dataclasses
import random
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Self

from bench.hostile.attack import burning
from bench.hostile.clients import CLIENTS
from bench.hostile.measure import (
    LONGEST_MILLISECONDS,
    PEAK_MIB_A_WORKER,
    Fresh,
    Measured,
    can_have_small_disk,
    measure,
    noise,
    serving,
)
from bench.page import replace_section

_SEED = 1
_CALIBRATIONS: tuple[tuple[str, ...], ...] = ((), (burning(0.5),), (burning(1.0),))
_HEADS = (
    "hostile client",
    "longest ms",
    "p99 ms",
    "victim's errors",
    "peak MiB",
    "CPU s",
    "client's CPU s",
    "responses",
    "level after s",
    "missed",
    "noise ms",
)


class Services:
    """The service under attack, started again where an attack has left it worse than before.

    Args:
        workers: of the service.
        log: file that gets what it logs.
    """

    def __init__(self, workers: int, log: Path) -> None:
        self._workers = workers
        self._log = log
        self._running = ExitStack()
        self._fresh: Fresh | None = None

    def __enter__(self) -> Self:
        """Nothing is started before it is needed."""
        return self

    def __exit__(self, *_: object) -> None:
        """End what is running."""
        self.end()

    def fresh(self) -> Fresh:
        """The service, started unless it is running."""
        if self._fresh is None:
            self._fresh = self._running.enter_context(serving(self._workers, self._log))
        return self._fresh

    def with_small_disk(self) -> AbstractContextManager[Fresh]:
        """Another service, of two workers, that has next to no room for temporary files."""
        self.end()
        return serving(2, self._log, small_disk=True)

    def end(self) -> None:
        """End the service; the next one is a new one."""
        self._running.close()
        self._fresh = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Attack; return 1 if a bar was missed."""
    options = _parser().parse_args(arguments)
    # So that what was started ends too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if options.list:
        sys.stdout.write("".join(f"{it.name:22}{it.about}\n" for it in CLIENTS.values()))
        return 0
    names = options.names or list(CLIENTS)
    groups: list[tuple[str, ...]] = [(name,) for name in names]
    if options.together:
        groups = list(_groups(names, options.together))
    lines = [*_head(options)]
    sys.stdout.write("\n".join(lines) + "\n")
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        log = options.log or Path(folder) / "service.log"
        with Services(options.workers, log) as services:
            for group in (*_CALIBRATIONS, *groups):
                line, found = _row(services, group, options)
                missed += len(found)
                lines.append(line)
                sys.stdout.write(line + "\n")
                sys.stdout.flush()
    sys.stdout.write(f"{missed} bars missed.\n" if missed else "No bar missed.\n")
    if options.write:
        together = f", {options.together} together" if options.together else ""
        replace_section(f"Hostile clients{together}, {options.workers} worker(s)", lines)
    return 1 if missed else 0


def _row(
    services: Services, names: Sequence[str], options: argparse.Namespace
) -> tuple[str, Sequence[str]]:
    """A line of the table, and the bars that were missed."""
    clients = [CLIENTS[name] for name in names if name in CLIENTS]
    seconds = max([options.seconds, *(client.seconds for client in clients)])
    if any(client.small_disk for client in clients):
        if not can_have_small_disk():
            return f"| {_called(names)} | {' | '.join([''] * 8)} | needs root | |", ()
        with services.with_small_disk() as fresh:
            measured = measure(fresh, names, seconds, options.settle)
        return _line(measured, 2), _counted(measured, 2)
    if services.fresh().is_worn():
        services.end()
    fresh = services.fresh()
    measured = measure(fresh, names, seconds, options.settle)
    if measured.recovery_seconds is None:
        services.end()
    if clients and measured.seen.longest > LONGEST_MILLISECONDS:
        waited = noise(services.fresh(), measured, seconds)
        measured = dataclasses.replace(measured, noise_milliseconds=waited)
    return _line(measured, options.workers), _counted(measured, options.workers)


def _counted(measured: Measured, workers: int) -> Sequence[str]:
    """The missed bars; without a hostile client they are caused by the machine."""
    return measured.missed(workers) if measured.outcomes else ()


def _line(measured: Measured, workers: int) -> str:
    recovered, noisy = measured.recovery_seconds, measured.noise_milliseconds
    errors = [f"{count} {error}" for error, count in sorted(measured.seen.errors.items())]
    cells = (
        _called(measured.names),
        f"{measured.seen.longest:.0f}",
        f"{measured.seen.p99:.1f}",
        ", ".join(errors) or "0",
        f"{measured.peak_mib:.0f}" + (", killed" if measured.killed else ""),
        f"{measured.cpu_seconds:.1f}",
        f"{measured.client_seconds:.1f}",
        "; ".join(_outcomes(measured)),
        "never" if recovered is None else f"{recovered:.1f}",
        ", ".join(measured.missed(workers)),
        "" if noisy is None else f"{noisy:.0f}",
    )
    return f"| {' | '.join(cells)} |"


def _outcomes(measured: Measured) -> Iterator[str]:
    for name, outcomes in measured.outcomes.items():
        counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
        yield f"{name}: {counts}" if len(measured.outcomes) > 1 else counts


def _called(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _groups(names: Sequence[str], size: int) -> Iterator[tuple[str, ...]]:
    """Groups by chance, the same each time; every name is in at least one of them."""
    chance = random.Random(_SEED)  # noqa: S311 - no secret
    shuffled = chance.sample(names, len(names))
    for start in range(0, len(shuffled), size):
        group = shuffled[start : start + size]
        others = [name for name in names if name not in group]
        yield (*group, *chance.sample(others, min(size - len(group), len(others))))


def _head(options: argparse.Namespace) -> Iterator[str]:
    yield "Made by `python -m bench.hostile`: each client attacks a service of default settings"
    yield f"with {options.workers} worker(s) for {options.seconds:g} s, those that wait for a"
    yield "timeout of the service for longer, while a victim calls a probe and a prediction every"
    yield "10 ms, every tenth time over a new connection."
    yield f"The bars: the victim waits for at most {LONGEST_MILLISECONDS} ms and sees no error; at"
    yield f"most {PEAK_MIB_A_WORKER} MiB a worker (the sum of the processes' peaks); every client"
    yield "gets an expected response; the levels are near those before within"
    yield f"{options.settle:g} s."
    yield "The first lines are without a hostile client, and with clients that use half a core and"
    yield "a whole core and send nothing: the effect of the machine itself on the victim."
    yield "Noise is that effect, for the processor time that this client used."
    yield ""
    yield f"| {' | '.join(_HEADS)} |"
    yield "|---" * len(_HEADS) + "|"


def _name(text: str) -> str:
    if text not in CLIENTS:
        raise argparse.ArgumentTypeError(f"there is no client {text!r}; --list names them")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.hostile", description=__doc__)
    parser.add_argument(
        "names", nargs="*", type=_name, metavar="NAME", help="of a client; default: each"
    )
    parser.add_argument("--seconds", type=float, default=8.0, help="each client at least so long")
    parser.add_argument("--together", type=int, default=0, help="so many clients at once")
    parser.add_argument("--workers", type=int, default=1, help="of the service")
    parser.add_argument("--settle", type=float, default=60.0, help="seconds to wait for the levels")
    parser.add_argument("--log", type=Path, help="file for the service's log; default: none")
    parser.add_argument("--list", action="store_true", help="the clients, and what each does")
    parser.add_argument("--write", action="store_true", help="the table into RESULTS.md too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
