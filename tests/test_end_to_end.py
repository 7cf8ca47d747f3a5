"""The commands of the project, from a CSV file to a prediction over a socket."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import StartApp
from tests.recipes import read_recipe
from training.data.rows import load_rows
from training.data.sources import Folders
from training.data.table import encode
from training.learn import fit_model
from training.run import run

RECIPE = """
name = "height"
title = "Height"
description = "A child's height from its age."
seed = 3

[data]
file = "{csv}"

[target]
column = "height"
unit = "cm"
description = "Height to expect."

[[features]]
name = "age"
type = "number"
unit = "years"
description = "Age."
minimum = 0
maximum = 20
example = 7

[split]
test = 0.2
validation = 0.2

[preprocessing]
scaler = "standard"

[network]
family = "mlp"
hidden_layer_sizes = [8]
activation = "tanh"

[training]
optimizer = "Adam"
learning_rate = 0.01
epochs = 30
batch_size = 16
"""


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    """A recipe and its small table."""
    generator = np.random.default_rng(5)
    ages = generator.uniform(1, 15, 120)
    heights = 75 + 6 * ages + generator.normal(0, 2, 120)
    lines = [f"{age:.2f},{height:.1f}" for age, height in zip(ages, heights, strict=True)]
    table = tmp_path / "children.csv"
    table.write_text("\n".join(["age,height", *lines]))
    recipe = tmp_path / "height.toml"
    recipe.write_text(RECIPE.format(csv=table))
    return recipe


def test_a_csv_becomes_a_service_that_predicts_like_the_module(
    recipe_file: Path, models: Path, start: StartApp
) -> None:
    """The service returns the predictions of the torch module that was trained with the seed."""
    recipe = read_recipe(str(recipe_file), [])
    folders = Folders(None, recipe_file.parent)
    run(recipe, models, folders)

    loaded = load_rows(recipe, folders)
    parts = loaded.parts
    data = encode(loaded.table, recipe, parts.training)
    module = fit_model(recipe, data, parts.training, parts.validation).predictor
    assert isinstance(module, torch.nn.Module)
    ages = np.array([[0.5], [7.0], [14.25]], np.float32)
    with torch.no_grad():
        expected = module(torch.from_numpy(ages)).numpy()[:, 0]

    rows = [{"age": float(age)} for age in ages[:, 0]]
    response = start().post("/models/height/predict", json=rows).json()

    assert [one["value"] for one in response["predictions"]] == pytest.approx(expected, rel=1e-5)
    assert response["predictions"][0]["unit"] == "cm"
