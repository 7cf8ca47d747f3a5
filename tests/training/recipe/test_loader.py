"""Recipes are read, changed by overrides, and rejected with all problems at once."""

from pathlib import Path

import pytest

from service.bundle.manifest import ImageInput
from service.bundle.store import read_bundle
from tests.recipes import read_recipe
from training.errors import RecipeError
from training.recipe.loader import (
    parse_image_recipe,
    parse_recipe,
    read_any,
    recipe_names,
)

_VALID = """
name = "tiny"
title = "Tiny"

[data]
columns = ["x", "y"]
rows = [[1, 2], [2, 4], [3, 6]]

[target]
column = "y"

[[features]]
name = "x"
type = "number"

[split]
test = 0
folds = 3

[network]
family = "linear"

[training]
optimizer = "LBFGS"
learning_rate = 1.0
epochs = 5
"""


def _problems(text: str, folder: Path, overrides: tuple[str, ...] = ()) -> str:
    path = folder / "tiny.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError) as rejection:
        read_recipe(str(path), overrides)
    return str(rejection.value)


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_is_valid(name: str) -> None:
    """Its name is that of its file."""
    recipe = read_any(name)

    assert recipe.name == name
    assert recipe.description


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    """A misspelled key, a missing one, a wrong type and an invalid choice are in one message."""
    text = (
        _VALID.replace("learning_rate", "learning_rat")
        .replace("epochs = 5", "epochs = 0")
        .replace('family = "linear"', 'family = "forest"')
    )

    said = _problems(text, tmp_path)

    assert "training.learning_rat: there is no such key; did you mean learning_rate?" in said
    assert "training.learning_rate: this key is required" in said
    assert "training.epochs: input should be greater than or equal to 1, but it is 0" in said
    assert "network.family" in said
    assert "'forest'" in said


def test_mistakes_in_dates_are_reported_together(tmp_path: Path) -> None:
    """A format of no date, a range, an example in another format, and a tree of dates."""
    features = (
        "features=[{name='a',type='number',format='YYYY-MM'},"
        "{name='b',type='datetime',minimum=3},"
        "{name='c',type='datetime',format='MM/DD/YYYY',example='31.12.2013'},"
        "{name='d',type='datetime',format='MM/DD/YYYY',example='12/31/2013'}]"
    )

    said = _problems(_VALID, tmp_path, (features, "network.family=decision-tree"))

    assert "features: a has a format, but is no datetime; b has a minimum or maximum" in said
    assert "; the example of c is not a date MM/DD/YYYY or YYYY-MM-DD" in said
    assert "example of d" not in said
    assert "a decision-tree only supports numbers and booleans without missing values" in said


def test_mistakes_in_text_are_reported(tmp_path: Path) -> None:
    """A text has no range and no categories, and is no number for a tree."""
    features = (
        "features=[{name='a',type='text',maximum=3},{name='b',type='text',categories=['x']},"
        "{name='c',type='text',optional=true,example='any'}]"
    )

    said = _problems(_VALID, tmp_path, (features, "network.family=decision-tree"))

    assert "features: a, b has text, and only other types have a minimum" in said
    assert "features: a decision-tree only supports numbers and booleans" in said


def test_an_unknown_format_of_dates_is_reported_with_the_known_ones(tmp_path: Path) -> None:
    """The set of formats is closed."""
    said = _problems(_VALID, tmp_path, ("features=[{name='x',type='datetime',format='%Y'}]",))

    assert "features.0.format" in said
    assert "YYYY-MM-DD" in said


def test_an_unknown_feature_key_gets_a_suggestion(tmp_path: Path) -> None:
    """Suggestions also work in lists of tables."""
    said = _problems(_VALID.replace('type = "number"', 'typ = "number"'), tmp_path)

    assert "features.0.typ: there is no such key; did you mean type?" in said


def test_contradictions_between_keys_are_reported_together(tmp_path: Path) -> None:
    """Keys that are each valid but incompatible are all reported."""
    text = _VALID.replace("folds = 3", "folds = 0").replace('family = "linear"', 'family = "mlp"')

    said = _problems(text, tmp_path)

    assert "split: set test or folds" in said
    assert "network.hidden_layer_sizes: mlp needs the sizes of its layers" in said


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ('group = "x"\ntime = "x"', "split: group and time exclude each other; remove one of them"),
        ('group = "y"', "split.group: y is the target; rows cannot be split by it"),
        ('time = "y"', "split.time: y is the target; rows cannot be split by it"),
        (
            'time = "x"\ngroup_until = "_"',
            "split.group_until: it shortens the cells of split.group",
        ),
    ],
)
def test_contradictions_of_the_split_are_reported(keys: str, problem: str, tmp_path: Path) -> None:
    """Groups and time exclude each other, and neither is the target."""
    assert problem in _problems(_VALID.replace("folds = 3", f"folds = 3\n{keys}"), tmp_path)


def test_a_contradiction_is_reported_together_with_an_invalid_key(tmp_path: Path) -> None:
    """A contradiction that depends on the invalid key is reported once that key is valid."""
    text = _VALID.replace("folds = 3", "folds = 0").replace('family = "linear"', 'family = "mlp"')

    said = _problems(text.replace("epochs = 5", "epochs = 0"), tmp_path)
    without_family = _problems(text.replace('"mlp"', '"forest"'), tmp_path)

    for message in (
        "training.epochs: input should be greater than or equal to 1, but it is 0",
        "split: set test or folds",
        "network.hidden_layer_sizes: mlp needs the sizes of its layers",
    ):
        assert message in said
    assert "split: set test or folds" in without_family
    assert "hidden_layer_sizes" not in without_family


def test_a_misspelled_key_causes_no_other_problem(tmp_path: Path) -> None:
    """It may be any key that is not set, so rules on those keys wait for its correction."""
    said = _problems(_VALID.replace("folds = 3", "fold = 3"), tmp_path)
    without_section = _problems(_VALID.replace("[split]", "[splits]"), tmp_path)

    assert said.count("\n") == without_section.count("\n") == 1


def test_an_invalid_feature_hides_no_contradiction_of_another_key(tmp_path: Path) -> None:
    """Two features with the same name are found although a key of one of them is invalid."""
    features = "features=[{name='x',type='odd'}, {name='x',type='number'}]"

    said = _problems(_VALID, tmp_path, (features,))

    assert "features.0.type" in said
    assert "features: two features have the same name" in said


def test_invalid_toml_is_rejected_with_its_line(tmp_path: Path) -> None:
    """The message has the position of the parser."""
    assert "line 2" in _problems("name = 'x'\ntitle = \n", tmp_path)


def test_an_unknown_recipe_gets_a_suggestion() -> None:
    """The message also lists the recipes."""
    with pytest.raises(RecipeError, match="did you mean admission"):
        read_recipe("admision")


def test_overrides_reach_nested_keys(tmp_path: Path) -> None:
    """`key=value` sets numbers, lists and words as TOML does."""
    path = tmp_path / "tiny.toml"
    path.write_text(_VALID, encoding="utf-8")

    recipe = read_recipe(
        str(path),
        [
            "seed=7",
            "training.epochs=9",
            "preprocessing.scaler=robust",
            "network.hidden_layer_sizes=[]",
        ],
    )

    assert recipe.training is not None
    assert (recipe.seed, recipe.training.epochs) == (7, 9)
    assert recipe.preprocessing.scaler == "robust"
    assert recipe.network.hidden_layer_sizes == []


@pytest.mark.parametrize("override", ["seed", "=3", "name.first=1", "training.epoch=3"])
def test_an_invalid_override_is_rejected(override: str) -> None:
    """Without a value, for something that is not a section, or with an unknown key."""
    with pytest.raises(RecipeError):
        read_recipe("ice_cream", [override])


def test_a_manifest_contains_the_complete_recipe() -> None:
    """It can be read from the manifest unchanged."""
    recipe = read_recipe("admission")

    again = parse_recipe(recipe.model_dump(mode="json", exclude_defaults=True), "the manifest")

    assert again == recipe


_MODELS = Path(__file__).parents[3] / "models"


@pytest.mark.parametrize("path", sorted(_MODELS.glob("*/*/manifest.json")), ids=str)
def test_a_shipped_manifest_contains_a_valid_recipe(path: Path) -> None:
    """The model can be trained again from it."""
    manifest = read_bundle(path.parent).manifest
    assert manifest.provenance is not None
    parse = parse_image_recipe if isinstance(manifest.input, ImageInput) else parse_recipe

    assert parse(manifest.provenance.recipe, "the manifest").name == manifest.name
