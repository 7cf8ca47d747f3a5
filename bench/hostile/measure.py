"""Measure the effect of hostile clients on a service and on a victim."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from bench.hostile.attack import busy_client
from bench.hostile.clients import CLIENTS
from bench.hostile.victim import Observations
from bench.levels import (
    Levels,
    cpu_seconds,
    has_ended,
    levels,
    peak_mib,
    reset_peak,
    resident_mib,
)
from bench.processes import Running, Start, service_command, started

MAX_WAIT_MILLISECONDS = 250
PEAK_MIB_PER_WORKER = 600
KILL_MIB = 3000
"""The memory at which the service is killed, before it uses all memory of the machine."""

_BEFORE_SECONDS = 0.5
_AFTER_SECONDS = 1.0
_POLL_SECONDS = 0.2
_TIMEOUT_SECONDS = 90.0
_SMALL_DISK = "16m"
_RAISED_SHARE = 0.5
_WARM_UP_CLIENTS = ("flood_one_row", "explanations_left", "tables_of_errors", "dots")


class Report(TypedDict):
    """The output of a hostile client."""

    outcomes: dict[str, int]
    seconds: float


@dataclass(frozen=True)
class Measured:
    """The effect of hostile clients on the service and on the victim.

    Args:
        names: of the clients.
        observed: the observations of the victim.
        peak_mib: of all processes of the service.
        cpu_seconds: of all processes of the service.
        client_seconds: processor time of the hostile clients.
        outcomes: of the hostile clients, by name.
        recovery_seconds: until the levels were near their former values; None if they were not in
            time.
        above: describes the levels that stayed raised.
        killed: whether the service was killed because of its memory.
        died: whether it ended by itself.
        noise_milliseconds: the victim's longest wait while a client uses the same processor
            time and sends nothing; None if not measured.
    """

    names: Sequence[str]
    observed: Observations
    peak_mib: float
    cpu_seconds: float
    client_seconds: float
    outcomes: Mapping[str, Counter[str]]
    recovery_seconds: float | None
    above: str = ""
    killed: bool = False
    died: bool = False
    noise_milliseconds: float | None = None

    def missed(self, workers: int) -> list[str]:
        """Describe the limits that were missed; the limit for memory is per worker."""
        found = []
        if self.observed.longest > MAX_WAIT_MILLISECONDS:
            found.append("wait")
        overload = frozenset().union(*(CLIENTS[name].victim for name in self.outcomes))
        if set(self.observed.errors) - overload:
            found.append("victim")
        if self.peak_mib > PEAK_MIB_PER_WORKER * workers or self.killed:
            found.append("memory")
        if self.died:
            found.append("service ended")
        if self.recovery_seconds is None:
            found.append(f"level ({self.above})")
        for name, outcomes in self.outcomes.items():
            unexpected = sorted(set(outcomes) - CLIENTS[name].allowed)
            if unexpected or not outcomes:
                found.append(f"{name} got {' and '.join(unexpected) or 'nothing'}")
        return found


@dataclass(frozen=True)
class Service:
    """A running service, with its levels before the first attack."""

    running: Running
    before: Levels

    def has_raised_levels(self) -> bool:
        """Whether its levels are so high that they would affect the result of the next client."""
        return bool(self.above(_RAISED_SHARE))

    def levels(self) -> Levels:
        """Its current levels."""
        return levels(self.running.processes, self.running.port)

    def above(self, share: float = 1.0) -> str:
        """Describe the levels that are above their former values, or that it does not respond."""
        try:
            urllib.request.urlopen(f"{self.running.address}/health/live", timeout=1).close()  # noqa: S310 - our own server's address
        except OSError:
            return "no response"
        return self.levels().not_near(self.before, share)


@dataclass
class _Watch:
    """Kills a service that uses too much memory."""

    running: Running
    killed: bool = False
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Check the memory until stopped."""
        while not self.stopped.wait(_POLL_SECONDS):
            if resident_mib(self.running.processes) > KILL_MIB:
                self.killed = True
                for process in self.running.processes:
                    with suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)
                return


@contextmanager
def serving(workers: int, log: Path, *, small_disk: bool = False) -> Iterator[Service]:
    """Start the service with its default settings and the shipped models.

    Args:
        workers: the number of workers.
        log: the file for its log.
        small_disk: whether its temporary folder is on a file system of 16 MB; needs root.
    """
    command = service_command("--workers", str(workers))
    with tempfile.TemporaryDirectory() as folder:
        environment = {}
        if small_disk:
            environment = {"TMPDIR": folder, "ONWARD_SPOOL_FOLDER": folder}
            mount = ["mount", "-t", "tmpfs", "-o", f"size={_SMALL_DISK}", "tmpfs", folder]
            subprocess.run(mount, check=True)
        try:
            start = Start(command, environment=environment, log=log, core=None)
            with started(start) as running:
                _warm_up(running)
                yield Service(running, levels(running.processes, running.port))
        finally:
            if small_disk:
                subprocess.run(["umount", folder], check=True)


def can_have_small_disk() -> bool:
    """Whether this user may mount a file system."""
    return os.geteuid() == 0 and shutil.which("mount") is not None


def measure(
    service: Service, names: Sequence[str], seconds: float, wait_seconds: float
) -> Measured:
    """Run hostile clients together, and a victim at the same time.

    Args:
        service: the service.
        names: of the hostile clients, or from `busy_client`; none for the victim alone.
        seconds: the duration of the attack.
        wait_seconds: the longest time to wait afterwards for the former levels.
    """
    running = service.running
    reset_peak(running.processes)
    before = cpu_seconds(running.processes)
    with ExitStack() as stack:
        watch = stack.enter_context(_watching(running))
        attackers = _attackers(stack, names, running, seconds)
        victim = stack.enter_context(_python("victim", running.host, str(running.port)))
        time.sleep(_BEFORE_SECONDS)
        reports = _run(attackers, seconds)
        time.sleep(_AFTER_SECONDS)
        observed = Observations.from_json(_read_output(victim))
    processes = running.processes
    peak, spent = peak_mib(processes), cpu_seconds(processes) - before
    died = has_ended(running.process)
    recovered, above = (None, "ended") if died else _wait_for_recovery(service, wait_seconds)
    return Measured(
        names,
        observed,
        KILL_MIB if watch.killed else peak,
        spent,
        sum(report["seconds"] for report in reports.values()),
        {name: Counter(it["outcomes"]) for name, it in reports.items() if name in CLIENTS},
        recovered,
        above,
        watch.killed,
        died and not watch.killed,
    )


def noise(service: Service, measured: Measured, seconds: float) -> float:
    """The victim's longest wait while a client uses the same processor time and sends nothing."""
    share = min(1.0, measured.client_seconds / seconds)
    return measure(service, [busy_client(share)], seconds, 0).observed.longest


def _run(attackers: Mapping[str, "subprocess.Popen[str]"], seconds: float) -> dict[str, Report]:
    """Start all clients at the same time, and collect their reports."""
    for process in attackers.values():
        assert process.stdout is not None  # noqa: S101 - it was opened as a pipe
        process.stdout.readline()
    for process in attackers.values():
        assert process.stdin is not None  # noqa: S101 - as above
        process.stdin.write("\n")
        process.stdin.flush()
    return {
        name: json.loads(_read_output(process, seconds + _TIMEOUT_SECONDS))
        for name, process in attackers.items()
    }


def _attackers(
    stack: ExitStack, names: Sequence[str], running: Running, seconds: float
) -> dict[str, "subprocess.Popen[str]"]:
    """A process for each hostile client, until the stack is closed."""
    arguments = (running.host, str(running.port), str(seconds))
    return {name: stack.enter_context(_python("attack", name, *arguments)) for name in names}


@contextmanager
def _python(module: str, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """A process of this package, which ends with the block."""
    with subprocess.Popen(
        [sys.executable, "-m", f"bench.hostile.{module}", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def _watching(running: Running) -> Iterator[_Watch]:
    """Watch the memory of a service until the block ends."""
    watch = _Watch(running)
    thread = threading.Thread(target=watch.run)
    thread.start()
    try:
        yield watch
    finally:
        watch.stopped.set()
        thread.join()


def _read_output(process: "subprocess.Popen[str]", seconds: float = _TIMEOUT_SECONDS) -> str:
    """The output of a client after its standard input has ended.

    Raises:
        RuntimeError: the client failed.
        subprocess.TimeoutExpired: the client did not end in time.
    """
    output, _ = process.communicate(timeout=seconds)
    if process.returncode:
        raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
    return output


def _wait_for_recovery(service: Service, seconds: float) -> tuple[float | None, str]:
    """Seconds until the levels are near their former values, or the levels that are not."""
    began = time.monotonic()
    while True:
        above = service.above()
        waited = time.monotonic() - began
        if not above:
            return waited, ""
        if waited > seconds:
            return None, above
        time.sleep(_POLL_SECONDS)


def _warm_up(running: Running) -> None:
    """Create the threads and fill the caches that stay in memory afterwards."""
    with ExitStack() as stack:
        _run(_attackers(stack, _WARM_UP_CLIENTS, running, 1), 1)
    time.sleep(_AFTER_SECONDS)
