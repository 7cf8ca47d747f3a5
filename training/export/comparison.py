"""Decide whether a new version is clearly worse than the one that serves, on the same test rows."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from service.bundle.errors import BundleError
from service.bundle.manifest import ClassesOutput, Manifest
from service.bundle.store import Bundle, read_bundle
from service.bundle.versions import find_serving_version
from service.predictions import label_probabilities, predict_labels
from training.data.table import Float32s, Floats, Rows, Table
from training.errors import TrainingError
from training.evaluation.published import open_model
from training.model.thresholds import compute_probabilities
from training.onnx_files import Array, Graph

# A mean difference of more standard errors is significant (by chance, one in 160 is).
_STANDARD_ERRORS = 2.5
# The minimum difference, as a share of the serving version's loss.
_MIN_SHARE = 0.01
# The minimum difference, as a share of the target's deviation: less is rounding of float32.
_MIN_DEVIATION = 1e-6
_MIN_ROWS = 5
_SMALLEST_PROBABILITY = 1e-15
_BATCH_SIZE = 256


@dataclass(frozen=True)
class Comparison:
    """The new version compared with the version that serves."""

    version: int
    """The version that serves."""
    worse: bool
    """Whether the new version is clearly worse."""
    summary: str
    """A sentence with the compared metrics, or the reason why nothing was compared."""


@dataclass(frozen=True)
class TestPredictions:
    """Held-out rows with the new version's predictions."""

    target: Floats
    """``[rows]``, raw values or positions of class labels."""
    predictions: Float32s
    """``[rows, outputs]``, by a model that was not fitted to the row."""


def compare_tables(
    models: Path, manifest: Manifest, table: Table, rows: Rows, measured: TestPredictions
) -> Comparison | None:
    """Compare the new version on the test rows of a table; None if no version serves."""
    serving = _read_serving_bundle(models, manifest)
    if serving is None:
        return None
    evaluation = manifest.evaluation
    predictions = None
    if evaluation is not None and evaluation.part == "test":
        try:
            published = open_model(models, f"{manifest.name}/{serving.folder.name}")
            # A model that was fitted to all rows knows the test rows.
            if published.recipe.split.test and not published.recipe.split.refit:
                predictions = published.predict(table, rows)
        except (TrainingError, BundleError):
            predictions = None  # it has other columns
    # Without predictions, the recorded metrics are compared.
    return _compare(manifest, serving, measured, predictions)


def compare_images(
    models: Path, manifest: Manifest, pixels: Array, measured: TestPredictions
) -> Comparison | None:
    """Compare on test images, ``[images, height, width, channels]``; None if no version serves."""
    serving = _read_serving_bundle(models, manifest)
    if serving is None:
        return None
    predictions = None
    if serving.manifest.input == manifest.input:
        predictions = Graph(serving.model).predict_in_batches(pixels, _BATCH_SIZE)
    return _compare(manifest, serving, measured, predictions)


def _read_serving_bundle(models: Path, manifest: Manifest) -> Bundle | None:
    """Return the bundle that serves; None if nothing can be compared with it."""
    version = find_serving_version(models, manifest.name)
    if version is None:
        return None
    try:
        return read_bundle(models / manifest.name / str(version))
    except BundleError:
        return None  # a bare graph has no manifest


def _compare(
    manifest: Manifest, serving: Bundle, measured: TestPredictions, predictions: Float32s | None
) -> Comparison:
    version = int(serving.folder.name)
    if manifest.evaluation is None:
        return _skip_comparison(version, "the recipe measures nothing")
    if not _have_same_output(manifest, serving.manifest):
        return _skip_comparison(version, "it predicts something else")
    if len(measured.target) < _MIN_ROWS:
        return _skip_comparison(version, f"{len(measured.target)} test rows are too few")
    if predictions is None:
        return _compare_records(version, manifest, serving.manifest, measured)
    return _compare_rows(version, manifest, serving.manifest, measured, predictions)


def _have_same_output(manifest: Manifest, serving: Manifest) -> bool:
    ours, theirs = manifest.output, serving.output
    if isinstance(ours, ClassesOutput):
        return isinstance(theirs, ClassesOutput) and ours.labels == theirs.labels
    return not isinstance(theirs, ClassesOutput) and ours.unit == theirs.unit


def _compare_rows(
    version: int, manifest: Manifest, serving: Manifest, measured: TestPredictions, theirs: Float32s
) -> Comparison:
    """Compare both versions' losses row by row, so that difficult rows cancel out."""
    target, ours = measured.target, measured.predictions
    new, old = (_compute_losses(manifest, target, predictions) for predictions in (ours, theirs))
    difference = new - old
    error = float(difference.std(ddof=1) / np.sqrt(len(difference)))
    worse = _is_clear(float(difference.mean()), error, float(old.mean()), target)
    rows = f"on the same {len(target):,} test rows"
    if isinstance(manifest.output, ClassesOutput) and isinstance(serving.output, ClassesOutput):
        accuracies = [
            float((predict_labels(predictions, output.decision_threshold) == target).mean())
            for output, predictions in ((manifest.output, ours), (serving.output, theirs))
        ]
        figures = (
            f"accuracy {accuracies[0]:.4g} instead of {accuracies[1]:.4g}, "
            f"Brier score {new.mean():.4g} instead of {old.mean():.4g}"
        )
    else:
        squares = [np.square(target - predictions[:, 0]).mean() for predictions in (ours, theirs)]
        # With a skewed target one version may have the lower absolute error and the other the
        # lower squared error; then neither is worse.
        worse = worse and squares[0] > squares[1]
        figures = f"mean absolute error {new.mean():.4g} instead of {old.mean():.4g}"
    caveat = _describe_caveat(manifest, serving) if worse else ""
    return Comparison(version, worse, f"Compared with version {version}: {figures} {rows}{caveat}.")


def _compare_records(
    version: int, manifest: Manifest, serving: Manifest, measured: TestPredictions
) -> Comparison:
    """Compare the metrics that both evaluations recorded, with the noise of both."""
    classes = isinstance(manifest.output, ClassesOutput)
    metric, title = ("log_loss", "log loss") if classes else ("mae", "mean absolute error")
    theirs = serving.evaluation
    if theirs is None or metric not in theirs.metrics:
        return _skip_comparison(version, "it has no recorded metrics")
    target = measured.target
    if classes:
        probabilities = label_probabilities(
            compute_probabilities(measured.predictions), target.astype(int)
        )
        new = -np.log(np.maximum(probabilities, _SMALLEST_PROBABILITY))
    else:
        new = _compute_losses(manifest, target, measured.predictions)
    old = theirs.metrics[metric]
    error = float(new.std(ddof=1)) * float(np.sqrt(1 / len(new) + 1 / theirs.rows))
    worse = _is_clear(float(new.mean()) - old, error, old, target)
    figures = f"{title} {new.mean():.4g} instead of {old:.4g}, each measured after its training"
    return Comparison(version, worse, f"Compared with version {version}: {figures}.")


def _skip_comparison(version: int, reason: str) -> Comparison:
    return Comparison(
        version, worse=False, summary=f"Not compared with version {version}: {reason}."
    )


def _compute_losses(manifest: Manifest, target: Floats, predictions: Float32s) -> Floats:
    """Return the loss of each row: the absolute error, or the Brier score of probabilities."""
    if not isinstance(manifest.output, ClassesOutput):
        return np.asarray(np.abs(target - predictions[:, 0].astype(np.float64)))
    probabilities = compute_probabilities(predictions)
    truth = np.eye(probabilities.shape[1])[target.astype(int)]
    return np.asarray(np.square(probabilities - truth).sum(axis=1) / 2)


def _is_clear(difference: float, error: float, loss: float, target: Floats) -> bool:
    spread = float(np.abs(target - target.mean()).mean())
    return difference > max(_STANDARD_ERRORS * error, _MIN_SHARE * loss, _MIN_DEVIATION * spread)


def _describe_caveat(manifest: Manifest, serving: Manifest) -> str:
    """Return a warning if the serving version may have been fitted to some of the test rows."""
    ours, theirs = manifest.provenance, serving.provenance
    if ours is None or theirs is None:
        return ""
    same = ours.data.sha256 == theirs.data.sha256 and ours.seed == theirs.seed
    rules = [_list_split_keys(provenance.recipe.get("split")) for provenance in (ours, theirs)]
    if same and ours.split == theirs.split and rules[0] == rules[1]:
        return ""
    return ", some of which that version may have been trained on"


def _list_split_keys(split: object) -> list[object]:
    """Return the keys of a recipe's split that decide which rows are in the test set."""
    keys = ("test", "group", "group_until", "time")
    given = split if isinstance(split, dict) else {}
    return [given.get(key) for key in keys]
