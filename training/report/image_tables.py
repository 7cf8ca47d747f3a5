"""Tables and caveats in the report of an image model."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix

from service.bundle.manifest import Calibration, Evaluation
from training.evaluation.metrics import Ints
from training.images.dataset import ImageSet
from training.report.tables import Tile, number

_MAX_PAIRS = 8
_FEW_IMAGES = 30
_MAX_NAMED = 8
_FLATTERED = 0.8


@dataclass(frozen=True)
class Pair:
    """A confusion of two classes."""

    true: str
    predicted: str
    times: int
    share: float
    """Of the images of the true class."""


def measured(images: ImageSet, predicted: Ints) -> str:
    """The size of the test set, and a confidence interval of the error rate.

    Args:
        images: the test set.
        predicted: ``[images]``, positions of labels.
    """
    wrong = int((predicted != images.target).sum())
    ends = binomtest(wrong, len(images)).proportion_ci(method="wilson")
    return (
        f"Measured on {len(images):,} held-out test images; {wrong:,} predictions are wrong. "
        f"The 95 % confidence interval of the error rate is {ends.low:.2%} to {ends.high:.2%} "
        "(Wilson, 1927)."
    )


def tiles(evaluation: Evaluation | None, calibration: Calibration | None) -> list[Tile]:
    """The headline metrics."""
    if evaluation is None:
        return []
    found, baseline = evaluation.metrics, evaluation.baseline.metrics
    right, wrong = found["accuracy"], round((1 - found["accuracy"]) * evaluation.rows)
    before = f"{number(calibration.error_before)} before the temperature" if calibration else ""
    return [
        Tile("accuracy", f"{right:.2%}", f"baseline {baseline['accuracy']:.2%}"),
        Tile("error", f"{1 - right:.2%}", f"{wrong:,} of {evaluation.rows:,} wrong"),
        Tile("log loss", number(found["log_loss"]), f"baseline {number(baseline['log_loss'])}"),
        Tile("calibration error", number(found["calibration_error"]), before),
    ]


def caveats(
    images: ImageSet, predicted: Ints, calibration: Calibration | None, left_out: int
) -> list[str]:
    """Limits of the metrics, the most serious first.

    Args:
        images: the test set.
        predicted: ``[images]``, positions of labels.
        calibration: the calibration errors before and after temperature scaling.
        left_out: skipped files.
    """
    counts = np.bincount(images.target, minlength=images.classes)
    hits = np.bincount(images.target[predicted == images.target], minlength=images.classes)
    named = list(zip(images.labels, counts.tolist(), hits.tolist(), strict=True))
    never = [label for label, count, hit in named if count and not hit]
    few = [f"{label} ({count})" for label, count, _ in named if count < _FEW_IMAGES]
    commonest = int(counts.argmax())
    share = counts[commonest] / counts.sum()
    found = []
    if never:
        found.append(f"Never predicted correctly: {_some(never)}.")
    if share >= _FLATTERED:
        found.append(
            f"{share:.1%} of the test images show {images.labels[commonest]!r}, so "
            "accuracy is misleading: see the recall and precision of each label."
        )
    if few:
        found.append(
            f"Fewer than {_FEW_IMAGES} test images show {_some(few)}: the metrics of these "
            "labels are imprecise."
        )
    if calibration is not None and calibration.error_after > calibration.error_before:
        found.append(
            "The temperature chosen on the validation set made the calibration worse on "
            f"the test set: the calibration error rose from {number(calibration.error_before)} to "
            f"{number(calibration.error_after)}."
        )
    if left_out:
        found.append(f"Skipped files: {left_out:,}, listed below with the reasons.")
    return found


def confused(images: ImageSet, predicted: Ints) -> list[Pair]:
    """The most frequent confusions, the most frequent first."""
    counts = confusion_matrix(images.target, predicted, labels=range(images.classes))
    of_class = counts.sum(axis=1)
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:_MAX_PAIRS]
    positions = [
        (int(position) // images.classes, int(position) % images.classes) for position in order
    ]
    return [
        Pair(
            images.labels[true],
            images.labels[said],
            int(counts[true, said]),
            float(counts[true, said] / of_class[true]),
        )
        for true, said in positions
        if counts[true, said]
    ]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(names[:_MAX_NAMED]) + more
