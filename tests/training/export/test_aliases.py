"""Aliases by command: what each does and says, and that nothing is promised that cannot serve."""

import json
from pathlib import Path

import pytest

from service.bundle.policy import POLICY
from service.bundle.store import MODEL
from tests.models import place_bare, publish_price, sum_and_difference
from training.__main__ import main


def policy(models: Path) -> object:
    """What the file says of versions and aliases."""
    told = json.loads((models / "price" / POLICY).read_text())
    return {key: told[key] for key in ("versions", "aliases") if key in told}


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a command says that ends with 2."""
    assert main(words) == 2
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
        assert main(words) == 0

    assert capsys.readouterr().out.splitlines() == [
        "price: alias stable is version 1 now.",
        "price: alias stable is version 2 now; it was version 1.",
        "price: alias stable is version 2 already.",
        "price: alias stable is version 1 again; it was version 2.",
    ]
    assert policy(models) == {"aliases": {"stable": {"version": 1, "before": []}}}
    said = refused(capsys, "rollback", "price", *where)
    assert said == "price: alias 'stable' is version 1 and has nothing to go back to\n"


def test_an_alias_beside_no_stable_one_says_what_the_others_get(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A canary alone keeps nobody on the old version, and the command says so."""
    publish_price(models)
    where = ("--models", str(models))

    assert main(["publish", "price", "1", "--alias", "canary", *where]) == 0
    assert "Requests that name no version get the newest" in capsys.readouterr().out

    assert main(["withdraw", "price", "--alias", "canary", *where]) == 0
    assert "alias canary is gone; it was version 1." in capsys.readouterr().out
    assert policy(models) == {"aliases": {}}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("publish", "prise", "1"), "There is no model 'prise'"),
        (("publish", "price", "7"), "Model 'price' has no version '7'; available: 1."),
        (("publish", "price", "01"), "no version '01'"),
        (("publish", "price", "9" * 400), "has no version '999"),
        (("publish", "price", "1", "--alias", "2"), "'2' can be no alias; it begins with"),
        (("publish", "price", "1", "--alias", "a/b"), "can be no alias"),
        (("rollback", "price"), "price: there is no alias 'stable'; there: none"),
        (("withdraw", "price", "--alias", "canary"), "has no alias 'canary'; there: none."),
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
    assert main(["publish", "bare", "1", *where]) == 0


def test_a_policy_that_cannot_be_followed_is_not_overwritten(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What someone wrote by hand is theirs to mend."""
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

    assert main(["publish", "price", "1", *where]) == 0
    assert main(["versions", "price", choice, *where]) == 0

    assert "price: versions that serve: " in capsys.readouterr().out
    assert policy(models) == {
        "versions": written,
        "aliases": {"stable": {"version": 1, "before": []}},
    }
