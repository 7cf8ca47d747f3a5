"""One measurement: hostile clients against a service, and a victim at the same time."""

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
from urllib.parse import urlsplit

from bench.hostile.attack import burning
from bench.hostile.clients import CLIENTS
from bench.hostile.levels import Levels, cpu_seconds, levels, peak_mib, reset_peak
from bench.hostile.victim import Seen
from bench.processes import Running, Start, started

LONGEST_MILLISECONDS = 250
PEAK_MIB_A_WORKER = 600
KILL_MIB = 3000
"""Above it the service is killed, so that it does not take the machine's memory."""

_AHEAD_SECONDS = 0.5
_AFTER_SECONDS = 1.0
_POLL_SECONDS = 0.2
_PATIENCE_SECONDS = 90.0
_SMALL_DISK = "16m"
_WORN = 0.5
_WARMING = ("flood_one_row", "explanations_left", "tables_of_errors", "dots")


class Report(TypedDict):
    """What a hostile client prints when it has ended."""

    outcomes: dict[str, int]
    seconds: float


@dataclass(frozen=True)
class Measured:
    """The effect of hostile clients on the service and on the victim.

    Args:
        names: of the clients.
        seen: the victim's waiting times and errors.
        peak_mib: of all processes of the service.
        cpu_seconds: of all processes of the service.
        client_seconds: processor time of the hostile clients.
        outcomes: of the hostile clients, by name.
        recovery_seconds: until the levels were near those before; None if they never were.
        above: the levels that were not.
        killed: whether the service was killed for its memory.
        died: whether it ended by itself.
        noise_milliseconds: the victim's longest wait while a client uses the same processor
            time and sends nothing; None if not measured.
    """

    names: Sequence[str]
    seen: Seen
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
        """The bars that were missed, as phrases; memory has one for each worker."""
        found = []
        if self.seen.longest > LONGEST_MILLISECONDS:
            found.append("wait")
        overload = frozenset().union(*(CLIENTS[name].victim for name in self.outcomes))
        if set(self.seen.errors) - overload:
            found.append("victim")
        if self.peak_mib > PEAK_MIB_A_WORKER * workers or self.killed:
            found.append("memory")
        if self.died:
            found.append("service ended")
        if self.recovery_seconds is None:
            found.append(f"level ({self.above})")
        for name, outcomes in self.outcomes.items():
            wrong = sorted(set(outcomes) - CLIENTS[name].allowed)
            if wrong or not outcomes:
                found.append(f"{name} got {' and '.join(wrong) or 'nothing'}")
        return found


@dataclass(frozen=True)
class Fresh:
    """A running service, with its levels before the first attack."""

    running: Running
    before: Levels

    def is_worn(self) -> bool:
        """Whether its levels are so high that the next client would be blamed for them."""
        return bool(self.above(_WORN))

    def levels(self) -> Levels:
        """Its levels now."""
        return levels(self.running.processes, _port(self.running))

    def above(self, share: float = 1.0) -> str:
        """What is not as before, as a phrase: levels, or that it does not respond."""
        try:
            urllib.request.urlopen(f"{self.running.address}/health/live", timeout=1).close()  # noqa: S310 - our own server's address
        except OSError:
            return "no response"
        return self.levels().not_near(self.before, share)


@dataclass
class _Watch:
    """Kills a service that takes too much memory."""

    running: Running
    port: int
    killed: bool = False
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Check the memory until stopped."""
        while not self.stopped.wait(_POLL_SECONDS):
            if levels(self.running.processes, self.port).rss > KILL_MIB:
                self.killed = True
                for process in self.running.processes:
                    with suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)
                return


@contextmanager
def serving(workers: int, log: Path, *, small_disk: bool = False) -> Iterator[Fresh]:
    """Start the service with its default settings and the shipped models.

    Args:
        workers: of the service.
        log: file that gets what it logs.
        small_disk: its temporary folders are on a file system of 16 MB; needs root.
    """
    command = ["-m", "service", "--device", "cpu", "--port", "{port}", "--workers", str(workers)]
    with tempfile.TemporaryDirectory() as folder:
        environment = {}
        if small_disk:
            environment = {"TMPDIR": folder, "ONWARD_SPOOL_FOLDER": folder}
            mount = ["mount", "-t", "tmpfs", "-o", f"size={_SMALL_DISK}", "tmpfs", folder]
            subprocess.run(mount, check=True)
        try:
            start = Start(command, "/health/ready", environment=environment, log=log, core=None)
            with started(start) as running:
                _warm_up(running)
                yield Fresh(running, levels(running.processes, _port(running)))
        finally:
            if small_disk:
                subprocess.run(["umount", folder], check=True)


def can_have_small_disk() -> bool:
    """Whether this user may mount a file system."""
    return os.geteuid() == 0 and shutil.which("mount") is not None


def measure(fresh: Fresh, names: Sequence[str], seconds: float, wait_seconds: float) -> Measured:
    """Run hostile clients together, and a victim at the same time.

    Args:
        fresh: the service.
        names: of the hostile clients, or of what `burning` names; none is a victim alone.
        seconds: how long they are hostile.
        wait_seconds: how long to wait afterwards for the levels before.
    """
    running, port = fresh.running, _port(fresh.running)
    reset_peak(running.processes)
    before = cpu_seconds(running.processes)
    with ExitStack() as stack:
        watch = stack.enter_context(_watching(running, port))
        attackers = _attackers(stack, names, running, seconds)
        victim = stack.enter_context(_python("victim", *_address(running)))
        time.sleep(_AHEAD_SECONDS)
        reports = _attacked(attackers, seconds)
        time.sleep(_AFTER_SECONDS)
        seen = Seen.from_json(_output_of(victim))
    family = running.processes
    peak, spent = peak_mib(family), cpu_seconds(family) - before
    died = not Path(f"/proc/{running.process}/status").exists() or _is_dead(running.process)
    recovered, above = (None, "ended") if died else _wait_for_recovery(fresh, wait_seconds)
    return Measured(
        names,
        seen,
        KILL_MIB if watch.killed else peak,
        spent,
        sum(report["seconds"] for report in reports.values()),
        {name: Counter(it["outcomes"]) for name, it in reports.items() if name in CLIENTS},
        recovered,
        above,
        watch.killed,
        died and not watch.killed,
    )


def noise(fresh: Fresh, measured: Measured, seconds: float) -> float:
    """The victim's longest wait while a client uses the same processor time and sends nothing."""
    share = min(1.0, measured.client_seconds / seconds)
    return measure(fresh, [burning(share)], seconds, 0).seen.longest


def _attacked(
    attackers: Mapping[str, "subprocess.Popen[str]"], seconds: float
) -> dict[str, Report]:
    """Let all begin at once, and collect their reports."""
    for process in attackers.values():
        assert process.stdout is not None  # noqa: S101 - it was opened as a pipe
        process.stdout.readline()
    for process in attackers.values():
        assert process.stdin is not None  # noqa: S101 - as above
        process.stdin.write("\n")
        process.stdin.flush()
    return {
        name: json.loads(_output_of(process, seconds + _PATIENCE_SECONDS))
        for name, process in attackers.items()
    }


def _attackers(
    stack: ExitStack, names: Sequence[str], running: Running, seconds: float
) -> dict[str, "subprocess.Popen[str]"]:
    """A process for each hostile client, until the stack is closed."""
    given = (*_address(running), str(seconds))
    return {name: stack.enter_context(_python("attack", name, *given)) for name in names}


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
def _watching(running: Running, port: int) -> Iterator[_Watch]:
    """Watch the memory of a service until the block ends."""
    watch = _Watch(running, port)
    thread = threading.Thread(target=watch.run)
    thread.start()
    try:
        yield watch
    finally:
        watch.stopped.set()
        thread.join()


def _output_of(process: "subprocess.Popen[str]", seconds: float = _PATIENCE_SECONDS) -> str:
    """What a client prints once its standard input has ended.

    Raises:
        RuntimeError: it failed.
        subprocess.TimeoutExpired: it did not end in time.
    """
    said, _ = process.communicate(timeout=seconds)
    if process.returncode:
        raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
    return said


def _wait_for_recovery(fresh: Fresh, seconds: float) -> tuple[float | None, str]:
    """Seconds until the levels are near those before, or what is above them at the end."""
    began = time.monotonic()
    while True:
        above = fresh.above()
        waited = time.monotonic() - began
        if not above:
            return waited, ""
        if waited > seconds:
            return None, above
        time.sleep(_POLL_SECONDS)


def _warm_up(running: Running) -> None:
    """Use everything once that stays in memory afterwards: threads, code, caches."""
    with ExitStack() as stack:
        _attacked(_attackers(stack, _WARMING, running, 1), 1)
    time.sleep(_AFTER_SECONDS)


def _is_dead(process: int) -> bool:
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def _address(running: Running) -> tuple[str, str]:
    parts = urlsplit(running.address)
    return str(parts.hostname), str(parts.port)


def _port(running: Running) -> int:
    return int(_address(running)[1])
