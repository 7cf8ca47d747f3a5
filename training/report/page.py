"""The report of a table model: one self-contained HTML page."""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import jinja2
import numpy as np

from service.bundle.features import (
    CategoryFeature,
    DatetimeFeature,
    Feature,
    FeaturesInput,
    Range,
    TextFeature,
    client_value,
)
from service.bundle.manifest import Manifest
from service.numbertext import format_number
from service.predictions import predict_labels
from service.spelling import format_count, join_names
from training.data.table import Dataset, Float32s, Floats, Table
from training.evaluation.assessment import Assessment, measure_permutation_importance
from training.learn import FittedModel
from training.model.thresholds import compute_probabilities
from training.recipe.image import ImageRecipe
from training.recipe.loader import format_toml, parse_published_recipe, recipe_names
from training.recipe.table import ModelCard, Recipe
from training.report import figures
from training.report import tables as summary
from training.report.drawing import Chart, draw_prediction_map
from training.report.numbers import (
    align_points,
    format_duration,
    format_numbers,
    format_range,
)
from training.report.requests import format_curl, format_python

_FIRST_CATEGORIES = 6
_MAX_CATEGORIES = 200
_MAX_CELLS = 12
_TEMPLATES = Path(__file__).parent
_HEADING = re.compile('<h2 id="([a-z-]+)">([^<]+)</h2>')


def render(  # noqa: PLR0913 - a report shows all that a run has
    manifest: Manifest,
    table: Table,
    data: Dataset,
    fitted: FittedModel,
    assessment: Assessment,
    *,
    caveats: Sequence[str],
    unused: Sequence[str] = (),
) -> bytes:
    """Render the page as HTML with embedded charts; the data are the rows of the table."""
    recipe = parse_published_recipe(
        manifest.provenance.recipe if manifest.provenance else {}, manifest.name
    )
    measured = len(assessment.rows) > 0
    rows = assessment.rows if measured else np.arange(len(data.target))
    metric, importance = measure_permutation_importance(recipe, data, fitted, rows)
    charts = [
        draw_prediction_map(recipe, data, fitted),
        *draw_charts(
            recipe, data.target[assessment.rows], assessment.predictions, fitted.threshold
        ),
    ]
    if len(importance) > 1:
        where = "the measured rows" if measured else "its own training rows"
        charts.append(figures.draw_importance(importance, summary.METRICS[metric].title, where))
    if fitted.histories:
        charts.append(figures.draw_learning_curves(fitted.histories, "loss"))

    features = manifest.input.features if isinstance(manifest.input, FeaturesInput) else []
    columns = _choose_columns(recipe, importance)
    predictions = assessment.predictions if measured else fitted.predictor.predict(data.features)
    predicted = summary.Predicted(recipe, rows, data.target[rows], predictions, fitted.threshold)
    return render_page(
        "report.html.j2",
        thing="row",
        unused=unused,
        curl=format_curl(manifest, f"/models/{manifest.name}/predict"),
        python=format_python(manifest),
        manifest=manifest,
        provenance=manifest.provenance,
        output=manifest.output,
        measured=summary.describe_measured_rows(manifest.evaluation),
        caveats=caveats,
        tiles=summary.create_tiles(manifest.evaluation, recipe.target.unit),
        metrics=summary.list_metrics(manifest.evaluation, recipe.target.unit),
        intervals=summary.list_intervals(manifest.output),
        labels=summary.list_labels(manifest.evaluation, recipe.target.labels, predicted.target),
        charts=[chart for chart in charts if chart is not None],
        worst=summary.find_worst_rows(predicted, table, columns),
        worst_columns=[
            (feature.name, is_numeric(feature)) for feature in features if feature.name in columns
        ],
        hidden_columns=len(importance) - len(columns),
        was_measured=measured,
        features=[describe_feature(feature) for feature in features],
        threshold=fitted.threshold if recipe.task == "binary" else None,
        command=format_command(recipe),
        recipe=format_toml(recipe),
    )


def draw_charts(
    card: ModelCard, target: Floats, predictions: Float32s, threshold: float
) -> list[Chart]:
    """Draw predictions against the truth, for values or for labels; none without rows.

    Args:
        card: names the labels.
        target: ``[rows]``, raw values or label positions.
        predictions: ``[rows, outputs]``.
        threshold: of two labels, the second is predicted at or above this probability.
    """
    if not len(target):
        return []
    if not card.is_classification:
        value = predictions[:, 0].astype(np.float64)
        return [
            figures.draw_predicted_and_true(target, value, card.target.unit),
            figures.draw_residuals(target, value, card.target.unit),
        ]
    classes, labels = target.astype(np.intp), card.target.labels
    probabilities = compute_probabilities(predictions)
    charts = [figures.draw_confusion(classes, predict_labels(predictions, threshold), labels)]
    if len(np.unique(classes)) == len(labels):
        charts += [
            figures.draw_roc_curves(classes, probabilities, labels),
            figures.draw_precision_recall_curves(classes, probabilities, labels),
            figures.draw_calibration(classes, probabilities, labels),
        ]
    return charts


def _choose_columns(recipe: Recipe, importance: Mapping[str, float]) -> list[str]:
    """Return the most important columns, in the order of the recipe."""
    shown = sorted(importance, key=lambda name: -importance[name])[:_MAX_CELLS]
    return [feature.name for feature in recipe.features if feature.name in shown]


def describe_feature(feature: Feature) -> dict[str, str]:
    """Describe a feature for the table of columns."""
    row = {
        "name": feature.name,
        "type": feature.type,
        "unit": feature.unit or "",
        "allowed": "",
        "trained": "",
        "missing": "may be missing" if feature.optional else "required",
        "description": feature.description,
    }
    if isinstance(feature, CategoryFeature):
        first, others = (
            feature.categories[:_FIRST_CATEGORIES],
            feature.categories[_FIRST_CATEGORIES:],
        )
        row["trained"] = ", ".join(first)
        row["others"] = f"{len(others):,}" if others else ""
        row["rest"] = join_names(others, _MAX_CATEGORIES)
        row["allowed"] = "any word" if feature.unseen == "other" else "these words"
    elif isinstance(feature, TextFeature):
        row["allowed"] = "any text"
    elif feature.type == "boolean":
        row["trained"] = row["allowed"] = "true, false"
    else:
        if isinstance(feature, DatetimeFeature):
            row["allowed"] = feature.format
            row["trained"] = _format_dates(feature)
        else:
            row["allowed"] = _format_range(feature.allowed) or "any"
            row["trained"] = _format_range(feature.trained)
        if feature.statistics is not None and feature.statistics.missing:
            row["missing"] += f" (in {feature.statistics.missing:.1%})"
    return row


def _format_dates(feature: DatetimeFeature) -> str:
    if feature.trained is None:
        return ""
    ends = feature.trained.minimum, feature.trained.maximum
    return " to ".join(str(client_value(feature, days)) for days in ends if days is not None)


def _format_range(span: Range | None) -> str:
    if span is None:
        return ""
    if span.minimum is None or span.maximum is None:
        ends = [("from", span.minimum), ("to", span.maximum)]
        return " ".join(f"{word} {format_number(end)}" for word, end in ends if end is not None)
    return format_range([span.minimum, span.maximum])


def is_numeric(feature: Feature) -> bool:
    """Return whether the cells of a column are numbers, which are aligned at the right."""
    return feature.type in ("number", "integer")


def render_page(template: str, **shown: object) -> bytes:
    """Render a template of this folder to HTML, with all values escaped.

    A variable of the template that is missing is an error.
    """
    # File names may have bytes that are not UTF-8; they must not stop the run.
    page = _create_environment().get_template(template).render(shown)
    return page.encode(errors="backslashreplace")


@cache  # compiling a template takes longer than the rest of a small import
def _create_environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = format_number
    environment.filters["numbers"] = format_numbers
    environment.filters["aligned"] = align_points
    environment.filters["count"] = format_count
    environment.filters["duration"] = format_duration
    environment.filters["headings"] = _find_headings
    return environment


def _find_headings(body: str) -> list[tuple[str, str]]:
    """Return the anchor and the title of each section of a page, in their order."""
    return [(found[1], found[2]) for found in _HEADING.finditer(body)]


def format_command(recipe: Recipe | ImageRecipe) -> str:
    """Return the command that reproduces the model: by the name or the file of its recipe."""
    if recipe.name in recipe_names():
        return f"onward train {recipe.name}"
    return f"onward train {recipe.name}.toml    # the recipe below"
