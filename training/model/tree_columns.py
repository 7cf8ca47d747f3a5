"""From raw columns to the numbers that trees read, as a module that is part of the graph."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from service.predictions import Ints
from training.data.table import Float32s, Floats, Inputs
from training.model.calendar import Calendar
from training.model.preprocessing import MAX_ONE_HOT, narrow
from training.model.statistics import TargetStatistics, count_categories, fit_statistics
from training.recipe.table import Recipe

_ROWS_PER_BATCH = 65_536


class TreeColumns(nn.Module):
    """Passes numbers through, and encodes categories and dates.

    Output columns, in 32 bits: numbers and booleans, parts of dates, one-hot columns of categories,
    statistics of other categories.
    """

    numbers: Tensor
    marked: Tensor
    words: Tensor

    def __init__(
        self,
        numeric: Sequence[int],
        calendars: Sequence[Calendar],
        one_hot: Sequence[tuple[int, int]],
        statistics: TargetStatistics | None,
    ) -> None:
        """Create the encoding.

        Args:
            numeric: positions of columns that are passed through.
            calendars: the columns of dates.
            one_hot: positions of columns of categories, with the number of their categories.
            statistics: of the other columns of categories.
        """
        super().__init__()
        self.register_buffer("numbers", torch.tensor(numeric, dtype=torch.long))
        pairs = [(position, word) for position, count in one_hot for word in range(count)]
        self.register_buffer("marked", torch.tensor([one for one, _ in pairs], dtype=torch.long))
        self.register_buffer("words", torch.tensor([float(word) for _, word in pairs]))
        self.calendars = list(calendars)
        self.statistics = statistics

    @property
    def encodes(self) -> bool:
        """Whether the numbers differ from the raw columns."""
        return bool(self.calendars) or len(self.marked) > 0 or self.statistics is not None

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[rows, columns]`` in raw units to ``[rows, encoded columns]``."""
        dtype = torch.float32
        blocks = [narrow(x.index_select(1, self.numbers), dtype)] if len(self.numbers) else []
        blocks += [calendar.find_ordinals(x, dtype) for calendar in self.calendars]
        if len(self.marked):
            blocks.append((x.index_select(1, self.marked) == self.words).to(dtype))
        if self.statistics is not None:
            blocks.append(self.statistics(x))
        return torch.cat(blocks, dim=1)

    def encode(self, x: Inputs) -> Float32s:
        """Encode rows in batches, without gradients."""
        with torch.no_grad():
            parts = [self(part) for part in torch.split(torch.from_numpy(x), _ROWS_PER_BATCH)]
        return np.asarray(torch.cat(parts).numpy(), dtype=np.float32)


@dataclass(frozen=True)
class FittedColumns:
    """The columns of trees, and those of the training set."""

    columns: TreeColumns
    training: Float32s
    """``[training rows, encoded columns]``; statistics are those of other rows."""


def fit_tree_columns(recipe: Recipe, x: Inputs, target: Floats | Ints) -> FittedColumns:
    """Fit the encoding of columns to the training set.

    Args:
        recipe: with the features.
        x: ``[rows, columns]`` in raw units, with positions of categories.
        target: ``[rows]``, values or positions of labels.
    """
    types = [feature.type for feature in recipe.features]
    words = [k for k, kind in enumerate(types) if kind == "category"]
    dates = [k for k, kind in enumerate(types) if kind == "datetime"]
    numeric = [k for k in range(len(types)) if k not in (*words, *dates)]
    # A date that is never filled has no parts.
    calendars = [
        Calendar(k, x[:, k].astype(np.float64)) for k in dates if not np.isnan(x[:, k]).all()
    ]
    one_hot = [(k, count_categories(x, k)) for k in words if recipe.task == "multiclass"]
    one_hot = [(k, count) for k, count in one_hot if count <= MAX_ONE_HOT]
    marked = {k for k, _ in one_hot}
    others = [k for k in words if k not in marked]
    if not others:
        columns = TreeColumns(numeric, calendars, one_hot, None)
        return FittedColumns(columns, columns.encode(x))
    labels = len(recipe.target.labels)
    fitted = fit_statistics(others, x, target, labels=labels, seed=recipe.seed)
    columns = TreeColumns(numeric, calendars, one_hot, fitted.lookup.float())
    encoded = columns.encode(x)
    encoded[:, encoded.shape[1] - fitted.lookup.width :] = fitted.out_of_fold
    return FittedColumns(columns, encoded)
