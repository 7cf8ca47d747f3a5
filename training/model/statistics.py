"""The smoothed mean of the target of each category, as numbers in place of one-hot columns."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.model_selection import KFold, StratifiedKFold
from torch import Tensor, nn

from service.predictions import Ints
from training.data.table import Floats, Inputs

_FOLDS = 5
# As many rows with the mean of all rows are added to those of a category.
_SMOOTHING = 10.0


class TargetStatistics(nn.Module):
    """Looks up numbers of the categories of several columns.

    Missing cells and unseen categories have a row of the table each.
    """

    positions: Tensor
    counts: Tensor
    missing: Tensor
    first: Tensor
    table: Tensor

    def __init__(self, positions: Sequence[int], counts: Sequence[int], table: Floats) -> None:
        """Create the lookup.

        Args:
            positions: of the columns.
            counts: the number of categories of each column.
            table: ``[rows, outputs]``: for each column unseen, its categories, and missing.
        """
        super().__init__()
        self.register_buffer("positions", torch.tensor(positions, dtype=torch.long))
        ends = np.cumsum([count + 2 for count in counts])
        self.register_buffer("counts", torch.tensor(counts, dtype=torch.float64))
        self.register_buffer("missing", torch.as_tensor(ends - 1, dtype=torch.float64))
        # An unseen category has the position -1.
        first = ends - counts - 1
        self.register_buffer("first", torch.as_tensor(first, dtype=torch.float64))
        self.register_buffer("table", torch.as_tensor(table, dtype=torch.float64))
        self.width = len(positions) * table.shape[1]

    def find_rows(self, x: Tensor) -> Tensor:
        """Return the rows of the table, ``[rows, positions]``, of raw columns."""
        cells = x.index_select(1, self.positions).to(self.counts.dtype)
        rows = self.first + torch.where(cells < self.counts, cells, -1.0)
        # A conversion of NaN to an integer is not defined.
        return torch.where(torch.isnan(cells), self.missing, rows).long()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[rows, columns]`` to ``[rows, width]``, in the type of the table."""
        found = nn.functional.embedding(self.find_rows(x), self.table)
        return found.flatten(1)


@dataclass(frozen=True)
class FittedStatistics:
    """Statistics of the training set, and those of each of its rows from other rows."""

    lookup: TargetStatistics
    out_of_fold: Floats
    """``[training rows, width]``: of a row, learned on folds without it, as the categories of
    other rows would be (Micci-Barreca, 2001)."""


def fit_statistics(
    positions: Sequence[int], x: Inputs, target: Floats | Ints, *, labels: int, seed: int
) -> FittedStatistics:
    """Fit the statistics of columns of categories to the training set.

    Args:
        positions: of the columns.
        x: ``[rows, columns]``, with positions of categories.
        target: ``[rows]``, values or positions of labels.
        labels: their number; 0 for values. More than two have a number for each label.
        seed: of the folds.
    """
    counts = [count_categories(x, k) for k in positions]
    lookup = TargetStatistics(positions, counts, np.zeros((sum(counts) + 2 * len(counts), 1)))
    rows = lookup.find_rows(torch.from_numpy(x)).numpy()
    outputs = _spread(target, labels)
    size = len(lookup.table)
    out_of_fold = np.empty((len(x), len(positions), outputs.shape[1]))
    for others, fold in _split(target, labels, seed):
        out_of_fold[fold] = _compute_means(rows[others], outputs[others], size)[rows[fold]]
    lookup = TargetStatistics(positions, counts, _compute_means(rows, outputs, size))
    return FittedStatistics(lookup, out_of_fold.reshape(len(x), -1))


def count_categories(x: Inputs, position: int) -> int:
    """Return the number of categories up to the last one that a column of a training set has."""
    return int(np.nanmax(x[:, position], initial=-1)) + 1


def _spread(target: Floats | Ints, labels: int) -> Floats:
    """Return the numbers to be averaged, ``[rows, outputs]``."""
    column = np.asarray(target, dtype=np.float64)[:, np.newaxis]
    if labels <= 2:  # noqa: PLR2004 - the second of two labels, or a value
        return column
    shares: Floats = (column == np.arange(labels)).astype(np.float64)
    return shares


def _split(target: Floats | Ints, labels: int, seed: int) -> list[tuple[Ints, Ints]]:
    folds = min(_FOLDS, len(target))
    counts = np.bincount(target.astype(int)) if labels else np.zeros(1, dtype=int)
    stratified = bool((counts[counts > 0] >= folds).all()) and labels > 0
    splitter = (StratifiedKFold if stratified else KFold)(folds, shuffle=True, random_state=seed)
    return list(splitter.split(target, target))


def _compute_means(rows: Ints, outputs: Floats, size: int) -> Floats:
    """Return the smoothed means ``[size, outputs]``, with the mean of all where there is no row."""
    prior = outputs.mean(axis=0)
    flat = rows.ravel()
    counts = np.bincount(flat, minlength=size)[:, np.newaxis]
    sums = np.stack(
        [
            np.bincount(flat, weights=np.repeat(column, rows.shape[1]), minlength=size)
            for column in outputs.T
        ],
        axis=1,
    )
    means: Floats = (sums + _SMOOTHING * prior) / (counts + _SMOOTHING)
    return means
