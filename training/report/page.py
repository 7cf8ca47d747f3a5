"""The report: one self-contained page that a reviewer reads before trusting a model."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2
import numpy as np

from service.bundle.features import CategoryFeature, Feature, FeaturesInput, Range
from service.bundle.manifest import Manifest
from training.data.table import Dataset, Table
from training.evaluation.assessment import Assessment, permutation_importance
from training.evaluation.metrics import decide, probabilities
from training.learn import Learned
from training.recipe.image import ImageRecipe
from training.recipe.loader import parse_recipe, recipe_names, toml_of
from training.recipe.table import Recipe
from training.report import figures
from training.report import tables as summary
from training.report.drawing import Picture, learned_map
from training.report.tables import number

_MOST_WORDS = 30
_MOST_CELLS = 12
_TEMPLATES = Path(__file__).parent


def render(  # noqa: PLR0913 - a report shows all that a run has
    manifest: Manifest,
    table: Table,
    data: Dataset,
    learned: Learned,
    assessment: Assessment,
    *,
    caveats: Sequence[str],
) -> bytes:
    """The page as HTML with its figures inside; it loads nothing.

    Args:
        manifest: of the bundle, whose files are not yet digested.
        table: the rows as text.
        data: the same rows as numbers.
        learned: the model.
        assessment: what was measured.
        caveats: what one should know of the table before one trusts the figures.
    """
    recipe = parse_recipe(manifest.provenance.recipe if manifest.provenance else {}, manifest.name)
    measured = len(assessment.rows) > 0
    rows = assessment.rows if measured else np.arange(len(data.target))
    metric, importance = permutation_importance(recipe, data, learned, rows)
    pictures = [
        learned_map(recipe, data, learned),
        *_measured_pictures(recipe, data, assessment, learned),
    ]
    if len(importance) > 1:
        where = "the measured rows" if measured else "its own training rows"
        pictures.append(figures.importance_bars(importance, summary.METRICS[metric], where))
    if learned.histories:
        pictures.append(figures.learning_curves(learned.histories, "loss"))

    columns = _most_telling(recipe, importance)
    answers = assessment.answers if measured else learned.predictor.predict(data.features)
    answered = summary.Answered(recipe, rows, data.target[rows], answers, learned.threshold)
    return render_page(
        "report.html.j2",
        things="rows",
        manifest=manifest,
        provenance=manifest.provenance,
        output=manifest.output,
        measured=summary.measured(manifest.evaluation),
        caveats=caveats,
        tiles=summary.tiles(manifest.evaluation, recipe),
        metrics=summary.metric_rows(manifest.evaluation, recipe.target.unit),
        intervals=summary.interval_rows(manifest.output),
        labels=summary.label_rows(manifest.evaluation, recipe.target.labels, answered.target),
        pictures=[picture for picture in pictures if picture is not None],
        worst=summary.worst_rows(answered, table, columns),
        worst_columns=columns,
        left_out=len(importance) - len(columns),
        was_measured=measured,
        features=_feature_rows(manifest),
        threshold=learned.threshold if recipe.task == "binary" else None,
        command=command_of(recipe),
        recipe=toml_of(recipe),
    )


def _measured_pictures(
    recipe: Recipe, data: Dataset, assessment: Assessment, learned: Learned
) -> list[Picture]:
    target = data.target[assessment.rows]
    if not len(target):
        return []
    if recipe.task == "regression":
        value = assessment.answers[:, 0].astype(np.float64)
        return [
            figures.predicted_and_true(target, value, recipe.target.unit),
            figures.residuals(target, value, recipe.target.unit),
        ]
    classes, labels = target.astype(np.intp), recipe.target.labels
    shares = probabilities(assessment.answers)
    pictures = [figures.confusion(classes, decide(assessment.answers, learned.threshold), labels)]
    if len(np.unique(classes)) == len(labels):
        pictures += [
            figures.roc_curves(classes, shares, labels),
            figures.precision_recall_curves(classes, shares, labels),
            figures.calibration(classes, shares, labels),
        ]
    return pictures


def _most_telling(recipe: Recipe, importance: Mapping[str, float]) -> list[str]:
    """The columns that matter most, in the recipe's order."""
    shown = sorted(importance, key=lambda name: -importance[name])[:_MOST_CELLS]
    return [feature.name for feature in recipe.features if feature.name in shown]


def _feature_rows(manifest: Manifest) -> list[dict[str, str]]:
    features = manifest.input.features if isinstance(manifest.input, FeaturesInput) else []
    return [_feature_row(feature) for feature in features]


def _feature_row(feature: Feature) -> dict[str, str]:
    """One line of the model card."""
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
        words = feature.categories
        more = f" and {len(words) - _MOST_WORDS} more" if len(words) > _MOST_WORDS else ""
        row["trained"] = ", ".join(words[:_MOST_WORDS]) + more
        row["allowed"] = "any word" if feature.unseen == "other" else "these words"
    elif feature.type == "boolean":
        row["trained"] = row["allowed"] = "true, false"
    else:
        row["allowed"] = _span(feature.allowed) or "any"
        row["trained"] = _span(feature.trained)
        if feature.statistics is not None and feature.statistics.missing:
            row["missing"] += f" (in {feature.statistics.missing:.1%})"
    return row


def _span(span: Range | None) -> str:
    if span is None:
        return ""
    if span.minimum is None or span.maximum is None:
        ends = [("from", span.minimum), ("to", span.maximum)]
        return " ".join(f"{word} {summary.number(end)}" for word, end in ends if end is not None)
    return f"{summary.number(span.minimum)} to {summary.number(span.maximum)}"


def render_page(template: str, **shown: object) -> bytes:
    """The page as HTML; whatever is shown is text, and no tag.

    Args:
        template: its file beside this one.
        shown: the template's names; one that lacks is an error.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    # The name of a file may hold bytes that are no letters; they must not cost the model.
    return environment.get_template(template).render(shown).encode(errors="backslashreplace")


def command_of(recipe: Recipe | ImageRecipe) -> str:
    """What makes the model again: a shipped recipe goes by its name, another one by its file."""
    if recipe.name in recipe_names():
        return f"onward train {recipe.name}"
    return f"onward train {recipe.name}.toml    # the recipe below"
