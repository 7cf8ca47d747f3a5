"""Which versions are opened and which answer, for every policy, alias and failure."""

import pytest

from service.bundle.policy import Alias, Latest, Policy, select

THERE = ["4", "3", "2", "1"]


@pytest.mark.parametrize(
    ("policy", "default", "failed", "served", "answers"),
    [
        (Policy(), "latest", [], "4", "4"),
        (Policy(), "latest", ["4", "3"], "2", "2"),
        (Policy(), "latest", THERE, "", None),
        (Policy(), "all", ["3"], "421", "4"),
        (Policy(versions="latest"), "all", [], "4", "4"),
        (Policy(versions=Latest(latest=2)), "latest", ["4"], "32", "3"),
        (Policy(versions=Latest(latest=9)), "latest", [], "4321", "4"),
        (Policy(versions=(1, 3)), "latest", [], "31", "3"),
        (Policy(versions=(1, 3)), "latest", ["3"], "1", "1"),
        (Policy(versions=(7,)), "all", [], "", None),
    ],
)
def test_a_policy_chooses_what_serves(
    policy: Policy, default: str, failed: list[str], served: str, answers: str | None
) -> None:
    """Latest goes on to older ones where newer ones fail; a list does not."""
    found = select(policy, default, THERE, failed, {})

    assert found.served == set(served)
    assert found.routes.get(None) == answers


@pytest.mark.parametrize(
    ("alias", "failed", "current", "answers"),
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
def test_an_alias_stays_where_it_was_until_its_version_serves(
    alias: Alias, failed: list[str], current: dict[str | None, str], answers: str | None
) -> None:
    """First what it has now, then what it had before; the newest still answers without a name."""
    found = select(Policy(aliases={"canary": alias}), "latest", THERE, failed, current)

    assert found.routes.get("canary") == answers
    assert found.routes[None] == "4"
    assert found.served == {"4", answers or "4"}


@pytest.mark.parametrize(
    ("version", "failed", "answers"),
    [(2, [], "2"), (3, ["3"], "2"), (2, ["2", "1"], None), (7, ["4"], "3")],
)
def test_the_stable_version_answers_where_none_is_named(
    version: int, failed: list[str], answers: str | None
) -> None:
    """In its place one below it may answer, and never one above, which it may be there to hold."""
    policy = Policy(aliases={"stable": Alias(version=version)})

    found = select(policy, "latest", THERE, failed, {})

    assert found.routes.get(None) == answers
    assert found.routes.get("stable") == answers


def test_what_failed_and_would_serve_is_examined() -> None:
    """Their reasons are told; those of versions that nobody asked about are not."""
    policy = Policy(aliases={"canary": Alias(version=1)})

    found = select(policy, "latest", THERE, ["4", "1", "2"], {})

    assert found.examined == {"4", "3", "1"}
    assert found.chosen == ["3"]
