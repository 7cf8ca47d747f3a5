"""How many CPU cores and how much memory this process has: in a container less than the machine."""

import math
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

_PROCESS = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")


def available_cores(process: Path = _PROCESS, groups: Path = _GROUPS) -> int:
    """The least of the cores that the scheduler allows and the container's limit, rounded up.

    Args:
        process: which control groups the process is in.
        groups: where control groups are mounted, of version 2 or with a folder for each controller.
    """
    limits = [*_limits(process, groups), float(_allowed())]
    return max(1, math.ceil(min(limits)))


def available_memory(process: Path = _PROCESS, groups: Path = _GROUPS) -> int:
    """The least of the machine's memory and the container's limit, in bytes.

    Args:
        process: as `available_cores` has it.
        groups: as `available_cores` has it.
    """
    limits = [
        int(text)
        for folder, file in _memory_files(process, groups)
        if (text := _text(folder / file).strip()).isdecimal()
    ]
    return min([*limits, _machine_memory()])


def _machine_memory() -> int:
    """The machine's memory in bytes; where the system does not say, no limit."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return sys.maxsize


def _memory_files(process: Path, groups: Path) -> Iterator[tuple[Path, str]]:
    """The files with the memory limit of each group that holds the process."""
    for controllers, path in _memberships(process):
        if not controllers:
            yield from ((folder, "memory.max") for folder in _upwards(groups, path))
        elif "memory" in controllers:
            for folder in _upwards(groups / "memory", path):
                yield folder, "memory.limit_in_bytes"


def _allowed() -> int:
    """What the scheduler lets this process run on; not every system can say it."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _limits(process: Path, groups: Path) -> Iterator[float]:
    """The limit, in cores, of each group that holds the process, where it has one."""
    for controllers, path in _memberships(process):
        if not controllers:
            for folder in _upwards(groups, path):
                yield from _of_version_2(folder)
        elif "cpu" in controllers:
            # The folder is named for all controllers that are mounted there; "cpu" is a link to it.
            for folder in _upwards(groups / "cpu", path):
                yield from _of_version_1(folder)


def _memberships(process: Path) -> Iterator[tuple[Sequence[str], str]]:
    """The controllers and the path of each group of the process; version 2 has no controllers."""
    for line in _text(process).splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers or number == "0":
            yield controllers.split(",") if controllers else (), path


def _upwards(root: Path, path: str) -> Iterator[Path]:
    """A group's folder and those above it; within a container the path may lead nowhere."""
    folder = root / path.lstrip("/")
    if ".." in folder.parts:
        folder = root  # the group lies outside what the container sees
    while folder != root:
        yield folder
        folder = folder.parent
    yield root


def _of_version_2(folder: Path) -> Iterator[float]:
    quota, _, period = _text(folder / "cpu.max").partition(" ")
    yield from _share(quota, period)


def _of_version_1(folder: Path) -> Iterator[float]:
    yield from _share(_text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us"))


def _share(quota: str, period: str) -> Iterator[float]:
    """Microseconds of computing a period of microseconds; no limit is "max" or -1."""
    if quota.strip().isdecimal() and period.strip().isdecimal() and int(period) > 0:
        yield int(quota) / int(period)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
