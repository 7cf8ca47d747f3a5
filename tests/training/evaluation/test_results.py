"""The results page compares every published model with its targets."""

from pathlib import Path

import pytest

from tests.recipes import read_recipe
from tests.training.shipped import trained
from training.data.sources import Folders
from training.evaluation.published import open_model
from training.evaluation.results import CHECKS, IMAGE_TARGETS, load_evaluated_model, render_results
from training.recipe.loader import recipe_names
from training.run import run


def test_the_page_has_every_published_model(folders: Folders, tmp_path: Path) -> None:
    """Each model is listed with its targets, measurements and training run."""
    for name in ("line", "xor"):
        run(read_recipe(name), tmp_path, folders)

    page = render_results(tmp_path, folders)

    assert "| `line` | 13 → 27 | 27.000 | yes |" in page
    assert "| `xor` | every row of the table predicted correctly | 4 of 4 | yes |" in page
    assert "| `line` | 9 | 9 folds | 1 |" in page
    assert "**no**" not in page


@pytest.mark.parametrize("name", ["house_price", "iris_perceptron", "california_linear"])
def test_quick_recipes_reach_their_targets(
    name: str, folders: Folders, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Trained again, each reaches every target of the page."""
    if name == "house_price":
        outcome = run(read_recipe(name, ["split.folds=2"]), tmp_path, folders)
    else:
        outcome = trained(name, folders, tmp_path_factory.getbasetemp())
    models = outcome.folder.parents[1]

    figures = list(CHECKS[name](load_evaluated_model(open_model(models, name), models, folders)))

    assert figures
    assert [figure for figure in figures if not figure.is_reached] == []


def test_a_model_that_misses_its_target_is_shown(folders: Folders, tmp_path: Path) -> None:
    """A fit that was stopped too early misses it."""
    hurried = ["training.optimizer=SGD", "training.epochs=1", "training.learning_rate=0.01"]
    run(read_recipe("line", hurried), tmp_path, folders)

    assert "**no**" in render_results(tmp_path, folders)


def test_every_shipped_recipe_has_a_target() -> None:
    """A recipe without one is not shipped."""
    assert set(recipe_names()) <= set(CHECKS) | set(IMAGE_TARGETS)
