"""Attributions in responses: of the features of a row, and of the regions of an image."""

import asyncio
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np

from service.api.body import JSON, preferred_type
from service.api.explain.bar_chart import SVG, Contributions
from service.api.explain.target import DEFAULT_CELLS, Explanation, ExplanationOptions, Target
from service.bundle.explanations import Additive, ScoreSum, sum_exactly
from service.bundle.features import (
    BooleanFeature,
    CategoryFeature,
    DatetimeFeature,
    FeaturesInput,
    IntegerFeature,
    NumericalFeature,
    client_value,
)
from service.bundle.manifest import ClassesOutput, ImageInput, Input
from service.engine.model import ServedModel
from service.engine.tensors import Array
from service.errors import InvalidRequest
from service.explain import plan_mixtures, predict_mixtures, predict_occluded
from service.imaging.overlay import encode_png

PNG = "image/png"

_ADDITIVE = (
    "base and the contributions add up to score, exactly. A number contributes its coefficient "
    "times its distance from the training mean, a category its own number."
)
_SHAPLEY = (
    "base is the prediction for the reference row, score that for this row. A contribution is how "
    "much the prediction changes when this row's value replaces the reference's, averaged over "
    "{orders} orders of replacing one value after another; base and the contributions add up to "
    "score."
)
_OCCLUSION = (
    "Each number of drops is how much the explained number falls when a patch around that cell of "
    "the image is covered with the image's background; where it is negative, the number rises. The "
    "cells are in rows, from the top left."
)


async def explain_rows(
    model: ServedModel, model_input: FeaturesInput, rows: Array, predictions: Array, target: Target
) -> tuple[list[Explanation], Explanation]:
    """Explain each row; also return the fields that all rows share.

    A model whose score is a sum over the features is explained by that sum, any other by Shapley
    values.

    Args:
        model: that made the predictions.
        model_input: of its manifest.
        rows: ``[rows, features]``, the inputs of the graph.
        predictions: ``[rows, width]``, the outputs of the graph.
        target: the explained quantity.
    """
    features = model_input.numerical
    names = [feature.name for feature in features]
    if model.manifest is not None and model.manifest.reasons is not None:
        reasons = model.manifest.reasons
        explained = await asyncio.to_thread(_additive, reasons, names, rows, target)
        return explained, {"method": "additive", "meaning": _ADDITIVE}
    reference = [_typical(feature) for feature in features]
    mixed_outputs = await predict_mixtures(
        model, rows, predictions, np.array(reference, rows.dtype)
    )
    plan = plan_mixtures(len(names))
    explanations = []
    for row, mixed in enumerate(mixed_outputs):
        numbers = target.select(row, mixed)
        total = sum_exactly(float(numbers[0]), (numbers @ plan.weights).tolist())
        explanations.append(create_explanation(target.description(row), names, total))
    return explanations, {
        "method": "shapley",
        "meaning": _SHAPLEY.format(orders=plan.orders),
        "reference": {
            feature.name: client_value(feature, number)
            for feature, number in zip(features, reference, strict=True)
        },
    }


def _additive(
    reasons: Additive, names: Sequence[str], rows: Array, target: Target
) -> list[Explanation]:
    output = target.output
    binary = isinstance(output, ClassesOutput) and output.is_binary
    explanations = []
    for row, numbers in enumerate(rows.tolist()):
        index = target.classes[row]
        # With two classes the score is that of the second; that of the first is its opposite.
        total = reasons.explain(numbers, 0 if binary else index)
        if binary and index == 0:
            total = ScoreSum(-total.base, [-part for part in total.contributions], -total.score)
        explanations.append(create_explanation(_score_name(reasons, target, row), names, total))
    return explanations


def _score_name(reasons: Additive, target: Target, row: int) -> str:
    if reasons.score == "value":
        return target.description(row)
    if reasons.score == "log1p":
        return f"logarithm of 1 + {target.description(row)}"
    label = target.label(row)
    if reasons.score == "log-odds":
        return f"log-odds of {label!r}"
    if reasons.score == "hard-sigmoid":
        return f"score of {label!r}, whose probability is 1/2 + score / 6, from 0 to 1"
    return f"log-probability of {label!r}, less the mean over all labels"


def describe_chart(
    title: str, values: Mapping[str, object], explanation: Explanation, shared: Explanation
) -> Contributions:
    """Return what the chart of one row shows: the numbers of its explanation in JSON.

    Args:
        title: of the chart.
        values: of the row, by feature.
        explanation: of the row.
        shared: the fields that all rows share.
    """
    return Contributions(
        title=title,
        quantity=str(explanation["of"]),
        reference="the reference row" if "reference" in shared else "a row of training means",
        base=cast("float", explanation["base"]),
        values=values,
        contributions=cast("dict[str, float]", explanation["contributions"]),
        score=cast("float", explanation["score"]),
    )


def list_values(model_input: FeaturesInput, row: Array) -> dict[str, object]:
    """Return the values of a row ``[features]`` as a client sends them, by feature."""
    return {
        feature.name: client_value(feature, number)
        for feature, number in zip(model_input.numerical, row.tolist(), strict=True)
    }


def create_explanation(quantity: str, names: Sequence[str], total: ScoreSum) -> Explanation:
    """Return the explanation of one row as JSON."""
    contributions = dict(zip(names, total.contributions, strict=True))
    return {
        "of": quantity,
        "base": total.base,
        "contributions": contributions,
        "score": total.score,
    }


def _typical(feature: NumericalFeature) -> float:
    """Return the median or the most frequent category; without statistics, that of the example."""
    if isinstance(feature, BooleanFeature):
        return float(feature.example)
    if isinstance(feature, CategoryFeature):
        if feature.counts is None:
            return float(feature.categories.index(feature.example))
        return float(np.argmax(feature.counts))
    if feature.statistics is None:
        if isinstance(feature, DatetimeFeature):
            return feature.example_days
        return feature.example
    middle = feature.statistics.deciles[5]
    return float(round(middle)) if isinstance(feature, IntegerFeature) else middle


async def explain_images(
    model: ServedModel,
    images: Array,
    predictions: Array,
    target: Target,
    options: ExplanationOptions,
) -> tuple[list[Explanation], Explanation]:
    """Explain each image; also return the fields that all images share.

    Args:
        model: that made the predictions.
        images: uint8 ``[images, height, width, channels]``.
        predictions: ``[images, width]``, the outputs of the graph.
        target: the explained quantity.
        options: the number of grid cells, by default depending on the image, and whether each
            explanation contains its image.

    Raises:
        InvalidRequest: the image has fewer pixels along a side than the grid has cells.
    """
    cells, shorter_side = options.cells, min(images.shape[1:3])
    if cells is not None and cells > shorter_side:
        raise InvalidRequest(
            f"Parameter 'resolution' must be at most {shorter_side} here, the image's shorter "
            f"side, got {cells}."
        )
    scores = await predict_occluded(model, images, cells or min(DEFAULT_CELLS, shorter_side))
    explanations: list[Explanation] = []
    for row, grid in enumerate(scores):
        score = float(target.select(row, predictions[row : row + 1])[0])
        drops = [(score - target.select(row, line)).tolist() for line in grid]
        explanations.append({"of": target.description(row), "score": score, "drops": drops})
        if options.shows_image:
            explanations[-1]["image"] = b64encode(encode_png(images[row])).decode()
    return explanations, {"method": "occlusion", "meaning": _OCCLUSION}


def choose_type(accept: str, model_input: Input | None, rows: int) -> str:
    """Return the media type of the response: JSON, or an image that explains one row or image.

    Raises:
        InvalidRequest: an image is requested that does not fit the model, or for several rows.
    """
    is_image = isinstance(model_input, ImageInput)
    fitting, other = (PNG, SVG) if is_image else (SVG, PNG)
    chosen = preferred_type(accept, (fitting, JSON))
    if chosen is None and preferred_type(accept, (other,)):
        explained = "an image" if is_image else "a row of a table"
        raise InvalidRequest(
            f"The explanation of {explained} is {fitting} or JSON, and not {other}; change Accept."
        )
    if chosen == fitting and rows != 1:
        things = "images" if is_image else "rows"
        raise InvalidRequest(
            f"The response is one image, and {rows} {things} were sent; send one, or request JSON."
        )
    return chosen or JSON
