"""The names of the labels of an imported classifier, and the threshold of its own label."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from service.bundle.manifest import DEFAULT_THRESHOLD
from service.predictions import Ints
from training.data.table import Float32s
from training.errors import ImportRejected
from training.export.graph_reading import Comparison
from training.export.node_attributes import ClassNames
from training.export.output_mapping import TIE
from training.onnx_files import Array

_DECIMALS = 7
# What outlier detectors return.
_INLIERS = [-1, 1]


def name_labels(
    labels: Sequence[str], classes: ClassNames | None, count: int
) -> tuple[list[str], list[str]]:
    """Return the labels in the order of the graph, and notes about them.

    Args:
        labels: the user's names; if empty, those of the graph, else numbers.
        classes: the graph's own names, if it has some.
        count: the number of classes.

    Raises:
        ImportRejected: the names do not fit the classes.
    """
    own = [str(name) for name in classes or []]
    order = f" ({', '.join(map(repr, own))})" if own else ""
    named = list(labels) or own or [str(number) for number in range(count)]
    if len(named) != count:
        raise ImportRejected(
            f"it has {count} classes, but {len(named)} "
            f"{'label is' if len(named) == 1 else 'labels are'} named: {', '.join(named)}. "
            f"Name {count} with --labels, in the graph's order{order}."
        )
    spelled = [_simplify(name) for name in named]
    simple = [_simplify(name) for name in own]
    moved = [k for k, name in enumerate(spelled) if name in simple and simple[k] != name]
    if moved and sorted(spelled) == sorted(simple) and len(set(simple)) == count:
        reordered = [named[spelled.index(name)] for name in simple]
        return reordered, [f"The labels are in the order of the graph: {', '.join(reordered)}."]
    # Numbers can be names of other numbers: classes from 0 can be shown from 1 on.
    if moved and classes and isinstance(classes[0], str):
        position = simple.index(spelled[moved[0]])
        raise ImportRejected(
            f"the label {named[moved[0]]!r} is at position {moved[0] + 1} of --labels, but "
            f"at position {position + 1} of the graph{order}. Name the labels in that order."
        )
    if "" in named:
        raise ImportRejected(
            f"the name of its class {named.index('') + 1} is empty, which no response can show. "
            f"Name all classes with --labels, in the graph's order{order}."
        )
    return named, []


def _simplify(name: str) -> str:
    return name.strip().casefold()


def find_label_classes(
    name: str, values: Array, classes: ClassNames | None, labels: Sequence[str]
) -> tuple[ClassNames, list[str]]:
    """Return the classes of an output of labels, as it returns them, and their names.

    Args:
        name: of the output.
        values: its labels, ``[rows]``.
        classes: those that the graph lists.
        labels: the user's names; if empty, those of the graph.

    Raises:
        ImportRejected: the classes are unknown, or a label is none of them.
    """
    seen = sorted(set(values.tolist()))
    words = values.dtype.kind in "OU"
    named = list(labels)
    if classes is not None and not words and isinstance(classes[0], str):
        # The graph returns positions of the words that it lists.
        named = named or [str(word) for word in classes]
        classes = list(range(len(classes)))
    if classes is None and values.dtype.kind == "b":
        classes, named = [0, 1], named or ["False", "True"]
    if classes is None and labels:
        classes = _match_classes(seen, labels)
    if classes is None and not words and -1 in seen and set(seen) <= set(_INLIERS):
        classes = list(_INLIERS)
    if classes is None:
        raise ImportRejected(
            f"its output {name!r} is a label, but the graph does not list the labels. Name all of "
            "them with --labels, in the order of their numbers."
        )
    unknown = [label for label in seen if label not in classes]
    if unknown:
        raise ImportRejected(
            f"it returns {unknown[0]!r}, which is none of its classes "
            f"({', '.join(map(str, classes))}). Name all of them with --labels."
        )
    return classes, named


def derive_classes(
    values: Array,
    scores: Array,
    labels: Sequence[str],
    listed: Sequence[ClassNames | None],
) -> ClassNames | None:
    """Return the label values of the columns of scores ``[rows, classes]``; None if unknown.

    They are the first of those ``listed`` by the graph that fit, else positions, else the user's
    ``labels``, else those that the labels ``[rows]`` show. The first of ``listed`` are the classes
    of the label: if it has another number of them, it is one of other scores.
    """
    count = scores.shape[1]
    seen = sorted(set(values.tolist()))
    own = listed[0]
    if own is not None and len(own) != count and set(seen) <= {*own, *range(len(own))}:
        return None
    for classes in listed:
        if classes is not None and len(classes) == count and set(seen) <= set(classes):
            return classes
    if values.dtype.kind not in "OU" and set(seen) <= set(range(count)):
        return list(range(count))
    if len(labels) == count and set(map(str, seen)) <= set(labels):
        return list(labels) if values.dtype.kind in "OU" else _match_classes(seen, labels)
    return _match_scores(values, scores, seen) if len(seen) == count else None


def _match_scores(values: Array, scores: Array, seen: list[Any]) -> ClassNames | None:
    """Return the labels by the columns whose scores are largest where they are the label."""
    means = np.array([scores[values == label].mean(axis=0) for label in seen])
    order = (means - means.mean(axis=0)).argmax(axis=1)
    if len(set(order.tolist())) < len(seen):
        return None
    return [seen[k] for k in order.argsort()]


def find_threshold(
    probabilities: Float32s, positions: Ints, comparison: Comparison | None
) -> float | None:
    """Return the threshold from which the graph itself predicts the second of two labels.

    Of all that give the same labels, it is the graph's own limit, else the default, else the one
    with the fewest digits. A tie gives the label that the graph's nodes choose, though the rows
    have none: the first, as classifiers do, unless they say otherwise. The probabilities of some
    rows may differ from it by rounding alone. Return None if none gives the same labels.

    Args:
        probabilities: of the second label, ``[rows]``, as the service returns them.
        positions: 0 or 1 by the graph's own label, ``[rows]``.
        comparison: by which the graph chooses its label, if it was found.
    """
    second = positions == 1

    def fits(threshold: np.float32) -> bool:
        return bool(((probabilities >= threshold) == second).all())

    limits = _list_limits(comparison)
    for threshold in limits:
        if fits(threshold):
            return float(threshold)
    low = probabilities[~second].max(initial=0)
    high = probabilities[second].min(initial=2)
    if not low < high:
        return _find_rounded(probabilities, second, limits)
    for digits in range(1, _DECIMALS):
        rounded = np.float32(np.round((float(low) + float(high)) / 2, digits))
        if low < rounded <= high:
            return float(rounded)
    return float(high)


def _find_rounded(
    probabilities: Float32s, second: Array, limits: Sequence[np.float32]
) -> float | None:
    """Return the likeliest threshold that gives the labels up to rounding, None if none does."""
    for threshold in limits:
        wrong = (probabilities >= threshold) != second
        if (np.abs(probabilities[wrong] - threshold) <= np.float32(TIE)).all():
            return float(threshold)
    return None


def _list_limits(comparison: Comparison | None) -> list[np.float32]:
    """Return the likely thresholds, the likeliest first, each with its ties above or below."""
    limits = [np.float32(DEFAULT_THRESHOLD)]
    if comparison is not None and comparison.limit is not None and 0 < comparison.limit < 1:
        limits.insert(0, np.float32(comparison.limit))
    if comparison is None or comparison.strict:
        return [one for limit in limits for one in (_next(limit), limit)]
    return [one for limit in limits for one in (limit, _next(limit))]


def _next(number: np.float32) -> np.float32:
    return np.float32(np.nextafter(number, np.float32(2)))


def _match_classes(seen: Sequence[str | int], labels: Sequence[str]) -> ClassNames | None:
    """Return the label values that the user's names stand for."""
    if any(isinstance(label, str) for label in seen):
        return list(labels)
    numbers = [_to_number(label) for label in labels]
    named = [number for number in numbers if number is not None]
    if len(named) == len(labels) and set(seen) <= set(named):
        return named
    if set(seen) <= set(range(len(labels))):
        return list(range(len(labels)))
    return [int(label) for label in seen] if len(seen) == len(labels) else None


def _to_number(label: str) -> int | None:
    try:
        return int(label)
    except ValueError:
        return None
