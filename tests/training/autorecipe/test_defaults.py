"""The defaults of drafted recipes, compared with a different library on the same rows."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.datasets import make_blobs
from sklearn.naive_bayes import GaussianNB

from training.autorecipe.draft import draft
from training.autorecipe.sections import choose_training
from training.data.csv import UNKNOWN, read_csv
from training.data.sources import Folders
from training.recipe.loader import parse_recipe
from training.run import run


def test_a_drafted_mlp_learns_many_labels_from_few_rows(tmp_path: Path, folders: Folders) -> None:
    """Its accuracy on twenty round clusters of fifty rows is close to the optimum."""
    x, y = make_blobs(1000, n_features=2, centers=20, center_box=(-20, 20), random_state=1)
    frame = pl.DataFrame(np.round(x, 3), schema=["a", "b"]).with_columns(
        y=pl.Series([f"c{label}" for label in y])
    )
    path = tmp_path / "blobs.csv"
    frame.write_csv(path)
    recipe = draft(read_csv(path, UNKNOWN), str(path), "y", "blobs", None).recipe
    document = recipe.model_dump()
    document["network"]["members"] = 1

    evaluation = run(parse_recipe(document, "blobs"), tmp_path, folders).manifest.evaluation

    assert recipe.network.family == "mlp"
    assert evaluation is not None
    known = GaussianNB().fit(x, y).score(x, y)
    assert evaluation.metrics["accuracy"] > known - 0.05


@pytest.mark.parametrize(
    ("rows", "columns", "penalty"), [(10_000, 20, 1e-4), (600, 199, 0.002), (100, 400, 0.02)]
)
def test_the_penalty_grows_with_the_columns_of_each_row(
    rows: int, columns: int, penalty: float
) -> None:
    """Tables with many columns per row get a stronger penalty."""
    assert choose_training("logistic", rows, columns, 2)["l2"] == penalty
