"""Aliases by command: what each does and says, and that nothing is promised that cannot serve."""

import json
from pathlib import Path

import pytest

from service.__main__ import onward
from service.bundle.policy import POLICY
from service.bundle.store import MODEL
from tests.models import place_bare, publish_price, sum_and_difference


def policy(models: Path) -> object:
    """What the file says of versions and aliases."""
    told = json.loads((models / "price" / POLICY).read_text())
    return {key: told[key] for key in ("versions", "aliases") if key in told}


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a command says that ends with 2."""
    assert onward(words) == 2
    return capsys.readouterr().err


def test_an_alias_moves_and_goes_back(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command says where the alias is and where it was."""
    publish_price(models)
    publish_price(models)
    where = ("--models", str(models))

    for words in (
        ("publish", "price", "1", *where),
        ("publish", "price", "2", "--alias", "stable", *where),
        ("publish", "price", "2", *where),
        ("rollback", "price", *where),
    ):
        assert onward(words) == 0

    assert capsys.readouterr().out.splitlines() == [
        "price: alias stable now points to version 1.",
        "price: alias stable now points to version 2 (before: version 1).",
        "price: alias stable already points to version 2.",
        "price: alias stable points to version 1 again (before: version 2).",
    ]
    assert policy(models) == {"aliases": {"stable": {"version": 1, "before": []}}}
    said = refused(capsys, "rollback", "price", *where)
    assert said == (
        "price: alias 'stable' points to version 1, and there is no earlier version to return to\n"
    )


def test_an_alias_beside_no_stable_one_says_what_the_others_get(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A canary alone keeps nobody on the old version, and the command says so."""
    publish_price(models)
    where = ("--models", str(models))

    assert onward(["publish", "price", "1", "--alias", "canary", *where]) == 0
    assert "Requests that name no version go to the newest" in capsys.readouterr().out

    assert onward(["withdraw", "price", "--alias", "canary", *where]) == 0
    assert "alias canary is removed; it pointed to version 1." in capsys.readouterr().out
    assert policy(models) == {"aliases": {}}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("publish", "prise", "1"), "There is no model 'prise'"),
        (("publish", "price", "7"), "Model 'price' has no version '7'; available: 1."),
        (("publish", "price", "01"), "no version '01'"),
        (("publish", "price", "9" * 400), "has no version '999"),
        (("publish", "price", "1", "--alias", "2"), "'2' cannot be an alias; it must begin with"),
        (("publish", "price", "1", "--alias", "a/b"), "cannot be an alias"),
        (("rollback", "price"), "price: alias 'stable' points to version 1, and there is no"),
        (("rollback", "price", "--alias", "canary"), "there is no alias 'canary'; existing: none"),
        (("withdraw", "price", "--alias", "canary"), "has no alias 'canary'; existing: none."),
        (("versions", "price", "newest"), "'newest' chooses no versions; write latest"),
        (("versions", "price", "1,7"), "no version '7'"),
    ],
)
def test_what_cannot_be_done_is_a_sentence(
    models: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], sentence: str
) -> None:
    """Exit code 2, and nothing is written."""
    publish_price(models)

    assert sentence in refused(capsys, *words, "--models", str(models))
    assert not (models / "price" / POLICY).exists()


def test_rollback_without_an_alias_returns_to_the_version_before(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The newest serves until then; each further rollback goes one version lower."""
    for _ in range(3):
        publish_price(models)
    where = ("--models", str(models))

    for version in (2, 1):
        assert onward(["rollback", "price", *where]) == 0
        assert policy(models) == {"aliases": {"stable": {"version": version, "before": []}}}

    assert capsys.readouterr().out.splitlines() == [
        "price: version 2 serves again instead of version 3; alias stable points to it.",
        "price: alias stable points to version 1 again (before: version 2).",
    ]


def test_rollback_leaves_the_version_that_really_serves(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A newest version that is broken never served, so it is not what is left."""
    for _ in range(3):
        folder = publish_price(models)
    (folder / MODEL).write_bytes(b"broken")

    assert onward(["rollback", "price", "--models", str(models)]) == 0

    assert "version 1 serves again instead of version 2" in capsys.readouterr().out


def test_versions_are_listed(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Newest first, with their aliases and the one that serves."""
    publish_price(models)
    publish_price(models)
    where = ("--models", str(models))
    assert onward(["publish", "price", "1", *where]) == 0
    capsys.readouterr()

    assert onward(["versions", "price", *where]) == 0

    assert capsys.readouterr().out.splitlines() == [
        "VERSION  ALIASES",
        "2        -",
        "1        stable  (serves requests that name no version)",
    ]


def test_a_version_that_cannot_serve_gets_no_alias(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bundle is read with every check before an alias names it; a bare model has a graph."""
    (publish_price(models) / MODEL).write_bytes(b"spoilt")
    place_bare(models, "bare", sum_and_difference())
    (models / "empty" / "1").mkdir(parents=True)
    where = ("--models", str(models))

    assert "price/1 cannot serve: model.onnx has 6" in refused(
        capsys, "publish", "price", "1", *where
    )
    assert "holds no model.onnx" in refused(capsys, "publish", "empty", "1", *where)
    assert onward(["publish", "bare", "1", *where]) == 0


def test_a_policy_that_cannot_be_followed_is_not_overwritten(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What someone wrote by hand is theirs to fix."""
    publish_price(models)
    (models / "price" / POLICY).write_text("{")

    said = refused(capsys, "publish", "price", "1", "--models", str(models))

    assert "price: policy.json is not valid" in said
    assert (models / "price" / POLICY).read_text() == "{"


@pytest.mark.parametrize(
    ("choice", "written"),
    [("latest", "latest"), ("latest:2", {"latest": 2}), ("all", "all"), ("2,1,2", [2, 1])],
)
def test_the_versions_that_serve_are_chosen(
    models: Path, capsys: pytest.CaptureFixture[str], choice: str, written: object
) -> None:
    """Aliases that are there stay."""
    publish_price(models)
    publish_price(models)
    where = ("--models", str(models))

    assert onward(["publish", "price", "1", *where]) == 0
    assert onward(["versions", "price", choice, *where]) == 0

    assert "price: versions that serve: " in capsys.readouterr().out
    assert policy(models) == {
        "versions": written,
        "aliases": {"stable": {"version": 1, "before": []}},
    }
