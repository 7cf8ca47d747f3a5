"""The report of an imported model: one self-contained HTML page."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from service.bundle.features import FeaturesInput
from service.bundle.manifest import DEFAULT_THRESHOLD, ClassesOutput, Manifest, ValueOutput
from training.data.table import Float32s, Floats, Table
from training.evaluation.metrics import describe_below_baseline
from training.recipe.table import ModelCard
from training.report import tables as summary
from training.report.page import describe_feature, draw_charts, is_numeric, render_page
from training.report.requests import format_curl, format_curl_of_file, format_python

_MAX_CELLS = 12


@dataclass(frozen=True)
class Origin:
    """The file that was imported."""

    file: str
    sha256: str
    producer: str
    """The program that wrote the file."""
    verified: str
    """The rows that the bundle was verified with: `150 rows of iris.csv`."""


def describe_origin(path: Path, producer: str, verified: str) -> Origin:
    """Describe an imported file by its name and digest."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Origin(path.name, digest, producer or "an unnamed program", verified)


@dataclass(frozen=True)
class MeasuredRows:
    """The rows that have a target, with the predictions for them."""

    card: ModelCard
    """Names the labels, or the unit of the value."""
    table: Table
    target: Floats
    """``[rows]``, raw values or label positions."""
    predictions: Float32s
    """``[rows, outputs]``."""


def render(
    manifest: Manifest,
    origin: Origin,
    measured: MeasuredRows | None = None,
    remarks: Sequence[str] = (),
) -> bytes:
    """Render the page as HTML with embedded charts.

    Args:
        manifest: of the bundle.
        origin: the imported file.
        measured: None if there were no rows with a target, so that there are no metrics.
        remarks: what else a user should know, for example that the probabilities are one or zero.
    """
    output, evaluation = manifest.output, manifest.evaluation
    threshold = (
        output.decision_threshold if isinstance(output, ClassesOutput) else DEFAULT_THRESHOLD
    )
    features = manifest.input.features if isinstance(manifest.input, FeaturesInput) else []
    columns = [feature.name for feature in features][:_MAX_CELLS]
    thing = "row" if features else "image"
    worse = describe_below_baseline(evaluation)
    return render_page(
        "imported.html.j2",
        thing=thing,
        unused=[],
        curl=format_curl(manifest, f"/models/{manifest.name}/predict")
        if features
        else format_curl_of_file(manifest.name),
        python=format_python(manifest),
        manifest=manifest,
        output=output,
        origin=origin,
        measured=summary.describe_measured_rows(evaluation, thing)
        if evaluation
        else f"Not measured: the import had no {thing}s with the true values of the target.",
        caveats=[*([worse] if worse else []), *remarks],
        intervals=summary.list_intervals(output),
        **_describe_measurement(manifest, measured, threshold, columns),
        worst_columns=[(feature.name, is_numeric(feature)) for feature in features[:_MAX_CELLS]],
        hidden_columns=len(features) - len(columns),
        was_measured=True,
        features=[describe_feature(feature) for feature in features],
        threshold=threshold if manifest.task == "binary" else None,
    )


def _describe_measurement(
    manifest: Manifest, measured: MeasuredRows | None, threshold: float, columns: Sequence[str]
) -> dict[str, object]:
    """Return what the page shows of the metrics and, if there are rows, of the predictions."""
    evaluation, output = manifest.evaluation, manifest.output
    unit = output.unit if isinstance(output, ValueOutput) else None
    metrics = {
        "tiles": summary.create_tiles(evaluation, unit),
        "metrics": summary.list_metrics(evaluation, unit),
    }
    if measured is None:
        return {**metrics, "labels": [], "charts": [], "worst": []}
    card = measured.card
    target, predictions = measured.target, measured.predictions
    predicted = summary.Predicted(card, np.arange(len(target)), target, predictions, threshold)
    return {
        **metrics,
        "labels": summary.list_labels(evaluation, card.target.labels, target),
        "charts": draw_charts(card, target, predictions, threshold),
        "worst": summary.find_worst_rows(predicted, measured.table, columns),
    }
