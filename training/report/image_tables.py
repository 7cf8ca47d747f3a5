"""What a report says first of a model that sees pictures: figures to read, and what to doubt."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix

from service.bundle.manifest import Calibration, Evaluation
from training.evaluation.metrics import Ints
from training.images.dataset import PictureSet
from training.report.tables import Tile, number

_MOST_PAIRS = 8
_FEW_PICTURES = 30
_MOST_NAMED = 8
_FLATTERED = 0.8


@dataclass(frozen=True)
class Pair:
    """A class taken for another."""

    true: str
    answered: str
    times: int
    share: float
    """Of the true class's pictures."""


def measured(pictures: PictureSet, answered: Ints) -> str:
    """On which pictures the metrics were found, and how exactly so few can tell them.

    Args:
        pictures: the test part.
        answered: ``[pictures]``, positions of labels.
    """
    wrong = int((answered != pictures.target).sum())
    ends = binomtest(wrong, len(pictures)).proportion_ci(method="wilson")
    return (
        f"Measured on {len(pictures):,} test pictures, from which nothing was learned or chosen; "
        f"{wrong:,} were answered wrong. Of many more such pictures, {ends.low:.2%} to "
        f"{ends.high:.2%} would be (the 95 % interval of Wilson, 1927)."
    )


def tiles(evaluation: Evaluation | None, calibration: Calibration | None) -> list[Tile]:
    """The few metrics to read first."""
    if evaluation is None:
        return []
    found, naive = evaluation.metrics, evaluation.baseline.metrics
    right, wrong = found["accuracy"], round((1 - found["accuracy"]) * evaluation.rows)
    before = f"{number(calibration.error_before)} before the temperature" if calibration else ""
    return [
        Tile("accuracy", f"{right:.2%}", f"{naive['accuracy']:.2%} without a model"),
        Tile("error", f"{1 - right:.2%}", f"{wrong:,} of {evaluation.rows:,} wrong"),
        Tile("log loss", number(found["log_loss"]), f"{number(naive['log_loss'])} without a model"),
        Tile("calibration error", number(found["calibration_error"]), before),
    ]


def caveats(
    pictures: PictureSet, answered: Ints, calibration: Calibration | None, left_out: int
) -> list[str]:
    """What one should know of the test part before one trusts its figures, the gravest first.

    Args:
        pictures: the test part.
        answered: ``[pictures]``, positions of labels.
        calibration: what the temperature did.
        left_out: files that were not learned from.
    """
    counts = np.bincount(pictures.target, minlength=pictures.classes)
    hits = np.bincount(pictures.target[answered == pictures.target], minlength=pictures.classes)
    named = list(zip(pictures.labels, counts.tolist(), hits.tolist(), strict=True))
    never = [label for label, count, hit in named if count and not hit]
    few = [f"{label} ({count})" for label, count, _ in named if count < _FEW_PICTURES]
    commonest = int(counts.argmax())
    share = counts[commonest] / counts.sum()
    found = []
    if never:
        found.append(f"Never recognised: {_some(never)}.")
    if share >= _FLATTERED:
        found.append(
            f"{share:.1%} of the test pictures show {pictures.labels[commonest]!r}, so accuracy "
            "flatters: read each label's recall and precision."
        )
    if few:
        found.append(
            f"Fewer than {_FEW_PICTURES} test pictures show {_some(few)}: such a label's figures "
            "are rough."
        )
    if calibration is not None and calibration.error_after > calibration.error_before:
        found.append(
            "The temperature that suits the validation part made the probabilities less honest on "
            f"the test part: the calibration error rose from {number(calibration.error_before)} to "
            f"{number(calibration.error_after)}."
        )
    if left_out:
        found.append(f"Files left out: {left_out:,}; they are told below, with the reasons.")
    return found


def confused(pictures: PictureSet, answered: Ints) -> list[Pair]:
    """The classes most often taken for another, the commonest confusion first."""
    counts = confusion_matrix(pictures.target, answered, labels=range(pictures.classes))
    of_class = counts.sum(axis=1)
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:_MOST_PAIRS]
    places = [(int(place) // pictures.classes, int(place) % pictures.classes) for place in order]
    return [
        Pair(
            pictures.labels[true],
            pictures.labels[said],
            int(counts[true, said]),
            float(counts[true, said] / of_class[true]),
        )
        for true, said in places
        if counts[true, said]
    ]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
