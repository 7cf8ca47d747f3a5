"""The versions that are loaded and that serve, by policy, aliases and failures."""

import pytest

from service.bundle.policy import Alias, Latest, Policy, select

AVAILABLE = ["4", "3", "2", "1"]


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
    """Other failed versions are not."""
    policy = Policy(aliases={"canary": Alias(version=1)})

    found = select(policy, "latest", AVAILABLE, ["4", "1", "2"], {})

    assert found.examined == {"4", "3", "1"}
    assert found.chosen == ["3"]
