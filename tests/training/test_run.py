"""Complete runs of shipped recipes, from the table to a published bundle."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from scipy.optimize import minimize

from service.bundle.store import read_bundle
from tests.recipes import read_recipe
from tests.training.shipped import trained
from training.data.sources import Folders
from training.data.table import Float32s
from training.run import run


def _predictions(folder: Path, rows: list[list[float]]) -> Float32s:
    session = ort.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    predictions: Float32s = session.run(None, {"features": np.array(rows, dtype=np.float32)})[0]
    return predictions


def test_ice_cream_is_the_least_squares_line(
    folders: Folders, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The published graph predicts like the normal equations for the six rows."""
    recipe = read_recipe("ice_cream")
    rows = np.array(recipe.data.rows, dtype=np.float64)
    design = np.column_stack([rows[:, 0], np.ones(len(rows))])
    slope, intercept = np.linalg.solve(design.T @ design, design.T @ rows[:, 1])

    outcome = trained("ice_cream", folders, tmp_path_factory.getbasetemp())

    found = _predictions(outcome.folder, [[-50], [10], [30], [60]])[:, 0]
    assert found == pytest.approx(intercept + slope * np.array([-50, 10, 30, 60]), abs=1e-4)
    assert round(float(found[2]), 3) == 18.846


def test_ice_cream_is_measured_by_leave_one_out(
    folders: Folders, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Each of the six rows is predicted by a line through the five others."""
    recipe = read_recipe("ice_cream")
    x, y = np.array(recipe.data.rows, dtype=np.float64).T
    errors = []
    for k in range(len(x)):
        slope, intercept = np.polyfit(np.delete(x, k), np.delete(y, k), deg=1)
        errors.append(intercept + slope * x[k] - y[k])

    outcome = trained("ice_cream", folders, tmp_path_factory.getbasetemp())
    evaluation = outcome.manifest.evaluation

    assert evaluation is not None
    assert (evaluation.part, evaluation.folds, evaluation.rows) == ("cross-validation", 6, 6)
    assert evaluation.metrics["sse"] == pytest.approx(np.square(errors).sum(), rel=1e-5)
    assert evaluation.metrics["r2"] > evaluation.baseline.metrics["r2"]


def test_admission_is_the_optimum_of_another_solver(
    folders: Folders, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The probabilities of all training rows are those of scipy's optimum to 1e-3."""
    outcome = trained("admission", folders, tmp_path_factory.getbasetemp())
    assert folders.data is not None
    table = np.loadtxt(folders.data / "admissions" / "ex2data1.txt", delimiter=",")
    provenance = outcome.manifest.provenance
    assert provenance is not None
    assert (provenance.split.training, provenance.split.test) == (100, 0)

    x = np.column_stack([table[:, :2] / 100, np.ones(len(table))])
    sign = 2 * table[:, 2] - 1
    optimum = minimize(lambda w: np.logaddexp(0, -sign * (x @ w)).sum(), np.zeros(3), tol=1e-10)
    expected = 1 / (1 + np.exp(-x @ optimum.x))

    found = _predictions(outcome.folder, table[:, :2].tolist())[:, 0]
    assert np.abs(found - expected).max() < 1e-3


def test_the_same_seed_gives_the_same_model(folders: Folders, tmp_path: Path) -> None:
    """Two runs publish two versions with the same digest."""
    recipe = read_recipe("admission", ["split.folds=2"])

    first, second = (run(recipe, tmp_path, folders) for _ in range(2))

    assert (first.folder.name, second.folder.name) == ("1", "2")
    digests = {read_bundle(o.folder).manifest.files["model.onnx"].sha256 for o in (first, second)}
    assert len(digests) == 1


def test_a_bundle_contains_no_local_paths(
    folders: Folders, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """No file has a path of the machine that trained it."""
    base = tmp_path_factory.getbasetemp()
    folder = trained("admission", folders, base).folder

    for path in folder.iterdir():
        content = path.read_bytes()
        for private in (Path.cwd(), Path.home(), folders.data, base):
            assert str(private).encode() not in content
