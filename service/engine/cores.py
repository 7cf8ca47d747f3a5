"""How many CPU cores this process really has: in a container fewer than the machine."""

import math
import os
from collections.abc import Iterator
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


def _allowed() -> int:
    """What the scheduler lets this process run on; not every system can say it."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _limits(process: Path, groups: Path) -> Iterator[float]:
    """The limit, in cores, of each group that holds the process, where it has one."""
    for line in _text(process).splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            for folder in _upwards(groups, path):
                yield from _of_version_2(folder)
        elif "cpu" in controllers.split(","):
            # The folder is named for all controllers that are mounted there; "cpu" is a link to it.
            for folder in _upwards(groups / "cpu", path):
                yield from _of_version_1(folder)


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
