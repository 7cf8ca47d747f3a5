"""``onward publish``, ``rollback``, ``withdraw`` and ``versions``: their effects and messages."""

import json
from pathlib import Path

import pytest

from service.__main__ import onward
from service.bundle.policy import POLICY
from service.bundle.store import MODEL
from tests.models import publish_bare, publish_price, sum_and_difference


def policy(models: Path) -> object:
    """Return the versions and the aliases in the policy."""
    document = json.loads((models / "price" / POLICY).read_text())
    return {key: document[key] for key in ("versions", "aliases") if key in document}


def failing(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Run a command that fails, and return its message."""
    assert onward(words) == 2
    return capsys.readouterr().err


def test_an_alias_moves_and_goes_back(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each message has the current and the previous version."""
    publish_price(models)
    publish_price(models)
    options = ("--models", str(models))

    for words in (
        ("publish", "price", "1", *options),
        ("publish", "price", "2", "--alias", "stable", *options),
        ("publish", "price", "2", *options),
        ("rollback", "price", *options),
    ):
        assert onward(words) == 0

    assert capsys.readouterr().out.splitlines() == [
        "price: alias stable now points to version 1.",
        "price: alias stable now points to version 2 (before: version 1).",
        "price: alias stable already points to version 2.",
        "price: alias stable points to version 1 again (before: version 2).",
    ]
    assert policy(models) == {"aliases": {"stable": {"version": 1, "before": []}}}
    message = failing(capsys, "rollback", "price", *options)
    assert message == (
        "price: alias 'stable' points to version 1, and there is no earlier version to return to\n"
    )


def test_without_a_stable_alias_the_message_says_which_version_serves(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A canary alone does not keep other clients on the previous version."""
    publish_price(models)
    options = ("--models", str(models))

    assert onward(["publish", "price", "1", "--alias", "canary", *options]) == 0
    assert "Requests that name no version go to the newest" in capsys.readouterr().out

    assert onward(["withdraw", "price", "--alias", "canary", *options]) == 0
    assert "alias canary is removed; it pointed to version 1." in capsys.readouterr().out
    assert policy(models) == {"aliases": {}}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("publish", "prise", "1"), "; did you mean 'price'?"),
        (("publish", "price", "7"), "Model 'price' has no version '7'; available: 1."),
        (("publish", "price", "01"), "no version '01'"),
        (("publish", "price", "9" * 400), "has no version '999"),
        (("publish", "price", "1", "--alias", "2"), "'2' cannot be an alias; it must begin with"),
        (("publish", "price", "1", "--alias", "a/b"), "cannot be an alias"),
        (("rollback", "price"), "price: version 1 serves, and there is no earlier version"),
        (("rollback", "price", "--alias", "canary"), "there is no alias 'canary'; existing: none"),
        (("withdraw", "price", "--alias", "canary"), "there is no alias 'canary'; existing: none."),
        (("versions", "price", "newest"), "'newest' chooses no versions; write latest"),
        (("versions", "price", "1,7"), "no version '7'"),
    ],
)
def test_an_invalid_command_is_reported(
    models: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], sentence: str
) -> None:
    """The exit status is 2, and nothing is written."""
    publish_price(models)

    assert sentence in failing(capsys, *words, "--models", str(models))
    assert not (models / "price" / POLICY).exists()


def test_a_version_number_that_cannot_be_served_is_reported(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Clients count versions in 64 bits; the message gives the highest number."""
    publish_price(models)
    number = str(2**63)
    (models / "price" / number).mkdir()

    sentence = failing(capsys, "publish", "price", number, "--models", str(models))

    assert f"Version {number} is above {2**63 - 1}, the highest that is served" in sentence


def test_rollback_without_an_alias_returns_to_the_previous_version(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Initially the newest version serves; each rollback selects the next lower version."""
    for _ in range(3):
        publish_price(models)
    options = ("--models", str(models))

    for version in (2, 1):
        assert onward(["rollback", "price", *options]) == 0
        assert policy(models) == {"aliases": {"stable": {"version": version, "before": []}}}

    assert capsys.readouterr().out.splitlines() == [
        "price: version 2 serves again instead of version 3; alias stable points to it.",
        "price: alias stable points to version 1 again (before: version 2).",
    ]


def test_rollback_starts_from_the_version_that_serves(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A newest version that is broken has never served, and is skipped."""
    for _ in range(3):
        folder = publish_price(models)
    (folder / MODEL).write_bytes(b"broken")

    assert onward(["rollback", "price", "--models", str(models)]) == 0

    assert "version 1 serves again instead of version 2" in capsys.readouterr().out


def test_versions_are_listed(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The list is sorted from the newest, and marks the version that serves."""
    publish_price(models)
    publish_price(models)
    options = ("--models", str(models))
    assert onward(["publish", "price", "1", *options]) == 0
    capsys.readouterr()

    assert onward(["versions", "price", *options]) == 0

    assert capsys.readouterr().out.splitlines() == [
        "VERSION  ALIASES",
        "2        -",
        "1        stable  (serves requests that name no version)",
    ]


def test_a_version_that_cannot_serve_gets_no_alias(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bundle is verified before an alias points to it; a bare model must have a graph."""
    (publish_price(models) / MODEL).write_bytes(b"broken")
    publish_bare(models, "bare", sum_and_difference())
    (models / "empty" / "1").mkdir(parents=True)
    options = ("--models", str(models))

    assert "price/1 cannot serve: model.onnx has 6" in failing(
        capsys, "publish", "price", "1", *options
    )
    assert "holds no model.onnx" in failing(capsys, "publish", "empty", "1", *options)
    assert onward(["publish", "bare", "1", *options]) == 0


def test_an_invalid_policy_is_not_overwritten(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may have been written by hand, and its author has to fix it."""
    publish_price(models)
    (models / "price" / POLICY).write_text("{")

    message = failing(capsys, "publish", "price", "1", "--models", str(models))

    assert "price: policy.json is not valid" in message
    assert (models / "price" / POLICY).read_text() == "{"


@pytest.mark.parametrize(
    ("choice", "written"),
    [("latest", "latest"), ("latest:2", {"latest": 2}), ("all", "all"), ("2,1,2", [2, 1])],
)
def test_the_versions_that_serve_are_chosen(
    models: Path, capsys: pytest.CaptureFixture[str], choice: str, written: object
) -> None:
    """Choosing versions leaves the aliases of the policy unchanged."""
    publish_price(models)
    publish_price(models)
    options = ("--models", str(models))

    assert onward(["publish", "price", "1", *options]) == 0
    assert onward(["versions", "price", choice, *options]) == 0

    assert "price: versions that serve: " in capsys.readouterr().out
    assert policy(models) == {
        "versions": written,
        "aliases": {"stable": {"version": 1, "before": []}},
    }
