"""The policy file: what it may say, and that it is never half written or lost between two."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from service.bundle.errors import BundleError
from service.bundle.policy import POLICY, Alias, Latest, Policy, change_policy, read_policy

NO_FILES: list[Callable[[Path], None]] = [Path.mkdir, os.mkfifo, lambda it: it.symlink_to(it)]


def moved(alias: str, version: int, policy: Policy) -> Policy:
    return policy.with_alias(alias, version)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("{}", Policy()),
        ('{"versions": "all"}', Policy(versions="all")),
        ('{"versions": {"latest": 2}}', Policy(versions=Latest(latest=2))),
        ('{"versions": [3, 1]}', Policy(versions=(3, 1))),
        ('{"aliases": {"stable": 2}}', Policy(aliases={"stable": Alias(version=2)})),
        (
            '{"aliases": {"stable": {"version": 2, "before": [1]}}}',
            Policy(aliases={"stable": Alias(version=2, before=(1,))}),
        ),
    ],
)
def test_a_policy_written_by_hand_is_read(tmp_path: Path, text: str, meant: Policy) -> None:
    """The short form of an alias is its number."""
    (tmp_path / POLICY).write_text(text)

    assert read_policy(tmp_path) == meant


def test_without_a_file_there_is_no_policy(tmp_path: Path) -> None:
    """The service's own setting decides then."""
    assert read_policy(tmp_path) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "the whole file: Invalid JSON"),
        ('{"versions": "newest"}', r'write "latest", "all", {"latest": 2}, or a list'),
        ('{"versions": []}', "or a list of numbers"),
        ('{"versions": [0]}', "greater than or equal to 1"),
        ('{"versions": ["1"]}', "valid integer"),
        ('{"versions": {"latest": 0}}', "greater than or equal to 1"),
        ('{"aliases": {"2": 2}}', "match pattern"),
        ('{"aliases": {"a/b": 2}}', "match pattern"),
        ('{"aliases": {"stable": 9223372036854775808}}', "less than or equal to"),
        ('{"aliases": {"stable": true}}', "valid integer"),
        ('{"alias": {"stable": 1}}', "alias: Extra inputs"),
    ],
)
def test_a_policy_that_cannot_be_followed_is_told(tmp_path: Path, text: str, reason: str) -> None:
    """The sentence names the file and what is wrong in it."""
    (tmp_path / POLICY).write_text(text)

    with pytest.raises(BundleError, match=r"policy\.json is not valid") as told:
        read_policy(tmp_path)
    assert reason in str(told.value)


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    """A folder, a pipe and a link in a circle are read by nobody, and wait for nobody."""
    for place, make in enumerate(NO_FILES):
        home = tmp_path / str(place)
        home.mkdir()
        make(home / POLICY)

        with pytest.raises(BundleError, match=r"policy\.json (is not a regular|cannot be read)"):
            read_policy(home)


def test_an_alias_remembers_where_it_was(tmp_path: Path) -> None:
    """Moved twice it goes back twice, and no further."""
    for version in (1, 2, 2, 3):
        change_policy(tmp_path, partial(moved, "stable", version))
    there = {1, 2, 3}

    seen = []
    for _ in range(2):
        _, policy = change_policy(tmp_path, lambda known: known.rolled_back("stable", there))
        seen.append(policy.aliases["stable"].version)

    assert seen == [2, 1]
    with pytest.raises(BundleError, match="'stable' points to version 1, and there is no earlier"):
        policy.rolled_back("stable", there)
    with pytest.raises(BundleError, match="no alias 'canary'; existing: stable"):
        policy.rolled_back("canary", there)


def test_going_back_passes_over_what_is_gone() -> None:
    """A version whose folder was removed is none to go back to, and is told."""
    policy = Policy().with_alias("stable", 1).with_alias("stable", 2).with_alias("stable", 3)

    assert policy.rolled_back("stable", {1, 3}).aliases["stable"] == Alias(version=1)
    with pytest.raises(BundleError, match="removed since: 2, 1"):
        policy.rolled_back("stable", {3})


def test_writers_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    """Forty aliases set at once are forty aliases."""
    aliases = [f"alias_{place}" for place in range(40)]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda alias: change_policy(tmp_path, partial(moved, alias, 1)), aliases))

    policy = read_policy(tmp_path)
    assert policy is not None
    assert set(policy.aliases) == set(aliases)


def test_a_writer_killed_at_any_moment_leaves_a_whole_policy(tmp_path: Path) -> None:
    """After kill -9 the file is the old or the new one, and the next writer is not kept out."""
    program = (
        "import sys; from pathlib import Path\n"
        "from service.bundle.policy import change_policy\n"
        "print('go', flush=True)\n"
        "folder = Path(sys.argv[1])\n"
        "for n in range(1, 10**9): change_policy(folder, lambda p: p.with_alias('a', n))\n"
    )
    for delay in (0.0, 0.003, 0.01):
        writer = subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)],
            cwd=Path(__file__).parents[3],
            stdout=subprocess.PIPE,
        )
        assert writer.stdout is not None
        writer.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            writer.wait(delay)
        writer.kill()
        writer.wait()
        writer.stdout.close()

        change_policy(tmp_path, partial(moved, "b", 1))
        assert "b" in json.loads((tmp_path / POLICY).read_text())["aliases"]
