"""The table of model families is complete."""

from typing import Literal

import pytest

from tests.recipes import read_recipe
from training.errors import RecipeError
from training.images.networks import BUILDERS as IMAGE_BUILDERS
from training.model.estimators import FITTERS
from training.model.networks import BUILDERS
from training.recipe.families import IMAGE_FAMILIES, TABLE_FAMILIES
from training.recipe.loader import read_any


@pytest.mark.parametrize(
    ("fitter", "builders"), [("PyTorch", set(BUILDERS)), ("scikit-learn", set(FITTERS))]
)
def test_every_table_family_has_a_builder(
    fitter: Literal["PyTorch", "scikit-learn"], builders: set[str]
) -> None:
    """Its library can fit it, and no other library can."""
    families = {name for name, family in TABLE_FAMILIES.items() if family.fitter == fitter}

    assert families == builders


def test_every_image_family_has_a_builder() -> None:
    """A network can be built for every family."""
    assert set(IMAGE_FAMILIES) == set(IMAGE_BUILDERS)


@pytest.mark.parametrize(
    ("recipe", "known"), [("ice_cream", TABLE_FAMILIES), ("digits_cnn", IMAGE_FAMILIES)]
)
def test_an_unknown_family_is_rejected_with_all_known_ones(
    recipe: str, known: dict[str, object]
) -> None:
    """The message lists the families of the table."""
    with pytest.raises(RecipeError) as problem:
        read_any(recipe, ["network.family=forest"])

    assert f"network.family: choose from {', '.join(known)}" in str(problem.value)


@pytest.mark.parametrize(
    ("recipe", "family", "problem"),
    [
        ("ice_cream", "logistic", "logistic predicts classes; give target.labels"),
        ("iris", "linear", "linear predicts a number; for labels use logistic or mlp"),
        ("ice_cream", "mlp", "mlp needs the sizes of its layers"),
        ("blobs", "mlp", "training: this section is required"),
        (
            "iris",
            "decision-tree",
            "training: scikit-learn fits the family decision-tree; remove this section",
        ),
    ],
)
def test_a_family_that_does_not_fit_the_recipe_is_rejected(
    recipe: str, family: str, problem: str
) -> None:
    """Tasks, layers and training section must be those of the family."""
    with pytest.raises(RecipeError, match=problem):
        read_recipe(recipe, [f"network.family={family}"])
