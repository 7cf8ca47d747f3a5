"""The contributions of features add up to the score of the published graph."""

from pathlib import Path

import numpy as np
import pytest

from service.bundle.explanations import NumberTerm
from tests.recipes import read_recipe
from tests.training.shipped import trained
from training.data.sources import Folders
from training.data.table import Floats
from training.onnx_files import Graph
from training.run import run

TABLE = """
name = "rent"
title = "Rent"
seed = 1

[data]
file = "{csv}"

[target]
{target}

[[features]]
name = "size"
type = "number"
optional = true

[[features]]
name = "floor"
type = "integer"

[[features]]
name = "garden"
type = "boolean"

[[features]]
name = "quarter"
type = "category"
unseen = "other"
optional = true
"""


@pytest.fixture
def rent(tmp_path: Path) -> Path:
    """A table with every kind of column and missing values."""
    generator = np.random.default_rng(7)
    lines = ["size,floor,garden,quarter,rent,dear,class"]
    for _ in range(300):
        size, floor = generator.gamma(9, 8), generator.integers(0, 9)
        garden, quarter = generator.random() < 0.3, generator.choice(["north", "south", "west"])
        price = 5 * size + 20 * floor + 80 * garden + 100 * (quarter == "west")
        price += generator.normal(0, 60)
        cells = [f"{size:.1f}", floor, str(garden).lower(), quarter]
        for gap in np.flatnonzero(generator.random(4) < [0.1, 0, 0, 0.1]):
            cells[gap] = ""
        words = ["low", "middle", "high"][int(price > 450) + int(price > 650)]
        lines.append(",".join(map(str, [*cells, f"{price:.0f}", int(price > 550), words])))
    path = tmp_path / "rent.csv"
    path.write_text("\n".join(lines))
    return path


REGRESSION = 'column = "rent"'
LOGARITHM = 'column = "rent"\nlog = true'
BINARY = 'column = "dear"\nvalues = ["0", "1"]\nlabels = ["cheap", "dear"]'
LABELS = 'column = "class"\nlabels = ["low", "middle", "high"]'


def prediction_of(score: str, scores: Floats) -> Floats:
    """The prediction that follows from scores ``[rows, scores]``."""
    if score == "log1p":
        return np.asarray(np.expm1(scores))
    if score == "log-odds":
        return np.asarray(1 / (1 + np.exp(-scores)))
    if score == "log-probability":
        return np.asarray(np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True))
    return scores


@pytest.mark.parametrize(
    ("target", "clip"), [(REGRESSION, 0.05), (LOGARITHM, 0.0), (BINARY, 0.05), (LABELS, 0.0)]
)
def test_contributions_add_up_to_the_score_of_the_graph(
    rent: Path, target: str, clip: float, tmp_path: Path
) -> None:
    """Also for missing values, unknown categories and extreme numbers."""
    document = TABLE.format(csv=rent, target=target)
    family = "linear" if "rent" in target else "logistic"
    recipe_file = tmp_path / "rent.toml"
    recipe_file.write_text(document)
    recipe = read_recipe(
        str(recipe_file),
        [
            f"network.family={family}",
            f"preprocessing.clip={clip}",
            "split.test=0.2",
            "split.folds=0",
            'preprocessing.rotated=[["size", "floor"]]',
            "training.optimizer=LBFGS",
            "training.learning_rate=1.0",
            "training.epochs=50",
            "training.precision=64",
            "training.l2=0.001",
        ],
    )

    outcome = run(recipe, tmp_path / "models", Folders(None, tmp_path))

    nan = float("nan")
    rows: list[list[float]] = [
        [80, 3, 1, 2],
        [nan, 8, 0, 0],
        [30, 0, 0, -1],
        [500, 2, 1, nan],
        [-9, 9, 0, 1],
    ]
    graph = Graph((outcome.folder / "model.onnx").read_bytes())
    predictions = graph.predict(np.array(rows, dtype=np.float32))
    reasons = outcome.manifest.reasons
    assert reasons is not None
    sums = [[reasons.explain(row, k) for k in range(predictions.shape[1])] for row in rows]
    for one in (found for row in sums for found in row):
        assert one.score == one.base + sum(one.contributions)
    scores = np.array([[found.score for found in row] for row in sums])
    assert prediction_of(reasons.score, scores) == pytest.approx(predictions, rel=1e-4, abs=1e-5)


def test_the_contribution_of_a_line_is_its_slope_from_the_mean(
    folders: Folders, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The least-squares slope, from the mean of the six temperatures."""
    recipe = read_recipe("ice_cream")
    x, y = np.array(recipe.data.rows, dtype=np.float64).T

    reasons = trained("ice_cream", folders, tmp_path_factory.getbasetemp()).manifest.reasons

    assert reasons is not None
    (term,) = reasons.terms
    assert isinstance(term, NumberTerm)
    assert term.coefficients == [pytest.approx(np.polyfit(x, y, 1)[0], rel=1e-6)]
    assert term.reference == pytest.approx(x.mean())
    assert reasons.base == [pytest.approx(y.mean(), rel=1e-6)]


def test_a_network_with_hidden_layers_is_not_additive(
    folders: Folders, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Its score is not a sum over the features."""
    assert trained("xor", folders, tmp_path_factory.getbasetemp()).manifest.reasons is None
