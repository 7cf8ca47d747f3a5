"""The cores of a process: those of the scheduler and the limit of its container."""

import os
from pathlib import Path

import pytest

from service.engine.devices import available_cores

ALL = len(os.sched_getaffinity(0))


def told(tmp_path: Path, line: str, limits: dict[str, str]) -> int:
    """The answer where the process is in this group, and files have this content."""
    process, groups = tmp_path / "cgroup", tmp_path / "groups"
    process.write_text(f"{line}\n")
    for name, content in limits.items():
        path = groups / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return available_cores(process, groups)


@pytest.mark.parametrize(
    ("limits", "cores"),
    [
        ({}, ALL),
        ({"cpu.max": "max 100000"}, ALL),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "100000 100000"}, 1),
        ({"cpu.max": "100001 100000"}, min(2, ALL)),
        ({"cpu.max": "9900000 100000"}, ALL),
        ({"cpu.max": "max 100000", "a/cpu.max": "max 100000", "a/b/cpu.max": "90000 100000"}, 1),
        ({"a/cpu.max": "20000 100000", "a/b/cpu.max": "max 100000"}, 1),
        ({"cpu.max": "nonsense"}, ALL),
    ],
)
def test_version_2_limits_count_from_the_group_upwards(
    tmp_path: Path, limits: dict[str, str], cores: int
) -> None:
    """The least of all limits on the way to the root, rounded up, at most the scheduler's."""
    assert told(tmp_path, "0::/a/b", limits) == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1", ALL), ("30000", 1), ("100000", 1)])
def test_version_1_limits_are_a_quota_of_a_period(tmp_path: Path, quota: str, cores: int) -> None:
    """A quota of -1 is none."""
    limits = {"cpu/a/cpu.cfs_quota_us": quota, "cpu/a/cpu.cfs_period_us": "100000"}

    assert told(tmp_path, "4:cpu,cpuacct:/a", limits) == cores


@pytest.mark.parametrize("line", ["0::/../../other", "0::/gone", "3:memory:/a", ""])
def test_a_group_that_cannot_be_seen_leaves_the_roots_limit(tmp_path: Path, line: str) -> None:
    """In a container the path may lead outside what it sees."""
    expected = 1 if line.startswith("0::") else ALL

    assert told(tmp_path, line, {"cpu.max": "70000 100000"}) == expected


def test_this_machine_has_at_least_one_core() -> None:
    """With its own files."""
    assert 1 <= available_cores() <= ALL
