"""Gradient boosting is scikit-learn's, also after the export."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingRegressor

from service.bundle.store import read_bundle
from tests.training.tables import write_mixed_table
from training.autorecipe.draft import draft
from training.data.csv import UNKNOWN, read_csv
from training.data.sources import Folders
from training.data.table import Dataset, encode
from training.errors import RecipeError
from training.export.onnx_export import export, verify
from training.learn import fit_model
from training.model.boosting import choose_edges, find_bins
from training.onnx_files import Graph
from training.recipe.loader import parse_recipe
from training.recipe.table import Preprocessing, Recipe
from training.run import run

FLOATS = st.floats(-1e6, 1e6, width=32)


def _drafted(folder: Path, target: str) -> tuple[Recipe, Dataset]:
    """A recipe for numbers with gaps and words, and the encoded rows."""
    path = write_mixed_table(folder)
    table = read_csv(path, UNKNOWN)
    recipe = draft(table, str(path), target, "mixed", "gradient-boosting").recipe
    targets = {"value", "reply", "color"}
    features = [one for one in recipe.features if one.name not in targets]
    recipe = recipe.model_copy(update={"features": features})
    return recipe, encode(table, recipe, np.arange(table.frame.height))


@given(st.lists(FLOATS, min_size=1, max_size=400), st.lists(FLOATS, min_size=1, max_size=20))
def test_a_number_is_in_a_bin_up_to_its_edge(seen: list[float], unseen: list[float]) -> None:
    """So a comparison of bins is a comparison with an edge, for any 32-bit number."""
    column = np.array(seen, np.float32)
    edges = choose_edges(column)
    numbers = np.array([*unseen, *edges.tolist(), *seen], np.float32)

    bins = find_bins(numbers[:, np.newaxis], [edges])[:, 0]

    assert len(edges) < 256
    assert (np.diff(edges) > 0).all() or len(edges) < 2
    for k, edge in enumerate(edges):
        np.testing.assert_array_equal(bins <= k, numbers <= edge)


def test_trees_of_few_numbers_are_those_of_scikit_learn() -> None:
    """With a bin for each number, the trees are those of the numbers themselves."""
    generator = np.random.default_rng(0)
    x = generator.integers(0, 40, (300, 2)).astype(np.float32)
    y = np.sin(x[:, 0]).astype(np.float64) * 3 + x[:, 1]
    recipe = _recipe([[*row, value] for row, value in zip(x.tolist(), y.tolist(), strict=True)])
    plan = recipe.boosting
    data = Dataset([], x, y, None)
    everything = np.arange(300)

    found = fit_model(recipe, data, everything, everything[:0]).predictor.predict(x)

    expected = HistGradientBoostingRegressor(
        learning_rate=plan.learning_rate,
        max_iter=plan.max_iter,
        max_leaf_nodes=plan.max_leaf_nodes,
        min_samples_leaf=plan.min_samples_leaf,
        l2_regularization=plan.l2_regularization,
        max_features=plan.max_features,
        early_stopping=False,
        random_state=recipe.seed,
    ).fit(x, y)
    np.testing.assert_allclose(found[:, 0], expected.predict(x), rtol=1e-6)


def _recipe(rows: list[list[float]], **sections: Any) -> Recipe:  # noqa: ANN401 - any section
    document = {
        "name": "boosted",
        "title": "Boosted",
        "data": {"rows": rows, "columns": ["a", "b", "y"]},
        "target": {"column": "y"},
        "features": [{"name": "a", "type": "number"}, {"name": "b", "type": "number"}],
        "network": {"family": "gradient-boosting"},
        "boosting": {"max_iter": 30, "min_samples_leaf": 5},
    }
    return parse_recipe(document | sections, "the test")


@pytest.mark.parametrize("target", ["value", "reply", "color"])
def test_the_graph_takes_the_same_branches(target: str, tmp_path: Path) -> None:
    """For a number, two labels and three; with missing numbers, missing and unknown words."""
    recipe, data = _drafted(tmp_path, target)
    training = np.arange(len(data.target))
    predictor = fit_model(recipe, data, training[:400], training[400:]).predictor
    rows = np.concatenate([data.features, data.features])
    rows[: len(data.features)] += np.float32(1e-6)  # next to the edges
    for k in range(len(data.columns)):  # gaps where training has none
        rows[k :: 2 * len(data.columns), k] = np.nan
    for k, column in enumerate(data.columns):
        if column.feature.type == "category":
            rows[:, k] = 0
            rows[::3, k], rows[1::3, k] = np.nan, -1

    graph = export(predictor, "found", len(data.columns))

    verify(graph, predictor, rows)
    assert Graph(graph).predict(rows).std() > 0


def test_a_run_publishes_boosted_trees(tmp_path: Path, folders: Folders) -> None:
    """The steps of a value are learned better than by the mean."""
    generator = np.random.default_rng(1)
    x = generator.uniform(0, 10, (400, 2))
    rows = [[a, b, float(np.floor(a) * np.floor(b / 3))] for a, b in x.tolist()]

    outcome = run(_recipe(rows), tmp_path, folders)

    assert outcome.manifest.evaluation is not None
    assert outcome.manifest.evaluation.metrics["r2"] > 0.8
    assert read_bundle(outcome.folder).manifest.reasons is None


@pytest.mark.parametrize(
    ("sections", "sentence"),
    [
        ({"network": {"family": "decision-tree"}}, "has no trees to boost"),
        ({"preprocessing": {"scaler": "robust"}}, "uses raw columns"),
        ({"boosting": {"max_iter": 0}}, "max_iter"),
    ],
)
def test_sections_that_do_not_fit_are_rejected(sections: dict[str, Any], sentence: str) -> None:
    """The message has the key."""
    with pytest.raises(RecipeError, match=sentence):
        _recipe([[1.0, 2.0, 3.0]] * 40, **sections)


def test_trees_get_rotated_copies_of_coordinates(tmp_path: Path) -> None:
    """A boundary between two columns is found, and the graph rotates as training does."""
    generator = np.random.default_rng(0)
    xy = generator.normal(size=(500, 2)).round(4)
    y = (xy.sum(axis=1) > 0) * 3 + generator.normal(0, 0.1, 500).round(4)
    lines = [f"{a},{b},{value}" for (a, b), value in zip(xy.tolist(), y.tolist(), strict=True)]
    path = tmp_path / "places.csv"
    path.write_text("\n".join(["lon,lat,y", *lines]))
    table = read_csv(path, UNKNOWN)
    recipe = draft(table, str(path), "y", "places", "gradient-boosting").recipe
    data = encode(table, recipe, np.arange(400))
    training, rest = np.arange(400), np.arange(400, 500)
    plain = recipe.model_copy(update={"preprocessing": Preprocessing()})

    rotated = fit_model(recipe, data, training, training[:0]).predictor
    unrotated = fit_model(plain, data, training, training[:0]).predictor

    assert recipe.preprocessing.rotated == [("lon", "lat")]
    errors = [
        np.abs(model.predict(data.features[rest])[:, 0] - y[rest]).mean()
        for model in (rotated, unrotated)
    ]
    assert errors[0] < 0.7 * errors[1]
    verify(export(rotated, "found", 2), rotated, data.features)
