"""Comparison of the predictions of two versions for the same rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from service.bundle.features import FeaturesInput, client_value
from service.bundle.manifest import ClassesOutput, Manifest
from service.bundle.policy import Shadow
from service.engine.model import ServedModel
from service.engine.tensors import Array, Arrays, count_rows
from service.predictions import predict_labels, scores_by_label

T = TypeVar("T")
# The serving version's and the candidate's.
Pair = tuple[T, T]
Flags = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.float64]

_MAX_VALUES = 100
_LARGEST = float(np.finfo(np.float64).max)


@dataclass(frozen=True)
class Comparison:
    """The comparison of each row: whether its predictions are equal, their difference, both labels.

    The difference of classes is the largest one of the probabilities of a label, that of numbers
    their largest one, and that of anything else 0 or 1.
    """

    is_equal: Flags
    differences: Numbers
    labels: Pair[Sequence[str]] | None = None


def find_incompatibility(serving: ServedModel, candidate: ServedModel) -> str | None:
    """Return why the candidate cannot predict the serving version's requests, or None."""
    if serving.info.inputs != candidate.info.inputs:
        return "its graph takes other inputs than that of the serving version"
    names = [[spec.name for spec in model.info.outputs] for model in (serving, candidate)]
    if names[0] != names[1]:
        return "its graph gives other outputs than that of the serving version"
    one, other = (_get_signature(model.manifest) for model in (serving, candidate))
    if (one is None) != (other is None):
        return "only one of the two versions has a manifest"
    if one != other:
        return "its manifest gives other features, or another order, than the serving version's"
    return None


def compare(
    models: Pair[ServedModel], inputs: Arrays, outputs: Pair[Arrays], policy: Shadow
) -> Comparison:
    """Compare the outputs of the serving version with those of the candidate, row by row.

    The tolerance of the policy is for numbers that are not probabilities.
    """
    one, other = (_find_class_output(model) for model in models)
    if one is not None and other is not None:
        return _compare_classes((one, other), (outputs[0][0], outputs[1][0]))
    rows = count_rows(inputs)
    parts = [_compare_tensors(pair, rows, policy) for pair in zip(*outputs, strict=True)]
    return Comparison(
        np.logical_and.reduce([part.is_equal for part in parts]),
        np.maximum.reduce([part.differences for part in parts]),
    )


def format_row(model: ServedModel, inputs: Arrays, row: int) -> Any:  # noqa: ANN401 - values of any feature
    """Return a row as a client would write it; None if it is not a row of a table."""
    manifest = model.manifest
    if manifest is None or not isinstance(manifest.input, FeaturesInput):
        return None
    numbers = inputs[0][row].tolist() if manifest.input.numerical else []
    texts = inputs[-1][row].tolist() if manifest.input.texts else []
    pairs = zip(manifest.input.numerical, numbers, strict=True)
    values: dict[str, object] = {
        feature.name: client_value(feature, number) for feature, number in pairs
    }
    named = zip(manifest.input.texts, texts, strict=True)
    return values | {feature.name: text for feature, text in named}


def format_prediction(model: ServedModel, outputs: Arrays, row: int) -> Any:  # noqa: ANN401 - as above
    """Return the prediction of a row: its label and probabilities, or its numbers."""
    if (kind := _find_class_output(model)) is not None:
        scores = outputs[0][row : row + 1]
        probabilities = _get_probabilities(kind, scores)[0].tolist()
        return {
            "label": kind.labels[predict_labels(scores, kind.decision_threshold)[0]],
            "probabilities": dict(zip(kind.labels, probabilities, strict=True)),
        }
    values = [output[row].tolist() for output in outputs if _is_short(output, row)]
    return values[0] if len(values) == 1 else values


def _find_class_output(model: ServedModel) -> ClassesOutput | None:
    manifest = model.manifest
    if manifest is None or not isinstance(manifest.output, ClassesOutput):
        return None
    return manifest.output


def _compare_classes(kinds: Pair[ClassesOutput], scores: Pair[Array]) -> Comparison:
    labels = sorted({*kinds[0].labels, *kinds[1].labels})
    predicted = []
    probabilities = []
    for kind, part in zip(kinds, scores, strict=True):
        predicted.append(np.array(kind.labels)[predict_labels(part, kind.decision_threshold)])
        # Zero if the version lacks a label.
        by_label = np.zeros((len(part), len(labels)))
        by_label[:, [labels.index(label) for label in kind.labels]] = _get_probabilities(kind, part)
        probabilities.append(by_label)
    one, other = predicted
    differences = np.abs(probabilities[1] - probabilities[0]).max(axis=1)
    return Comparison(one == other, differences, (one.tolist(), other.tolist()))


def _get_probabilities(kind: ClassesOutput, scores: Array) -> Numbers:
    """Return the probabilities of each row, ``[rows, labels]``."""
    return scores_by_label(scores.astype(np.float64), kind.labels)


def _compare_tensors(pair: Pair[Array], rows: int, policy: Shadow) -> Comparison:
    """Compare an output; without an axis of rows, its difference counts for all rows."""
    one, other = pair
    if one.shape != other.shape:
        return Comparison(np.zeros(rows, np.bool_), np.ones(rows))
    if one.dtype.kind in "biuf" and other.dtype.kind in "biuf":
        tolerance = {"rtol": policy.relative, "atol": policy.absolute}
        same = np.isclose(other, one, **tolerance, equal_nan=True)
        differences = _measure_differences(one, other)
    else:
        same = np.asarray(one == other, np.bool_)
        differences = np.where(same, 0.0, 1.0)
    if not one.ndim or len(one) != rows:
        return Comparison(np.full(rows, same.all()), np.full(rows, differences.max(initial=0.0)))
    by_row = rows, one.size // max(rows, 1)
    return Comparison(
        np.logical_and.reduce(same.reshape(by_row), axis=1, dtype=np.bool_),
        differences.reshape(by_row).max(axis=1, initial=0.0),
    )


def _measure_differences(one: Array, other: Array) -> Numbers:
    """Return absolute differences; from a number to NaN it is the largest float."""
    first, second = one.astype(np.float64), other.astype(np.float64)
    is_equal = (first == second) | (np.isnan(first) & np.isnan(second))
    with np.errstate(invalid="ignore", over="ignore"):
        distance = np.nan_to_num(np.abs(second - first), nan=_LARGEST, posinf=_LARGEST)
    return np.where(is_equal, 0.0, distance)


def _get_signature(manifest: Manifest | None) -> object:
    """Return the properties that give an input its meaning, which two versions must share."""
    if manifest is None:
        return None
    if not isinstance(manifest.input, FeaturesInput):
        return manifest.input.model_dump()
    return [
        (feature.name, feature.type, getattr(feature, "categories", None))
        for feature in manifest.input.features
    ]


def _is_short(output: Array, row: int) -> bool:
    """Return whether the output has such a row, with few enough values to be read."""
    numeric = output.dtype.kind in "biuf"
    return bool(numeric and output.ndim and len(output) > row) and output[row].size <= _MAX_VALUES
