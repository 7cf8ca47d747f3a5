"""What the processes of a service take: memory, processor time, descriptors, threads, connections.

All of it is read from ``/proc``, so this is for Linux.
"""

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB", re.MULTILINE)
_NOW = re.compile(r"^VmRSS:\s+(\d+) kB", re.MULTILINE)
_THREADS = re.compile(r"^Threads:\s+(\d+)", re.MULTILINE)
_RESET_PEAK = "5"
_LISTENING = "0A"
# How far a level may stay above the one before: pools of threads, and what the allocator keeps.
_NEAR_MIB = 100
_NEAR_DESCRIPTORS = 10
_NEAR_THREADS = 12
_NEAR_CONNECTIONS = 4


@dataclass(frozen=True)
class Levels:
    """What a service takes at a moment, all of its processes together; memory in MiB."""

    rss: float
    descriptors: int
    threads: int
    connections: int

    def not_near(self, before: "Levels", share: float = 1.0) -> str:
        """What is above its former level, as a phrase; empty where nothing is.

        Args:
            before: the former levels.
            share: of what counts as near.
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
    """The levels now."""
    found = list(processes)
    statuses = [_text(process, "status") for process in found]
    return Levels(
        sum(_number(_NOW, status) for status in statuses) / 1024,
        sum(_descriptors(process) for process in found),
        sum(_number(_THREADS, status) for status in statuses),
        _connections(port),
    )


def reset_peak(processes: Iterable[int]) -> None:
    """Have the peaks of memory begin again."""
    for process in processes:
        with suppress(OSError):
            Path(f"/proc/{process}/clear_refs").write_text(_RESET_PEAK)


def peak_mib(processes: Iterable[int]) -> float:
    """The sum of the processes' peaks of resident memory."""
    return sum(_number(_PEAK, _text(process, "status")) for process in processes) / 1024


def cpu_seconds(processes: Iterable[int]) -> float:
    """Processor time, of ended children too."""
    total = 0
    for process in processes:
        # After the name, which may hold anything; 11 to 14 are the four times.
        fields = _text(process, "stat").rpartition(")")[2].split()
        total += sum(map(int, fields[11:15]))
    return total / _TICKS


def _descriptors(process: int) -> int:
    with suppress(OSError):
        return len(list(Path(f"/proc/{process}/fd").iterdir()))
    return 0


def _connections(port: int) -> int:
    """Connections that the service's side of the port has, in any state but listening."""
    # The address, the state and the owner's inode; without an inode nobody has it any more.
    ends = re.compile(
        rf":{port:04X} [0-9A-F]+:[0-9A-F]{{4}} (?!{_LISTENING})\w\w (?:\S+ +){{3}}\d+ +\d+ (?!0 )"
    )
    return sum(len(ends.findall(_text("net", table))) for table in ("tcp", "tcp6"))


def _number(pattern: re.Pattern[str], text: str) -> int:
    found = pattern.search(text)
    return int(found[1]) if found else 0


def _text(part: int | str, name: str) -> str:
    with suppress(OSError):
        return Path(f"/proc/{part}/{name}").read_text()
    return ""
