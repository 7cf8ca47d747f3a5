"""Memory, processor time, descriptors, threads and connections of processes.

All of it is read from ``/proc``, so this module needs Linux.
"""

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_RESET_PEAK = "5"
_LISTENING = "0A"
# How far a level may stay above its former value: thread pools and memory cached by the allocator.
_NEAR_MIB = 100
_NEAR_DESCRIPTORS = 10
_NEAR_THREADS = 12
_NEAR_CONNECTIONS = 4


@dataclass(frozen=True)
class Levels:
    """The resources that all processes of a service use at one moment; memory in MiB."""

    rss: float
    descriptors: int
    threads: int
    connections: int

    def not_near(self, before: "Levels", share: float = 1.0) -> str:
        """Describe the levels that are above their former values; empty if none is.

        Args:
            before: the former levels.
            share: factor of the differences that count as near.
        """
        above = []
        if self.rss > before.rss + share * _NEAR_MIB:
            above.append(f"memory {before.rss:.0f} → {self.rss:.0f} MiB")
        for name, near in (
            ("descriptors", _NEAR_DESCRIPTORS),
            ("threads", _NEAR_THREADS),
            ("connections", _NEAR_CONNECTIONS),
        ):
            was, now = getattr(before, name), getattr(self, name)
            if now > was + share * near:
                above.append(f"{name} {was} → {now}")
        return ", ".join(above)


def levels(processes: Iterable[int], port: int) -> Levels:
    """The current levels of processes and of the connections to a port."""
    found = list(processes)
    return Levels(
        resident_mib(found),
        sum(len(descriptors(process)) for process in found),
        sum(threads(process) for process in found),
        _connections(port),
    )


def process_tree(first: int) -> set[int]:
    """A process, those of its session, and all running descendants."""
    parents: dict[int, int] = {}
    tree = set()
    for entry in Path("/proc").glob("[0-9]*"):
        process = int(entry.name)
        if fields := _stat(process):
            _, parent, _, session = fields[:4]
            parents[process] = int(parent)
            if int(session) == first:
                tree.add(process)
    while found := {it for it, parent in parents.items() if parent in tree} - tree:
        tree |= found
    return tree


def has_ended(process: int) -> bool:
    """Whether a process has ended, reaped or not."""
    return _stat(process)[:1] in ([], ["Z"])


def resident_mib(processes: Iterable[int]) -> float:
    """The sum of the resident memory of processes."""
    return sum(_number(process, "status", "VmRSS") for process in processes) / 1024


def peak_mib(processes: Iterable[int]) -> float:
    """The sum of the processes' peaks of resident memory since `reset_peak`."""
    return sum(_number(process, "status", "VmHWM") for process in processes) / 1024


def proportional_mib(processes: Iterable[int]) -> float:
    """Private memory of processes, and their share of common memory."""
    return sum(_number(process, "smaps_rollup", "Pss") for process in processes) / 1024


def reset_peak(processes: Iterable[int]) -> None:
    """Start new measurements of the processes' peaks of memory."""
    for process in processes:
        with suppress(OSError):
            Path(f"/proc/{process}/clear_refs").write_text(_RESET_PEAK)


def cpu_seconds(processes: Iterable[int]) -> float:
    """Processor time of processes and of their ended children."""
    # Fields 11 to 14 are user and system time, of the process and of its children.
    return sum(sum(map(int, _stat(process)[11:15])) for process in processes) / _TICKS


def threads(process: int) -> int:
    """The number of threads of a process."""
    return _number(process, "status", "Threads")


def descriptors(process: int) -> list[str]:
    """The targets of the open descriptors of a process, for example ``socket:[1234]``."""
    targets = []
    with suppress(OSError):
        for path in Path(f"/proc/{process}/fd").iterdir():
            with suppress(OSError):  # closed since the folder was listed
                targets.append(str(path.readlink()))
    return targets


def _connections(port: int) -> int:
    """The number of connections at the service's port, in any state but listening."""
    # Address, state and inode of the owner; the inode 0 belongs to a connection without an owner.
    ends = re.compile(
        rf":{port:04X} [0-9A-F]+:[0-9A-F]{{4}} (?!{_LISTENING})\w\w (?:\S+ +){{3}}\d+ +\d+ (?!0 )"
    )
    return sum(len(ends.findall(_text("net", table))) for table in ("tcp", "tcp6"))


def _number(process: int, file: str, field: str) -> int:
    """A number of a file with one field per line; 0 if the process has ended."""
    found = re.search(rf"^{field}:\s+(\d+)", _text(process, file), re.MULTILINE)
    return int(found[1]) if found else 0


def _stat(process: int) -> list[str]:
    """The fields of ``stat`` from the state on; none if the process has ended."""
    # They follow the name, which may contain any characters.
    return _text(process, "stat").rpartition(")")[2].split()


def _text(part: int | str, name: str) -> str:
    with suppress(OSError):
        return Path(f"/proc/{part}/{name}").read_text()
    return ""
