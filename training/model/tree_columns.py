"""From raw columns to the numbers that trees read, as a module that is part of the graph."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from service.predictions import Ints
from training.data.table import Float32s, Floats, Inputs
from training.model.calendar import Calendar, find_parts
from training.model.preprocessing import ANGLES, MAX_ONE_HOT, OneHotColumns, fit_scaler, narrow
from training.model.statistics import TargetStatistics, count_categories, fit_statistics
from training.recipe.table import Recipe

_ROWS_PER_BATCH = 65_536


class Coordinates(nn.Module):
    """Rotated copies of pairs of numbers, such as longitude and latitude.

    Trees have boundaries along the columns; rotated coordinates add other directions.
    """

    positions: Tensor
    offset: Tensor
    turns: Tensor

    def __init__(self, pairs: Sequence[tuple[int, int]], training: Inputs) -> None:
        """Scale the columns of each pair by the training set, ``[rows, columns]``."""
        super().__init__()
        positions = [position for pair in pairs for position in pair]
        scaler = fit_scaler("standard", training[:, positions].astype(np.float64))
        turns = np.zeros((len(positions), len(pairs) * len(ANGLES)))
        for k in range(len(pairs)):
            columns = slice(k * len(ANGLES), (k + 1) * len(ANGLES))
            turns[2 * k, columns], turns[2 * k + 1, columns] = np.cos(ANGLES), np.sin(ANGLES)
        self.register_buffer("positions", torch.tensor(positions, dtype=torch.long))
        self.register_buffer("offset", scaler.offset)
        # A matrix, since the exporter writes single numbers in 32 bits.
        self.register_buffer("turns", torch.from_numpy(turns) / scaler.scale[:, None])

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[rows, columns]`` in raw units to the rotated columns, in 64 bits."""
        return (x.index_select(1, self.positions).double() - self.offset) @ self.turns


class TreeColumns(nn.Module):
    """Passes numbers through, and encodes categories and dates.

    Output columns, in 32 bits: numbers and booleans, parts of dates, rotated pairs of numbers,
    one-hot columns of categories, statistics of other categories.
    """

    numbers: Tensor

    def __init__(
        self,
        numeric: Sequence[int],
        calendars: Sequence[Calendar],
        one_hot: Sequence[tuple[int, int]],
        statistics: TargetStatistics | None,
        coordinates: Coordinates | None = None,
    ) -> None:
        """Create the encoding.

        Args:
            numeric: positions of columns that are passed through.
            calendars: the columns of dates.
            one_hot: positions of columns of categories, with the number of their categories.
            statistics: of the other columns of categories.
            coordinates: pairs of numbers, of which rotated copies are added.
        """
        super().__init__()
        self.register_buffer("numbers", torch.tensor(numeric, dtype=torch.long))
        self.one_hot = OneHotColumns([(k, range(count)) for k, count in one_hot]).float()
        self.calendars = list(calendars)
        self.statistics = statistics
        self.coordinates = coordinates

    @property
    def encodes(self) -> bool:
        """Whether the numbers differ from the raw columns."""
        modules = (self.statistics, self.coordinates)
        return bool(self.calendars) or self.one_hot.width > 0 or any(modules)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[rows, columns]`` in raw units to ``[rows, encoded columns]``."""
        dtype = torch.float32
        blocks = [narrow(x.index_select(1, self.numbers), dtype)] if len(self.numbers) else []
        if self.calendars:
            blocks.append(find_parts(self.calendars, x).to(dtype))
        if self.coordinates is not None:
            blocks.append(self.coordinates(x).to(dtype))
        if self.one_hot.width:
            blocks.append(self.one_hot(x))
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
    filled = [k for k in dates if not np.isnan(x[:, k]).all()]
    calendars = [
        Calendar(k, x[:, k].astype(np.float64), trend=recipe.features[k].trend) for k in filled
    ]
    calendars = [calendar for calendar in calendars if calendar.parts]
    names = [feature.name for feature in recipe.features]
    pairs = [(names.index(a), names.index(b)) for a, b in recipe.preprocessing.rotated]
    coordinates = Coordinates(pairs, x) if pairs else None
    one_hot = [(k, count_categories(x, k)) for k in words if recipe.task == "multiclass"]
    one_hot = [(k, count) for k, count in one_hot if count <= MAX_ONE_HOT]
    marked = {k for k, _ in one_hot}
    others = [k for k in words if k not in marked]
    if not others:
        columns = TreeColumns(numeric, calendars, one_hot, None, coordinates)
        return FittedColumns(columns, columns.encode(x))
    labels = len(recipe.target.labels)
    fitted = fit_statistics(others, x, target, labels=labels, seed=recipe.seed)
    columns = TreeColumns(numeric, calendars, one_hot, fitted.lookup.float(), coordinates)
    encoded = columns.encode(x)
    encoded[:, encoded.shape[1] - fitted.lookup.width :] = fitted.out_of_fold
    return FittedColumns(columns, encoded)
