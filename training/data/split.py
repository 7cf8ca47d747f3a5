"""Dividing rows by seed, before anything is learned from them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split

from training.data.table import Floats, Rows
from training.errors import DataError
from training.recipe.table import Split


@dataclass(frozen=True)
class Parts:
    """Row numbers of each part, ascending, no row in two."""

    training: Rows
    validation: Rows
    test: Rows


def divide(target: Floats, split: Split, seed: int, *, classes: bool) -> Parts:
    """Draw the parts; with `classes` every part keeps the classes' shares.

    Args:
        target: ``[rows]``, a value or a class position each.
        split: the shares.
        seed: the same seed draws the same parts.
        classes: whether to stratify.

    Raises:
        DataError: there are too few rows, in all or of one class.
    """
    everything = np.arange(len(target))
    rest, test = set_aside(everything, target, split.test, seed, classes=classes)
    share = split.validation / (1 - split.test)
    training, validation = set_aside(rest, target, share, seed, classes=classes)
    return Parts(training, validation, test)


def folds(target: Floats, count: int, seed: int, *, classes: bool) -> Iterator[tuple[Rows, Rows]]:
    """Pairs of (rows to train on, rows to measure on) for cross-validation.

    As many folds as rows leave one row out each time, which no stratification can improve.

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


def set_aside(
    rows: Rows, target: Floats, share: float, seed: int, *, classes: bool
) -> tuple[Rows, Rows]:
    """Divide some rows into (kept, set aside), stratified where the target is of classes.

    Raises:
        DataError: there are too few rows, in all or of one class.
    """
    if share == 0:
        return rows, rows[:0]
    try:
        kept, aside = train_test_split(
            rows, test_size=share, random_state=seed, stratify=target[rows] if classes else None
        )
    except ValueError as error:
        raise DataError(
            f"{len(rows)} rows cannot be divided with a share of {share:.2f} set aside: {error} "
            "Collect more rows, or set split.test = 0 and cross-validate with split.folds."
        ) from None
    return np.sort(kept), np.sort(aside)
