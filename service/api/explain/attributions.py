"""What each feature of a row contributes to the answer."""

import asyncio
from collections.abc import Sequence

import numpy as np

from service.api.explain.subject import Subject
from service.bundle.explanations import Additive, Sum, exact_sum
from service.bundle.features import (
    BooleanFeature,
    CategoryFeature,
    Feature,
    FeaturesInput,
    IntegerFeature,
)
from service.bundle.manifest import ClassesOutput
from service.engine.model import ServedModel
from service.engine.tensors import Array
from service.explain.shapley import mixtures, plan_of

Reason = dict[str, object]

_TWO = 2
_ADDITIVE = (
    "base and the contributions add up to score, exactly. A number contributes its coefficient "
    "times its distance from the training mean, a word a number of its own."
)
_SHAPLEY = (
    "base is the answer to the reference row, score that to this row. A contribution is how much "
    "the answer changes when this row's value takes the place of the reference's, averaged over "
    "{orders} orders of replacing one value after another; base and the contributions add up to "
    "score."
)


async def explain_rows(
    model: ServedModel, taken: FeaturesInput, rows: Array, answers: Array, subject: Subject
) -> tuple[list[Reason], Reason]:
    """The reason of each row, and what holds for all of them.

    A model whose score is a sum over the features is explained by that sum; any other is run.

    Args:
        model: that answered.
        taken: its manifest's input.
        rows: ``[rows, features]``, the graph's own numbers.
        answers: ``[rows, width]``, what the graph answered.
        subject: what is explained.
    """
    names = [feature.name for feature in taken.features]
    if model.manifest is not None and model.manifest.reasons is not None:
        reasons = model.manifest.reasons
        explained = await asyncio.to_thread(_additive, reasons, names, rows, subject)
        return explained, {"method": "additive", "meaning": _ADDITIVE}
    reference = reference_row(taken.features)
    mixed_outputs = await mixtures(model, rows, answers, np.array(reference, np.float32))
    plan = plan_of(len(names))
    found = []
    for row, mixed in enumerate(mixed_outputs):
        numbers = subject.numbers(row, mixed)
        whole = exact_sum(float(numbers[0]), (numbers @ plan.weights).tolist())
        found.append(_reason(subject.of(row), names, whole))
    return found, {
        "method": "shapley",
        "meaning": _SHAPLEY.format(orders=plan.orders),
        "reference": {
            feature.name: _said(feature, number)
            for feature, number in zip(taken.features, reference, strict=True)
        },
    }


def reference_row(features: Sequence[Feature]) -> list[float]:
    """The row that stands for nothing in particular, as the graph's numbers.

    A number is the training part's median and a word its most frequent one; where the manifest
    does not tell, and for truth values, it is the manifest's example.
    """
    return [_typical(feature) for feature in features]


def _additive(
    reasons: Additive, names: Sequence[str], rows: Array, subject: Subject
) -> list[Reason]:
    output = subject.output
    binary = isinstance(output, ClassesOutput) and len(output.labels) == _TWO
    found = []
    for row, numbers in enumerate(rows.tolist()):
        place = subject.places[row]
        # Of two labels the score is the second's; the first one's is its opposite.
        whole = reasons.of(numbers, 0 if binary else place)
        if binary and place == 0:
            whole = Sum(-whole.base, [-part for part in whole.contributions], -whole.score)
        found.append(_reason(_score_of(reasons, subject, row), names, whole))
    return found


def _score_of(reasons: Additive, subject: Subject, row: int) -> str:
    if reasons.score == "value":
        return subject.of(row)
    if reasons.score == "log1p":
        return f"logarithm of 1 + {subject.of(row)}"
    label = subject.label(row)
    if reasons.score == "log-odds":
        return f"log-odds of {label!r}"
    if reasons.score == "hard-sigmoid":
        return f"score of {label!r}, whose probability is 1/2 + score / 6, from 0 to 1"
    return f"log-probability of {label!r}, less the mean over all labels"


def _reason(of: str, names: Sequence[str], whole: Sum) -> Reason:
    contributions = dict(zip(names, whole.contributions, strict=True))
    return {"of": of, "base": whole.base, "contributions": contributions, "score": whole.score}


def _typical(feature: Feature) -> float:
    if isinstance(feature, BooleanFeature):
        return float(feature.example)
    if isinstance(feature, CategoryFeature):
        if feature.counts is None:
            return float(feature.categories.index(feature.example))
        return float(np.argmax(feature.counts))
    if feature.statistics is None:
        return feature.example
    middle = feature.statistics.deciles[5]
    return float(round(middle)) if isinstance(feature, IntegerFeature) else middle


def _said(feature: Feature, number: float) -> object:
    """The graph's number as people send it."""
    if isinstance(feature, CategoryFeature):
        return feature.categories[int(number)]
    return bool(number) if isinstance(feature, BooleanFeature) else number
