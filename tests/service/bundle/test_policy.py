"""Version policies: which versions serve, and ``policy.json`` with its concurrent changes."""

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
from service.bundle.policy import (
    POLICY,
    Alias,
    Latest,
    Policy,
    change_policy,
    read_policy,
    select,
)

AVAILABLE = ["4", "3", "2", "1"]
IRREGULAR_FILES: list[Callable[[Path], None]] = [
    Path.mkdir,
    os.mkfifo,
    lambda it: it.symlink_to(it),
]


def with_alias(alias: str, version: int, policy: Policy) -> Policy:
    return policy.with_alias(alias, version)


@pytest.mark.parametrize(
    ("text", "expected"),
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
def test_a_policy_written_by_hand_is_read(tmp_path: Path, text: str, expected: Policy) -> None:
    """An alias may be written as a number."""
    (tmp_path / POLICY).write_text(text)

    assert read_policy(tmp_path) == expected


def test_without_a_file_the_policy_is_empty(tmp_path: Path) -> None:
    """The setting of the service applies then."""
    assert read_policy(tmp_path) == Policy()


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
def test_an_invalid_policy_is_rejected(tmp_path: Path, text: str, reason: str) -> None:
    """The message has the name of the file and the problem."""
    (tmp_path / POLICY).write_text(text)

    with pytest.raises(BundleError, match=r"policy\.json is not valid") as error:
        read_policy(tmp_path)
    assert reason in str(error.value)


def test_a_policy_that_is_not_a_regular_file_is_rejected(tmp_path: Path) -> None:
    """A folder, a pipe and a circular link are not read, and nothing waits for them."""
    for number, make in enumerate(IRREGULAR_FILES):
        model_folder = tmp_path / str(number)
        model_folder.mkdir()
        make(model_folder / POLICY)

        with pytest.raises(BundleError, match=r"policy\.json (is not a regular|cannot be read)"):
            read_policy(model_folder)


def test_an_alias_rolls_back_to_its_previous_versions(tmp_path: Path) -> None:
    """After two changes it can be rolled back twice."""
    for version in (1, 2, 2, 3):
        change_policy(tmp_path, partial(with_alias, "stable", version))
    available = {1, 2, 3}

    seen = []
    for _ in range(2):
        _, policy = change_policy(tmp_path, lambda known: known.roll_back("stable", available))
        seen.append(policy.aliases["stable"].version)

    assert seen == [2, 1]
    with pytest.raises(BundleError, match="'stable' points to version 1, and there is no earlier"):
        policy.roll_back("stable", available)
    with pytest.raises(BundleError, match="no alias 'canary'; existing: stable"):
        policy.roll_back("canary", available)


def test_rollback_skips_removed_versions() -> None:
    """If all previous versions were removed, the message lists them."""
    policy = Policy().with_alias("stable", 1).with_alias("stable", 2).with_alias("stable", 3)

    assert policy.roll_back("stable", {1, 3}).aliases["stable"] == Alias(version=1)
    with pytest.raises(BundleError, match="removed since: 2, 1"):
        policy.roll_back("stable", {3})


def test_concurrent_changes_are_all_applied(tmp_path: Path) -> None:
    """Forty threads each set an alias."""
    aliases = [f"alias_{number}" for number in range(40)]

    with ThreadPoolExecutor(8) as pool:
        list(
            pool.map(lambda alias: change_policy(tmp_path, partial(with_alias, alias, 1)), aliases)
        )

    policy = read_policy(tmp_path)
    assert set(policy.aliases) == set(aliases)


def test_a_killed_writer_leaves_a_complete_policy(tmp_path: Path) -> None:
    """After kill -9 the file is the old or the new one, and the lock is released."""
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

        change_policy(tmp_path, partial(with_alias, "b", 1))
        assert "b" in json.loads((tmp_path / POLICY).read_text())["aliases"]


@pytest.mark.parametrize(
    ("policy", "default", "failed", "served", "serving"),
    [
        (Policy(), "latest", [], "4", "4"),
        (Policy(), "latest", ["4", "3"], "2", "2"),
        (Policy(), "latest", AVAILABLE, "", None),
        (Policy(), "all", ["3"], "421", "4"),
        (Policy(versions="latest"), "all", [], "4", "4"),
        (Policy(versions=Latest(latest=2)), "latest", ["4"], "32", "3"),
        (Policy(versions=Latest(latest=9)), "latest", [], "4321", "4"),
        (Policy(versions=(1, 3)), "latest", [], "31", "3"),
        (Policy(versions=(1, 3)), "latest", ["3"], "1", "1"),
        (Policy(versions=(7,)), "all", [], "", None),
    ],
)
def test_a_policy_selects_the_versions_that_serve(
    policy: Policy, default: str, failed: list[str], served: str, serving: str | None
) -> None:
    """`latest` falls back to older versions if newer ones fail; a list does not."""
    found = select(policy, default, AVAILABLE, failed, {})

    assert found.served == set(served)
    assert found.routes.get(None) == serving


@pytest.mark.parametrize(
    ("alias", "failed", "current", "serving"),
    [
        (Alias(version=2), [], {}, "2"),
        (Alias(version=3), ["3"], {"canary": "1"}, "1"),
        (Alias(version=3), ["3"], {}, None),
        (Alias(version=3, before=(2, 1)), ["3", "2"], {}, "1"),
        (Alias(version=3, before=(2, 1)), ["3"], {"canary": "1"}, "1"),
        (Alias(version=7), [], {}, None),
        (Alias(version=7, before=(6, 2)), [], {}, "2"),
    ],
)
def test_an_alias_keeps_its_version_until_the_new_one_serves(
    alias: Alias, failed: list[str], current: dict[str | None, str], serving: str | None
) -> None:
    """It falls back to its current version, then to previous ones; `latest` is not affected."""
    found = select(Policy(aliases={"canary": alias}), "latest", AVAILABLE, failed, current)

    assert found.routes.get("canary") == serving
    assert found.routes[None] == "4"
    assert found.served == {"4", serving or "4"}


@pytest.mark.parametrize(
    ("version", "failed", "serving"),
    [(2, [], "2"), (3, ["3"], "2"), (2, ["2", "1"], None), (7, ["4"], "3")],
)
def test_the_stable_version_serves_requests_that_name_no_version(
    version: int, failed: list[str], serving: str | None
) -> None:
    """It falls back to lower versions, and never to higher ones."""
    policy = Policy(aliases={"stable": Alias(version=version)})

    found = select(policy, "latest", AVAILABLE, failed, {})

    assert found.routes.get(None) == serving
    assert found.routes.get("stable") == serving


def test_failed_versions_that_would_serve_are_examined() -> None:
    """Failed versions that the policy would not select are ignored."""
    policy = Policy(aliases={"canary": Alias(version=1)})

    found = select(policy, "latest", AVAILABLE, ["4", "1", "2"], {})

    assert found.examined == {"4", "3", "1"}
    assert found.chosen == ["3"]
