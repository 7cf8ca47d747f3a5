"""Random tables: what training read of a file is what the service predicts from.

``ONWARD_RANDOM_TABLES=1000`` tries that many instead of a few.
"""

import os
from pathlib import Path

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from tests.conftest import Serve
from tests.every_protocol import PROTOCOLS, by_command, read_trained
from tests.random_tables import RandomTable, random_tables
from tests.same_reading import draft_table, require_same_reading
from training.data.sources import Folders
from training.errors import DataError
from training.recipe.table import Recipe
from training.run import run

_MANY = int(os.environ.get("ONWARD_RANDOM_TABLES", "0"))
_SHARED_FOLDER = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


def written(folder: Path, table: RandomTable) -> tuple[Path, Recipe | None]:
    """The file, and its drafted recipe, if it is a table that a model can be trained on."""
    path = folder / "table.csv"
    path.write_bytes(table.content)
    try:
        return path, draft_table(path, table.target)
    except DataError:
        return path, None


@settings(max_examples=_MANY or 15, deadline=None, suppress_health_check=_SHARED_FOLDER)
@given(random_tables())
def test_every_row_of_training_is_read_by_the_service(tmp_path: Path, table: RandomTable) -> None:
    """The same numbers as CSV and as rows of JSON, however the table is written."""
    path, recipe = written(tmp_path, table)

    if recipe is not None:
        require_same_reading(path, recipe)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty models folder."""
    return tmp_path_factory.mktemp("random")


@pytest.fixture(scope="module")
def client(serve: Serve, models: Path) -> httpx.Client:
    """A service that loads the models of this folder on request."""
    return serve(lambda _: None, models=models, model_control="explicit")


def quick(recipe: Recipe, name: str) -> Recipe:
    """A drafted recipe with the fewest epochs, without further folds."""
    training, split = recipe.training, recipe.split
    folds = {"folds": 0} if split.test else {}
    return recipe.model_copy(
        update={
            "name": name,
            "split": split.model_copy(update={"interval_folds": 0} | folds),
            "training": None if training is None else training.model_copy(update={"epochs": 2}),
        }
    )


@settings(max_examples=_MANY or 3, deadline=None, suppress_health_check=_SHARED_FOLDER)
@given(random_tables())
def test_every_row_of_training_has_the_prediction_of_the_graph(
    client: httpx.Client, models: Path, table: RandomTable
) -> None:
    """By the command, and as CSV, JSON, newline-delimited JSON, v1 and v2."""
    path, recipe = written(models.parent, table)
    if recipe is None:
        return
    name = f"table{len(list(models.iterdir()))}"
    run(quick(recipe, name), models, Folders(None, models))
    assert client.post(f"/v2/repository/models/{name}/load").status_code == 200

    trained = read_trained(models, name, path)
    found = {protocol.__name__: protocol(trained, client) for protocol in PROTOCOLS}
    found["by_command"] = by_command(trained, models)

    for protocol, predictions in found.items():
        np.testing.assert_allclose(
            predictions, trained.predictions, rtol=1e-5, atol=1e-6, err_msg=protocol
        )
