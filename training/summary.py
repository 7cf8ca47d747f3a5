"""What a command prints about a drafted recipe, and about a published version."""

import os
import textwrap
from collections.abc import Iterator, Mapping

import numpy as np

from service.bundle.manifest import ClassesOutput, Evaluation, Manifest
from service.bundle.store import MODEL
from service.spelling import format_count
from training.autorecipe.columns import InferredColumn
from training.autorecipe.draft import Draft
from training.evaluation.metrics import HEADLINES, describe_split
from training.export.publish import Publication
from training.report.requests import format_curl

WIDTH = 80
_LONGEST_NAME = 24
_LARGE = 1000
_TITLES = ("column", "type", "missing", "distinct")


def format_columns(drafted: Draft) -> str:
    """Return the inferred columns as a table, and the remarks, in lines of at most 80 letters.

    A longer name has a line of its own.
    """
    cells = [
        (column.name, column.kind or "-", str(column.missing), str(column.distinct))
        for column in drafted.columns
    ]
    widths = [max(map(len, column)) for column in zip(_TITLES, *cells, strict=True)]
    widths[0] = min(widths[0], _LONGEST_NAME)
    lines = [_format_row(_TITLES, widths, "note")]
    for row, column in zip(cells, drafted.columns, strict=True):
        lines.append(_format_row(row, widths, _describe_column(column)))
    remarks = [wrap(remark, "  * ", "    ") for remark in drafted.remarks]
    return "\n".join([*lines, *remarks])


def wrap(text: str, first: str = "", other: str = "") -> str:
    """Return the text in lines of at most 80 letters; words are not broken."""
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=other,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _describe_column(column: InferredColumn) -> str:
    return column.note if column.kind else f"not used: {column.note}"


def _format_row(row: tuple[str, str, str, str], widths: list[int], note: str) -> str:
    name, kind, missing, distinct = row
    start = (
        f"  {name:<{widths[0]}} {kind:<{widths[1]}} {missing:>{widths[2]}} {distinct:>{widths[3]}}"
    )
    first = ""
    if len(name) > widths[0]:
        first, start = f"  {name}\n", " " * (2 + widths[0]) + start[2 + len(name) :]
    return first + wrap(note, start + "  ", " " * (len(start) + 2)) if note else first + start


def summarize_evaluation(evaluation: Evaluation, rare: str | None) -> str:
    """Return the headline metrics with those of the baseline, a line each.

    Recall and precision of a ``rare`` label are added.
    """
    names = [*HEADLINES, *([f"recall[{rare}]", f"precision[{rare}]"] if rare else [])]
    rows = evaluation.rows
    part = {
        "test": format_count(rows, "test row"),
        "cross-validation": f"{format_count(rows, 'row')}, {evaluation.folds}-fold "
        "cross-validation",
        "given": f"the {format_count(rows, 'given row')}, which may include training rows",
    }[evaluation.part]
    part += describe_split(evaluation)
    lines = [f"Measured on {part}; baseline in parentheses: {evaluation.baseline.name}."]
    for name in names:
        if name in evaluation.metrics:
            baseline = evaluation.baseline.metrics.get(name, np.nan)
            found = evaluation.metrics[name]
            lines.append(f"  {name:<18} {_format_metric(found)}  ({_format_metric(baseline)})")
    return "\n".join(lines)


def format_candidates(manifest: Manifest) -> str:
    """Return the families that were compared before the model was chosen, the best first.

    Empty if none were.
    """
    provenance = manifest.provenance
    if provenance is None or not provenance.candidates:
        return ""
    network = provenance.recipe.get("network")
    chosen = network.get("family") if isinstance(network, dict) else None
    size = manifest.files[MODEL].bytes
    lines = [f"\nCandidates of {manifest.name}, trained on {provenance.data.source}:"]
    lines.append(f"  {'family':<18} {'metric':<9} {'mean':>10} {'deviation':>10} {'seconds':>8}")
    for one in provenance.candidates:
        row = (
            f"  {one.family:<18} {one.metric:<9} {_format_metric(one.mean):>10} "
            f"{_format_metric(one.deviation):>10} {one.seconds:>8.1f}"
        )
        lines.append(row + f"  chosen, {size / 1000:,.0f} kB" * (one.family == chosen))
    return "\n".join(lines)


def describe_quality(manifest: Manifest) -> str:
    """Return in one sentence how good the model is, compared with a constant prediction.

    Empty if that was not measured.
    """
    evaluation = manifest.evaluation
    if evaluation is None:
        return ""
    found, baseline = evaluation.metrics, evaluation.baseline.metrics
    name = manifest.output.name
    if isinstance(manifest.output, ClassesOutput):
        if "accuracy" not in found.keys() & baseline.keys():
            return ""
        rows = evaluation.rows
        right, constant = (round(metrics["accuracy"] * rows) for metrics in (found, baseline))
        are = "label is" if right == 1 else "labels are"
        label = _find_constant_label(manifest.output, baseline)
        return (
            f"Of {format_count(rows, 'row')}, {right:,} {are} right "
            f"({constant:,} by always predicting {label})."
        )
    if "mae" not in found.keys() & baseline.keys():
        return ""
    unit = f" {manifest.output.unit}" if manifest.output.unit else ""
    off, constant_off = (format_number(metrics["mae"]) + unit for metrics in (found, baseline))
    return (
        f"Predictions of {name} are off by {off} on average "
        f"({constant_off} by always predicting the mean)."
    )


def _find_constant_label(output: ClassesOutput, baseline: Mapping[str, float]) -> str:
    """Return the label that the baseline predicts for every row."""
    always = [label for label in output.labels if baseline.get(f"recall[{label}]") == 1]
    return always[0] if len(always) == 1 else "the most frequent label"


def _format_metric(number: float) -> str:
    """Return a metric with four significant digits, or all of its digits before the point."""
    return f"{number:,.0f}" if abs(number) >= _LARGE else f"{number:.4g}"


def format_number(number: float) -> str:
    """Return a number with three significant digits, or all of its digits before the point."""
    return f"{number:,.0f}" if abs(number) >= _LARGE else f"{number:.3g}"


def describe_next_steps(publication: Publication) -> str:
    """Return whether the new version serves, and a curl command that calls it."""
    return "\n".join([*_describe_serving(publication), _format_curl(publication)])


def _describe_serving(publication: Publication) -> Iterator[str]:
    name, version, serving = publication.manifest.name, publication.version, publication.serving
    comparison = publication.comparison
    models = publication.folder.parents[1]
    option = (
        "" if str(models) == os.environ.get("ONWARD_MODELS", "models") else f" --models {models}"
    )
    if comparison is not None:
        yield comparison.summary
    if publication.serves:
        yield (
            f"{name} version {version} serves: a running service loads it within seconds; "
            f"start one with: onward serve{option}"
        )
        return
    if comparison is not None and comparison.worse:
        yield f"Version {version} is clearly worse than version {comparison.version}."
    remains = f"version {serving} still serves" if serving else "no version serves"
    yield (
        f"{name} version {version} does not serve; {remains}. "
        f"To serve it: onward publish {name} {version}{option}"
    )


def _format_curl(publication: Publication) -> str:
    port = os.environ.get("ONWARD_PORT", "")
    address = f"http://127.0.0.1:{port if port.isdecimal() else 8000}"
    version = "" if publication.serves else f"/versions/{publication.version}"
    path = f"/models/{publication.manifest.name}{version}/predict"
    return "  " + format_curl(publication.manifest, path, address)
