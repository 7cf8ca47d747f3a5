"""Two versions' answers to the same rows, held side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from service.bundle.features import BooleanFeature, CategoryFeature, FeaturesInput
from service.bundle.manifest import ClassesOutput, Input
from service.codecs.outputs import chosen_labels, scores_by_label
from service.engine.batching import row_count
from service.engine.dtypes import Array, Arrays
from service.engine.model import ServedModel

T = TypeVar("T")
# The serving version's and the candidate's.
Pair = tuple[T, T]
Flags = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.float64]

_MOST_SHOWN = 100
_FARTHEST = float(np.finfo(np.float64).max)


@dataclass(frozen=True)
class Tolerance:
    """How far a candidate's number may lie from the serving one's and count as the same."""

    absolute: float
    relative: float

    def holds(self, serving: Array, candidate: Array) -> Flags:
        """Number by number; two that are not numbers are the same."""
        return np.isclose(
            candidate, serving, rtol=self.relative, atol=self.absolute, equal_nan=True
        )


@dataclass(frozen=True)
class Compared:
    """Row by row: whether both said the same, how far apart they are, and the labels of both.

    Of labels ``apart`` is the largest difference of any label's probability; of numbers it is the
    largest of theirs; of anything else 0 or 1.
    """

    same: Flags
    apart: Numbers
    labels: Pair[Sequence[str]] | None = None


def obstacle(serving: ServedModel, candidate: ServedModel) -> str | None:
    """Why the candidate cannot be asked what the serving version was asked, or None."""
    if serving.inputs != candidate.inputs:
        return "its graph takes other inputs than that of the serving version"
    if [spec.name for spec in serving.outputs] != [spec.name for spec in candidate.outputs]:
        return "its graph gives other outputs than that of the serving version"
    one, other = serving.manifest, candidate.manifest
    if (one is None) != (other is None):
        return "only one of the two versions has a manifest"
    if one is not None and other is not None and _meaning(one.input) != _meaning(other.input):
        return "its manifest gives other features, or another order, than the serving version's"
    return None


def compare(
    models: Pair[ServedModel], inputs: Arrays, outputs: Pair[Arrays], tolerance: Tolerance
) -> Compared:
    """Hold the outputs of the serving version beside those of the candidate, row by row.

    Args:
        models: the serving version and the candidate.
        inputs: of both.
        outputs: of each.
        tolerance: for numbers that are no probabilities.
    """
    one, other = (_classes_of(model) for model in models)
    if one is not None and other is not None:
        return _classes((one, other), (outputs[0][0], outputs[1][0]))
    rows = row_count(inputs)
    parts = [_tensor(one, other, rows, tolerance) for one, other in zip(*outputs, strict=True)]
    return Compared(
        np.logical_and.reduce([part.same for part in parts]),
        np.maximum.reduce([part.apart for part in parts]),
    )


def shown_row(model: ServedModel, inputs: Arrays, place: int) -> Any:  # noqa: ANN401 - values of any feature
    """One row as a caller would write it, where it is a row of a table."""
    manifest = model.manifest
    if manifest is None or not isinstance(manifest.input, FeaturesInput):
        return None
    row = inputs[0][place].tolist()
    features = manifest.input.features
    return {
        feature.name: _shown(feature, value) for feature, value in zip(features, row, strict=True)
    }


def shown_answer(model: ServedModel, outputs: Arrays, place: int) -> Any:  # noqa: ANN401 - as above
    """One row's answer: its label and probabilities, or its numbers."""
    if (kind := _classes_of(model)) is not None:
        scores = outputs[0][place : place + 1]
        shares = dict(zip(kind.labels, _shares(scores)[0].tolist(), strict=True))
        return {"label": kind.labels[_chosen(kind, scores)[0]], "probabilities": shares}
    told = [output[place].tolist() for output in outputs if _is_short(output, place)]
    return told[0] if len(told) == 1 else told


def _classes_of(model: ServedModel) -> ClassesOutput | None:
    manifest = model.manifest
    if manifest is None or not isinstance(manifest.output, ClassesOutput):
        return None
    return manifest.output


def _classes(kinds: Pair[ClassesOutput], scores: Pair[Array]) -> Compared:
    chosen = [_chosen(kind, part) for kind, part in zip(kinds, scores, strict=True)]
    named = [np.array(kind.labels)[which] for kind, which in zip(kinds, chosen, strict=True)]
    every = sorted({*kinds[0].labels, *kinds[1].labels})
    shares = [_by_label(kind, part, every) for kind, part in zip(kinds, scores, strict=True)]
    apart = np.abs(shares[1] - shares[0]).max(axis=1)
    return Compared(named[0] == named[1], apart, (named[0].tolist(), named[1].tolist()))


def _chosen(kind: ClassesOutput, scores: Array) -> Sequence[int]:
    """The position of each row's label."""
    return chosen_labels(kind, scores_by_label(scores, kind.labels))


def _by_label(kind: ClassesOutput, scores: Array, labels: Sequence[str]) -> Numbers:
    """Probabilities in the order of ``labels``; nought where a version knows no such label."""
    shares = _shares(scores)
    found = np.zeros((len(scores), len(labels)))
    for column, label in enumerate(kind.labels):
        found[:, labels.index(label)] = shares[:, column]
    return found


def _shares(scores: Array) -> Numbers:
    """A probability for each label; one column is that of the second of two."""
    wide = scores.astype(np.float64)
    return np.concatenate([1 - wide, wide], axis=1) if wide.shape[1] == 1 else wide


def _tensor(one: Array, other: Array, rows: int, tolerance: Tolerance) -> Compared:
    """One output; where it has no axis of rows, all rows are as alike as the whole."""
    if one.shape != other.shape:
        return Compared(np.zeros(rows, np.bool_), np.ones(rows))
    if one.dtype.kind in "biuf" and other.dtype.kind in "biuf":
        same, apart = tolerance.holds(one, other), _apart(one, other)
    else:
        same = np.asarray(one == other, np.bool_)
        apart = np.where(same, 0.0, 1.0)
    if not one.ndim or len(one) != rows:
        return Compared(np.full(rows, same.all()), np.full(rows, apart.max(initial=0.0)))
    by_row = rows, one.size // max(rows, 1)
    return Compared(
        np.logical_and.reduce(same.reshape(by_row), axis=1, dtype=np.bool_),
        apart.reshape(by_row).max(axis=1, initial=0.0),
    )


def _apart(one: Array, other: Array) -> Numbers:
    """Distances; from a number to what is none it is the largest that can be written."""
    first, second = one.astype(np.float64), other.astype(np.float64)
    alike = (first == second) | (np.isnan(first) & np.isnan(second))
    with np.errstate(invalid="ignore", over="ignore"):
        distance = np.nan_to_num(np.abs(second - first), nan=_FARTHEST, posinf=_FARTHEST)
    return np.where(alike, 0.0, distance)


def _meaning(taken: Input) -> object:
    """What must agree for a number in a place to mean the same to both."""
    if not isinstance(taken, FeaturesInput):
        return taken.model_dump()
    return [
        (feature.name, feature.type, getattr(feature, "categories", None))
        for feature in taken.features
    ]


def _shown(feature: object, value: float) -> object:
    if value != value:  # noqa: PLR0124 - NaN, a missing value
        return None
    if isinstance(feature, CategoryFeature):
        return feature.categories[int(value)] if value >= 0 else "(another)"
    return bool(value) if isinstance(feature, BooleanFeature) else value


def _is_short(output: Array, place: int) -> bool:
    """Whether the output has such a row, and not too much of it for people to read."""
    numeric = output.dtype.kind in "biuf"
    return (
        bool(numeric and output.ndim and len(output) > place) and output[place].size <= _MOST_SHOWN
    )
