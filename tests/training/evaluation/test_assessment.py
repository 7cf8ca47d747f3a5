"""Permutation importance shows the columns that predictions depend on."""

import numpy as np
import pytest

from tests.recipes import read_recipe
from training.data.table import encode, table_from_rows
from training.evaluation.assessment import measure_permutation_importance
from training.evaluation.metrics import measure
from training.learn import fit_model


def test_an_irrelevant_column_is_not_important() -> None:
    """Shuffling the relevant column increases the error; shuffling noise does not."""
    generator = np.random.default_rng(1)
    x, noise = generator.normal(size=(2, 200))
    rows = [[float(a), float(b), float(3 * a)] for a, b in zip(x, noise, strict=True)]
    document = read_recipe("line").model_dump() | {
        "features": [{"name": "x", "type": "number"}, {"name": "noise", "type": "number"}]
    }
    recipe = type(read_recipe("line")).model_validate(document)
    everything = np.arange(200)
    data = encode(table_from_rows(rows, ["x", "noise", "y"]), recipe, everything)
    fitted = fit_model(recipe, data, everything, everything[:0])

    metric, importance = measure_permutation_importance(recipe, data, fitted, everything)

    perfect = measure(recipe, data.target, fitted.predictor.predict(data.features), 0.5)
    assert perfect[metric] == pytest.approx(0, abs=1e-4)
    assert importance["x"] > 1
    assert importance["noise"] == pytest.approx(0, abs=1e-4)
