"""The cores of a process: its CPU affinity and the limit of its container."""

import os
from pathlib import Path

import pytest

from service.engine.devices import count_cores

ALL = len(os.sched_getaffinity(0))


def cores_of(tmp_path: Path, line: str, limits: dict[str, str]) -> int:
    """Return the cores of a process in this control group, with files of this content."""
    process, groups = tmp_path / "cgroup", tmp_path / "groups"
    process.write_text(f"{line}\n")
    for name, content in limits.items():
        path = groups / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return count_cores(process, groups)


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
def test_version_2_limits_of_the_group_and_its_parents_apply(
    tmp_path: Path, limits: dict[str, str], cores: int
) -> None:
    """The minimum of all limits up to the root, rounded up, and of the CPU affinity."""
    assert cores_of(tmp_path, "0::/a/b", limits) == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1", ALL), ("30000", 1), ("100000", 1)])
def test_version_1_limits_are_a_quota_of_a_period(tmp_path: Path, quota: str, cores: int) -> None:
    """A quota of -1 is no limit."""
    limits = {"cpu/a/cpu.cfs_quota_us": quota, "cpu/a/cpu.cfs_period_us": "100000"}

    assert cores_of(tmp_path, "4:cpu,cpuacct:/a", limits) == cores


@pytest.mark.parametrize("line", ["0::/../../other", "0::/gone", "3:memory:/a", ""])
def test_the_limit_of_the_root_applies_if_the_group_is_not_visible(
    tmp_path: Path, line: str
) -> None:
    """In a container the path may be outside its namespace."""
    expected = 1 if line.startswith("0::") else ALL

    assert cores_of(tmp_path, line, {"cpu.max": "70000 100000"}) == expected


def test_this_machine_has_at_least_one_core() -> None:
    """The limit that is read from the files of this machine allows at least one core."""
    assert 1 <= count_cores() <= ALL
