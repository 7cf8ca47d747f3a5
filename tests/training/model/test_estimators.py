"""Models that scikit-learn fits are published with the predictions of scikit-learn."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import make_blobs
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from service.bundle.store import read_bundle
from tests.recipes import read_recipe
from training.data.sources import Folders
from training.data.split import Splitter
from training.data.table import Float32s
from training.errors import RecipeError
from training.onnx_files import Graph
from training.recipe.loader import parse_recipe
from training.run import run


def _predictions(folder: Path, rows: Float32s) -> Float32s:
    return Graph(read_bundle(folder).model).predict(rows)


def test_fruit_predicts_like_a_tree_of_scikit_learn(folders: Folders, tmp_path: Path) -> None:
    """On a grid around the eight rows, each prediction is that of a tree fitted here."""
    recipe = read_recipe("fruit")
    rows = recipe.data.rows or []
    x = np.array([row[:3] for row in rows], dtype=np.float32)
    tree = DecisionTreeClassifier(random_state=recipe.seed).fit(x, [row[3] for row in rows])
    grid = np.array(
        [[c, w, h] for c in range(0, 120, 9) for w in (4, 6.3, 9) for h in (4, 6, 7.9)],
        dtype=np.float32,
    )

    found = _predictions(run(recipe, tmp_path, folders).folder, grid)

    assert (found[:, 0] == tree.predict_proba(grid)[:, 1]).all()


def test_a_large_tall_fruit_of_hue_101_is_a_pear(folders: Folders, tmp_path: Path) -> None:
    """A fruit outside the training range has the expected prediction."""
    outcome = run(read_recipe("fruit"), tmp_path, folders)

    assert _predictions(outcome.folder, np.array([[101, 6.3, 7.9]], np.float32)) == [[1.0]]
    assert outcome.manifest.output.model_dump()["labels"] == ["apple", "pear"]


def test_blobs_predicts_the_nearest_of_three_centers(folders: Folders, tmp_path: Path) -> None:
    """The clusters do not overlap, so the centers are the means of their training rows."""
    points, blob = make_blobs(300, n_features=2, centers=3, random_state=3)
    recipe = read_recipe("blobs")
    label = np.array([(recipe.target.values or recipe.target.labels).index(str(k)) for k in blob])
    splitter = Splitter(label.astype(float), recipe.seed, classes=True)
    training = splitter.split(recipe.split).training
    centers = [points[training][label[training] == k].mean(axis=0) for k in range(3)]
    grid = np.random.default_rng(0).uniform(-10, 12, (500, 2))

    found = _predictions(run(recipe, tmp_path, folders).folder, grid.astype(np.float32))

    distances = np.linalg.norm(grid[:, np.newaxis] - centers, axis=2)
    assert (found == np.eye(3)[distances.argmin(axis=1)]).all()


def test_a_tree_may_predict_a_number(folders: Folders, tmp_path: Path) -> None:
    """A regression tree gives scikit-learn's value in raw units."""
    x = np.arange(20, dtype=np.float32)
    y = np.square(x)
    recipe = parse_recipe(
        {
            "name": "squares",
            "title": "Squares",
            "data": {"rows": np.column_stack([x, y]).tolist(), "columns": ["x", "y"]},
            "target": {"column": "y"},
            "features": [{"name": "x", "type": "number"}],
            "split": {"test": 0, "folds": 5},
            "network": {"family": "decision-tree"},
        },
        "the test",
    )
    points = np.linspace(-3, 25, 57, dtype=np.float32)[:, np.newaxis]

    found = _predictions(run(recipe, tmp_path, folders).folder, points)

    expected = DecisionTreeRegressor(random_state=recipe.seed).fit(x[:, np.newaxis], y)
    assert found[:, 0] == pytest.approx(expected.predict(points))


def test_sections_that_scikit_learn_does_not_use_are_rejected() -> None:
    """A tree has no optimizer, no scaler and no categories."""
    with pytest.raises(RecipeError) as rejection:
        read_recipe(
            "fruit",
            [
                'training={optimizer="SGD", learning_rate=1, epochs=1}',
                "preprocessing.scaler=min-max",
                'features=[{name="color", type="category"}]',
            ],
        )

    assert [problem.partition(":")[0] for problem in rejection.value.problems] == [
        "training",
        "preprocessing",
        "features",
    ]


def test_a_network_requires_a_training_section() -> None:
    """A recipe without it is rejected."""
    with pytest.raises(RecipeError, match="training: this section is required"):
        read_recipe("fruit", ["network.family=logistic"])
