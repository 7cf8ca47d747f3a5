"""`onward search` measures values of a recipe's keys on the same folds, and writes the best."""

from pathlib import Path

import numpy as np
import pytest

from training.__main__ import main
from training.errors import DataError
from training.recipe.loader import read_any
from training.recipe.table import Recipe
from training.search import Choice, Range, is_searched, list_overrides, parse_space


def _recipe(name: str) -> Recipe:
    recipe = read_any(name)
    assert isinstance(recipe, Recipe)
    return recipe


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        (
            "training.learning_rate=1e-4..1e-1",
            Range("training.learning_rate", 1e-4, 1e-1, whole=False),
        ),
        ("training.learning_rate=1..2", Range("training.learning_rate", 1, 2, whole=False)),
        ("training.epochs=5..50", Range("training.epochs", 5, 50, whole=True)),
        ("network.dropout=0..0.5", Range("network.dropout", 0, 0.5, whole=False)),
        ("network.activation=relu|gelu", Choice("network.activation", ["relu", "gelu"])),
        (
            "network.hidden_layer_sizes=[8]|[16,8]",
            Choice("network.hidden_layer_sizes", [[8], [16, 8]]),
        ),
        ("target.log=true|false", Choice("target.log", [True, False])),
    ],
)
def test_ranges_and_choices_are_read_by_the_recipe(word: str, expected: Range | Choice) -> None:
    """A key of the recipe that has a fraction is searched in fractions."""
    assert is_searched(word)
    assert parse_space([word], _recipe("admission_mlp")) == [expected]


@pytest.mark.parametrize(
    "word", ["training.epochs=5", "training.schedule=cosine", "network.hidden_layer_sizes=[8]"]
)
def test_a_value_is_not_searched(word: str) -> None:
    """It is an override of all trials."""
    assert not is_searched(word)


@pytest.mark.parametrize(
    ("low", "high", "log"), [(1e-4, 0.1, True), (5, 50, True), (5, 20, False), (0, 0.5, False)]
)
def test_positive_bounds_that_span_a_decade_are_searched_by_the_logarithm(
    low: float,
    high: float,
    log: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """As a learning rate, whose order of magnitude matters."""
    assert Range("training.epochs", low, high, whole=False).log == log


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("training.l2=1..0", "the lower bound first"),
        ("training.l2=1..x", "write key=low..high"),
        ("split.test=0.1..0.5", "only keys of network, preprocessing, training, boosting"),
    ],
)
def test_an_invalid_range_is_an_error(word: str, sentence: str) -> None:
    """Keys that change the measured rows cannot be searched."""
    with pytest.raises(DataError, match=sentence):
        parse_space([word], _recipe("admission_mlp"))


def test_overrides_are_those_that_train_reads() -> None:
    """Words are quoted, numbers and lists are TOML."""
    recipe = read_any("admission_mlp", list_overrides({"training.epochs": 7, "seed": 3}))

    assert isinstance(recipe, Recipe)
    assert recipe.training is not None
    assert recipe.training.epochs == 7
    assert list_overrides({"a": "x", "b": [1, 2]}) == ['a="x"', "b=[1, 2]"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a table of a line without noise, and a recipe with a strong penalty."""
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).uniform(0, 10, 60).round(3)
    lines = [f"{value},{3 * value:.4f}" for value in x.tolist()]
    (tmp_path / "t.csv").write_text("\n".join(["x,y", *lines]))
    (tmp_path / "t.toml").write_text(
        'name = "t"\ntitle = "A line"\n[data]\nfile = "t.csv"\n[target]\ncolumn = "y"\n'
        '[[features]]\nname = "x"\ntype = "number"\n[network]\nfamily = "linear"\n'
        '[training]\noptimizer = "LBFGS"\nlearning_rate = 1.0\nepochs = 20\nl2 = 1.0\n'
    )
    return tmp_path


def test_the_best_recipe_is_written_next_to_the_given_one(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a penalty, a line without noise is fitted exactly; the given recipe is unchanged."""
    given = (here / "t.toml").read_text()

    assert main(["search", "t.toml", "training.l2=0|0.5|2.0", "seed=2", "--trials", "8"]) == 0

    said = capsys.readouterr().out
    assert "trial  rmse, the mean of 5 folds" in said
    assert said.count("training.l2=") == 9
    assert "onward train t.toml seed=2 training.l2=0" in said
    assert (here / "t.toml").read_text() == given
    best = _recipe("t.2.toml")
    assert best.training is not None
    assert (best.training.l2, best.seed) == (0, 2)
    assert not (here / "models").exists()


def test_a_search_is_reproducible_and_ends_in_time(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same seed suggests the same values; a recipe that no trial improves is not written."""
    words = ["search", "t.toml", "training.l2=2.0..9.0", "--trials", "2"]
    suggested = []
    for _ in range(2):
        assert main(words) == 0
        said = capsys.readouterr().out
        suggested.append([line.split()[-1] for line in said.splitlines() if "l2=" in line])

    assert suggested[0] == suggested[1]
    assert len(suggested[0]) == 2
    assert "No trial is better than the recipe as it is given." in said
    assert sorted(path.name for path in here.iterdir()) == ["t.csv", "t.toml"]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["t.toml", "training.epochs=0..5"], "training.epochs: input should be greater than"),
        (["t.toml", "training.epoch=1..5"], "did you mean epochs?"),
        (["t.toml", "training.epochs=5"], "Nothing to search"),
        (["digits_conv", "training.epochs=1..5"], "is a recipe for images"),
        (["xor", "training.epochs=1..5"], "no rows are held out"),
    ],
)
def test_a_search_that_is_not_possible_is_an_error(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is fitted."""
    assert main(["search", *words]) == 2

    assert sentence in capsys.readouterr().err
