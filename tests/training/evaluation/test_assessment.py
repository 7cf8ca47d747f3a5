"""Models are measured on the rows that the split holds out, and by permutation importance."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.bundle.manifest import SplitRule, ValueOutput
from service.bundle.store import REPORT
from tests.recipes import read_recipe
from training.data.sources import Folders
from training.data.table import Floats, Rows, encode, table_from_rows
from training.evaluation.assessment import measure_permutation_importance
from training.evaluation.metrics import measure
from training.export.publish import Publication
from training.learn import fit_model
from training.recipe.loader import parse_recipe
from training.run import run

X = np.linspace(0, 1, 48)
Y = np.square(X) + np.random.default_rng(1).normal(0, 0.02, 48)
DAYS = [f"2024-{1 + k // 28:02}-{1 + k % 28:02}" for k in range(48)]
# Eight patients, whose rows are not next to each other.
PATIENTS = np.arange(48) % 8


def publish_line(folder: Path, split: dict[str, Any]) -> Publication:
    """Fit a line to a curve, with rows from the newest to the oldest."""
    cells = zip(X.tolist(), DAYS, [f"p{k}" for k in PATIENTS], Y.tolist(), strict=True)
    recipe = {
        "name": "curve",
        "title": "Curve",
        "data": {"columns": ["x", "day", "patient", "y"], "rows": [*map(list, cells)][::-1]},
        "target": {"column": "y"},
        "features": [{"name": "x", "type": "number"}],
        "split": split,
        "network": {"family": "linear"},
        "training": {"optimizer": "LBFGS", "learning_rate": 1.0, "epochs": 100, "precision": 64},
    }
    return run(parse_recipe(recipe, "curve"), folder, Folders(data=None, cache=folder))


def compute_errors(training: Rows, measured: Rows) -> Floats:
    """The errors of the least-squares line through the training rows."""
    slope, intercept = np.polyfit(X[training], Y[training], deg=1)
    return np.asarray(intercept + slope * X[measured] - Y[measured])


def test_the_newest_rows_measure_a_split_by_time(tmp_path: Path) -> None:
    """The line through the 36 oldest rows is measured on the 12 newest, and the report says so."""
    published = publish_line(tmp_path, {"test": 0.25, "time": "day"})

    evaluation = published.manifest.evaluation
    errors = compute_errors(np.arange(36), np.arange(36, 48))
    assert evaluation is not None
    assert evaluation.metrics["sse"] == pytest.approx(np.square(errors).sum(), rel=1e-4)
    assert evaluation.split == SplitRule(by="time", column="day")
    report = (published.folder / REPORT).read_text()
    assert "held-out test set of 12 rows, the newest by day." in report


def test_folds_by_time_are_measured_by_the_rows_before_them(tmp_path: Path) -> None:
    """Each of five periods is predicted by the line through all rows before; the first is not."""
    published = publish_line(tmp_path, {"test": 0, "folds": 5, "time": "day"})

    evaluation, output = published.manifest.evaluation, published.manifest.output
    edges = range(8, 48, 8)
    errors = [compute_errors(np.arange(k), np.arange(k, k + 8)) for k in edges]
    assert evaluation is not None
    assert (evaluation.folds, evaluation.rows) == (5, 40)
    assert evaluation.metrics["sse"] == pytest.approx(np.square(errors).sum(), rel=1e-4)
    assert isinstance(output, ValueOutput)
    assert output.interval is not None
    assert output.interval.rows == 40
    assert (
        "Measured on 40 rows by 5-fold cross-validation, each newer by day than"
        in (published.folder / REPORT).read_text()
    )


def test_interval_folds_by_time_are_outside_the_test_set(tmp_path: Path) -> None:
    """The margin at 50 % is that of errors in expanding windows over the 36 oldest rows."""
    split = {"test": 0.25, "interval_folds": 3, "time": "day"}

    output = publish_line(tmp_path, split).manifest.output

    errors = [compute_errors(np.arange(k), np.arange(k, k + 9)) for k in (9, 18, 27)]
    assert isinstance(output, ValueOutput)
    assert output.interval is not None
    (level,) = [one for one in output.interval.levels if one.level == 0.5]
    assert level.margins == pytest.approx([np.sort(np.abs(errors), axis=None)[13]], rel=1e-3)


def test_as_many_folds_as_groups_leave_one_group_out(tmp_path: Path) -> None:
    """Each patient is predicted by the line through all rows of the others."""
    published = publish_line(tmp_path, {"test": 0, "folds": 8, "group": "patient"})

    evaluation = published.manifest.evaluation
    errors = [
        compute_errors(*(np.flatnonzero(mask) for mask in (k != PATIENTS, k == PATIENTS)))
        for k in range(8)
    ]
    assert evaluation is not None
    assert evaluation.rows == 48
    assert evaluation.metrics["sse"] == pytest.approx(np.square(errors).sum(), rel=1e-4)
    assert evaluation.split == SplitRule(by="group", column="patient")
    report = (published.folder / REPORT).read_text()
    assert "8-fold cross-validation, in groups of patient that training did not see" in report


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


def test_a_version_with_another_split_may_know_the_test_rows(tmp_path: Path) -> None:
    """With equal data, seed and sizes, a random split trained on some of the newest rows."""
    publish_line(tmp_path, {"test": 0.25})

    comparison = publish_line(tmp_path, {"test": 0.25, "time": "day"}).comparison

    assert comparison is not None
    assert comparison.worse
    assert "some of which that version may have been trained on" in comparison.summary
