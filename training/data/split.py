"""Split rows into training, validation and test set, and into folds, by seed."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split

from training.data.table import Floats, Rows
from training.errors import DataError
from training.recipe.table import Split


@dataclass(frozen=True)
class RowSplit:
    """The disjoint, sorted row indices of the three sets."""

    training: Rows
    validation: Rows
    test: Rows

    @property
    def outside_test(self) -> Rows:
        """All rows outside the test set, in order."""
        return np.sort(np.concatenate([self.training, self.validation]))


def split_rows(target: Floats, split: Split, seed: int, *, classes: bool) -> RowSplit:
    """Split rows at random; with ``classes``, stratified.

    Args:
        target: ``[rows]``, values or positions of labels.
        split: the sizes of the sets.
        seed: the same seed gives the same sets.
        classes: whether to stratify.

    Raises:
        DataError: there are too few rows in total or of one class.
    """
    everything = np.arange(len(target))
    rest, test = hold_out(everything, target, split.test, seed, classes=classes)
    share = split.validation / (1 - split.test)
    training, validation = hold_out(rest, target, share, seed, classes=classes)
    return RowSplit(training, validation, test)


def folds(target: Floats, count: int, seed: int, *, classes: bool) -> Iterator[tuple[Rows, Rows]]:
    """Yield pairs of training rows and test rows for cross-validation.

    As many folds as rows is leave-one-out.

    Raises:
        DataError: there are more folds than rows, or than rows of the rarest class.
    """
    if count > len(target):
        raise DataError(f"split.folds: {count} folds need as many rows; there are {len(target)}.")
    if not classes or count == len(target):
        yield from KFold(count, shuffle=True, random_state=seed).split(target)
        return
    rarest = int(np.bincount(target.astype(int)).min())
    if rarest < count:
        raise DataError(
            f"split.folds: {count} folds need as many rows of every class; the rarest has {rarest}."
        )
    yield from StratifiedKFold(count, shuffle=True, random_state=seed).split(target, target)


def hold_out(
    rows: Rows, target: Floats, share: float, seed: int, *, classes: bool
) -> tuple[Rows, Rows]:
    """Split rows into (remaining, held out), stratified for classes.

    Raises:
        DataError: there are too few rows in total or of one class.
    """
    if share == 0:
        return rows, rows[:0]
    try:
        retained, held_out = train_test_split(
            rows, test_size=share, random_state=seed, stratify=target[rows] if classes else None
        )
    except ValueError as error:
        raise DataError(
            f"{len(rows)} rows cannot be split with a held-out share of {share:.2f}: {error} "
            "Collect more rows, or set split.test = 0 and cross-validate with split.folds."
        ) from None
    return np.sort(retained), np.sort(held_out)
