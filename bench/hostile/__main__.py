"""Measure the effect of each hostile client on another client of the service.

Each client attacks a service with default settings while another client, the victim, sends requests
every ten milliseconds. The limits: the victim waits for at most 250 ms and gets no error, the
service uses at most 600 MiB per worker, every client gets a response that a correct service may
send, and within 60 s after the attack memory, descriptors, threads and connections are near their
former levels. The exit status is 1 if a limit is missed. Run it by ``python -m bench.hostile``.
"""

import argparse
import dataclasses
import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Self

from bench.hostile.attack import busy_client
from bench.hostile.clients import CLIENTS
from bench.hostile.measure import (
    MAX_WAIT_MILLISECONDS,
    PEAK_MIB_PER_WORKER,
    Measured,
    Service,
    can_have_small_disk,
    measure,
    noise,
    serving,
)
from bench.page import replace_section
from bench.processes import exit_on_sigterm

_SEED = 1
_CALIBRATIONS: tuple[tuple[str, ...], ...] = (
    (),
    (busy_client(0.5),),
    (busy_client(1.0),),
)
_COLUMNS = (
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
    """The service under attack, which is restarted if its levels stay raised after an attack.

    Args:
        workers: the number of workers.
        log: the file for its log.
    """

    def __init__(self, workers: int, log: Path) -> None:
        self._workers = workers
        self._log = log
        self._running = ExitStack()
        self._service: Service | None = None

    def __enter__(self) -> Self:
        """Start nothing yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the service."""
        self.end()

    def current(self) -> Service:
        """The service, which is started unless it is running."""
        if self._service is None:
            self._service = self._running.enter_context(serving(self._workers, self._log))
        return self._service

    def with_small_disk(self) -> AbstractContextManager[Service]:
        """A different service, with two workers and little space for temporary files."""
        self.end()
        return serving(2, self._log, small_disk=True)

    def end(self) -> None:
        """End the service; `current` then starts a new one."""
        self._running.close()
        self._service = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Attack; return 1 if a limit was missed."""
    options = _parser().parse_args(arguments)
    exit_on_sigterm()
    if options.list:
        sys.stdout.write("".join(f"{it.name:22}{it.description}\n" for it in CLIENTS.values()))
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
    sys.stdout.write(f"{missed} limits were missed.\n" if missed else "No limit was missed.\n")
    if options.write:
        together = f", {options.together} together" if options.together else ""
        replace_section(f"Hostile clients{together}, {options.workers} worker(s)", lines)
    return 1 if missed else 0


def _row(
    services: Services, names: Sequence[str], options: argparse.Namespace
) -> tuple[str, Sequence[str]]:
    """A row of the table, and the limits that were missed."""
    clients = [CLIENTS[name] for name in names if name in CLIENTS]
    seconds = max([options.seconds, *(client.seconds for client in clients)])
    if any(client.small_disk for client in clients):
        if not can_have_small_disk():
            return f"| {_title(names)} | {' | '.join([''] * 8)} | needs root | |", ()
        with services.with_small_disk() as service:
            measured = measure(service, names, seconds, options.settle)
        return _line(measured, 2), _limits_missed(measured, 2)
    if services.current().has_raised_levels():
        services.end()
    measured = measure(services.current(), names, seconds, options.settle)
    if measured.recovery_seconds is None:
        services.end()
    if clients and measured.observed.longest > MAX_WAIT_MILLISECONDS:
        wait = noise(services.current(), measured, seconds)
        measured = dataclasses.replace(measured, noise_milliseconds=wait)
    return _line(measured, options.workers), _limits_missed(measured, options.workers)


def _limits_missed(measured: Measured, workers: int) -> Sequence[str]:
    """The missed limits; none without a hostile client, because the machine causes them."""
    return measured.missed(workers) if measured.outcomes else ()


def _line(measured: Measured, workers: int) -> str:
    recovered, noisy = measured.recovery_seconds, measured.noise_milliseconds
    errors = [f"{count} {error}" for error, count in sorted(measured.observed.errors.items())]
    cells = (
        _title(measured.names),
        f"{measured.observed.longest:.0f}",
        f"{measured.observed.p99:.1f}",
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


def _title(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _groups(names: Sequence[str], size: int) -> Iterator[tuple[str, ...]]:
    """Random groups with a constant seed; every name is in at least one of them."""
    generator = random.Random(_SEED)  # noqa: S311 - no secret
    shuffled = generator.sample(names, len(names))
    for start in range(0, len(shuffled), size):
        group = shuffled[start : start + size]
        others = [name for name in names if name not in group]
        yield (*group, *generator.sample(others, min(size - len(group), len(others))))


def _head(options: argparse.Namespace) -> Iterator[str]:
    yield "Made by `python -m bench.hostile`: each client attacks a service with default settings"
    yield f"and {options.workers} worker(s) for {options.seconds:g} s, or longer if it waits for a"
    yield "timeout of the service, while a victim sends a probe and a prediction every 10 ms,"
    yield "every tenth time over a new connection. The limits: the victim waits for at most"
    yield f"{MAX_WAIT_MILLISECONDS} ms and gets no error; at most {PEAK_MIB_PER_WORKER} MiB per"
    yield "worker (the sum of the processes' peaks); every client gets an expected response; the"
    yield f"levels are near their former values within {options.settle:g} s. The first rows are"
    yield "without a hostile client, and with clients that use half a core and a whole core and"
    yield "send nothing: the effect of the machine itself on the victim. Noise is the longest wait"
    yield "for a client that uses the same processor time and sends nothing."
    yield ""
    yield f"| {' | '.join(_COLUMNS)} |"
    yield "|---" * len(_COLUMNS) + "|"


def _name(text: str) -> str:
    if text not in CLIENTS:
        raise argparse.ArgumentTypeError(f"there is no client {text!r}; --list names them")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.hostile", description=__doc__)
    parser.add_argument(
        "names", nargs="*", type=_name, metavar="NAME", help="name of a client; default: each"
    )
    parser.add_argument("--seconds", type=float, default=8.0, help="minimum for each client")
    parser.add_argument(
        "--together", type=int, default=0, help="number of clients at the same time"
    )
    parser.add_argument("--workers", type=int, default=1, help="number of workers of the service")
    parser.add_argument("--settle", type=float, default=60.0, help="seconds to wait for the levels")
    parser.add_argument("--log", type=Path, help="file for the service's log; default: none")
    parser.add_argument("--list", action="store_true", help="list the clients with a description")
    parser.add_argument("--write", action="store_true", help="write the table into RESULTS.md")
    return parser


if __name__ == "__main__":
    sys.exit(main())
