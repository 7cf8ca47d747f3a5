"""From raw columns to network inputs: modules, so that they are part of the exported graph."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from training.data.table import Column, Floats, Inputs
from training.errors import DataError
from training.model.calendar import CYCLES, NUMBERS, Calendar, find_parts, list_parts
from training.model.statistics import FittedStatistics, TargetStatistics
from training.recipe import table as recipe
from training.recipe.table import ScalerKind

ANGLES = [k * math.pi / 8 for k in (1, 2, 3, 5, 6, 7)]
"""By which pairs of columns are rotated; without 0 and π/2, which are the columns themselves."""
# A column of more kinds has the statistics of the target.
MAX_ONE_HOT = 100
# A smaller span is the rounding of a constant column; float32 could not divide by it.
_MIN_SCALE = 1e-30


class Imputer(nn.Module):
    """Replaces missing numbers by a statistic of the training set."""

    fill: Tensor

    def __init__(self, fill: Floats) -> None:
        super().__init__()
        self.register_buffer("fill", torch.as_tensor(fill, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """Replace NaN in ``[rows, columns]``."""
        return torch.where(torch.isnan(x), self.fill, x)


class Clipper(nn.Module):
    """Clips each column to quantiles of the training set."""

    low: Tensor
    high: Tensor

    def __init__(self, low: Floats, high: Floats) -> None:
        super().__init__()
        self.register_buffer("low", torch.as_tensor(low, dtype=torch.float64))
        self.register_buffer("high", torch.as_tensor(high, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """Clip ``[rows, columns]`` in raw units."""
        return torch.minimum(torch.maximum(x, self.low), self.high)


class OneHotColumns(nn.Module):
    """One-hot encoding of several columns at once: of positions of categories or parts of dates.

    Missing and unseen values have zeros in all columns.
    """

    marked: Tensor
    words: Tensor

    def __init__(self, columns: Sequence[tuple[int, Sequence[float]]]) -> None:
        """Create the encoding of columns, each with its known values."""
        super().__init__()
        pairs = [(position, word) for position, words in columns for word in words]
        self.register_buffer("marked", torch.tensor([one for one, _ in pairs], dtype=torch.long))
        # The exported graph has this name.
        words = torch.tensor([word for _, word in pairs], dtype=torch.float64)
        self.register_buffer("words", words)
        self.width = len(pairs)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[rows, columns]`` to ``[rows, width]``; there must be one value at least."""
        words = self.words
        return (x.index_select(1, self.marked).to(words.dtype) == words).to(words.dtype)


class RotatedColumns(nn.Module):
    """Appends rotated copies of pairs of columns.

    A network over binned numbers has decision boundaries along the axes. Rotated coordinates add
    other directions, for example along a coast.
    """

    first: Tensor
    second: Tensor

    def __init__(self, pairs: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.register_buffer("first", torch.tensor([pair[0] for pair in pairs]))
        self.register_buffer("second", torch.tensor([pair[1] for pair in pairs]))
        self.outputs = len(pairs) * len(ANGLES)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[rows, columns]``, scaled, to ``[rows, columns + outputs]``."""
        first, second = x.index_select(1, self.first), x.index_select(1, self.second)
        turns = [math.cos(angle) * first + math.sin(angle) * second for angle in ANGLES]
        return torch.cat([x, *turns], dim=1)


class Scaler(nn.Module):
    """``(x - offset) / scale`` for each column; both are in the unit of the column."""

    offset: Tensor
    scale: Tensor

    def __init__(self, offset: Floats, scale: Floats) -> None:
        super().__init__()
        self.register_buffer("offset", torch.as_tensor(offset, dtype=torch.float64))
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[rows, columns]`` in raw units to the same shape, scaled."""
        return (x - self.offset) / self.scale

    def inverse(self, z: Tensor) -> Tensor:
        """Convert back to raw units."""
        return z * self.scale + self.offset


class Preprocessing(nn.Module):
    """Imputes, clips and scales numbers, encodes categories, and marks missing values.

    Output columns: numbers and booleans, numbers of dates, statistics of large categories, rotated
    pairs, one block per other category, sine and cosine of dates, one block per part of a date,
    then one indicator per column that had missing cells in the training set.
    """

    numbers: Tensor
    indicated: Tensor
    dated: Tensor
    cycles: Tensor
    working: Tensor

    def __init__(  # noqa: PLR0913 - the parts of the output
        self,
        steps: nn.Sequential,
        numeric: Sequence[int],
        categories: Sequence[tuple[int, int]],
        indicated: Sequence[int],
        *,
        calendars: Sequence[Calendar] = (),
        statistics: TargetStatistics | None = None,
        wide: bool = False,
    ) -> None:
        super().__init__()
        self.wide = wide
        self.steps = steps
        self.statistics = statistics
        self.numeric = list(numeric)
        self.register_buffer("numbers", torch.tensor(numeric, dtype=torch.long))
        self.one_hot = OneHotColumns([(k, range(count)) for k, count in categories])
        self.register_buffer("indicated", torch.tensor(indicated, dtype=torch.long))
        # Has the type in which numbers are scaled.
        self.register_buffer("working", torch.zeros((), dtype=torch.float64))
        self.calendars = [calendar for calendar in calendars if calendar.parts]
        dated = list_parts(self.calendars, NUMBERS)
        self.register_buffer("dated", torch.tensor(dated, dtype=torch.long))
        cycles = list_parts(self.calendars, CYCLES)
        self.register_buffer("cycles", torch.tensor(cycles, dtype=torch.long))
        groups = [values for calendar in self.calendars for values in calendar.groups.values()]
        positions = [k for k in range(len(dated) + len(groups)) if k not in dated]
        self.date_one_hot = OneHotColumns(list(zip(positions, groups, strict=True)))
        turns = sum(step.outputs for step in steps if isinstance(step, RotatedColumns))
        words = 0 if statistics is None else statistics.width
        self.numbers_width = len(numeric) + len(dated) + words + turns

    @property
    def input_dtype(self) -> torch.dtype:
        """The type of the graph's input; dates need 64 bits."""
        return torch.float64 if self.wide else torch.float32

    def forward(self, x: Tensor, out_of_fold: Tensor | None = None) -> Tensor:
        """Map ``[rows, columns]`` in raw units to ``[rows, width]``, scaled.

        Of the training set, the statistics are those of `FittedStatistics.out_of_fold`.
        """
        dtype = self.working.dtype
        numbers = [self._select_numbers(x)] if self.numeric else []
        dates = find_parts(self.calendars, x).to(dtype) if self.calendars else x
        if len(self.dated):
            numbers.append(dates.index_select(1, self.dated))
        if self.statistics is not None:
            numbers.append(self.statistics(x) if out_of_fold is None else out_of_fold.to(dtype))
        blocks = [self.steps(_join(numbers))] if numbers else []
        if self.one_hot.width:
            blocks.append(self.one_hot(x))
        if len(self.cycles):
            blocks.append(_compute_waves(dates.index_select(1, self.cycles)))
        if self.date_one_hot.width:
            blocks.append(self.date_one_hot(dates))
        if len(self.indicated):
            blocks.append(torch.isnan(x.index_select(1, self.indicated)).to(dtype))
        return _join(blocks)

    def _select_numbers(self, x: Tensor) -> Tensor:
        """Return the columns that are numbers, in the working type."""
        selected = x if len(self.numeric) == x.shape[1] else x.index_select(1, self.numbers)
        return narrow(selected, self.working.dtype)

    @property
    def scaler(self) -> Scaler | None:
        """The fitted scaler, if there are numbers to scale."""
        return next((step for step in self.steps if isinstance(step, Scaler)), None)


def _compute_waves(phases: Tensor) -> Tensor:
    """Return sine and cosine of each position in a period, zero where it is missing.

    The shape is ``[rows, 2 * periods]``.
    """
    angles = phases * (2 * math.pi)
    waves = torch.cat([torch.sin(angles), torch.cos(angles)], dim=1)
    waves = torch.where(torch.isnan(waves), 0.0, waves)
    periods = angles.shape[1]
    pairs = torch.arange(2 * periods).view(2, periods).T.flatten()
    return waves if periods == 1 else waves.index_select(1, pairs)


def _join(blocks: Sequence[Tensor]) -> Tensor:
    return torch.cat(tuple(blocks), dim=1) if len(blocks) > 1 else blocks[0]


def narrow(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert numbers; those that do not fit 32 bits become the largest ones that do."""
    if x.dtype == torch.float64 and dtype == torch.float32:
        largest = torch.tensor(torch.finfo(dtype).max, dtype=x.dtype)
        x = torch.minimum(torch.maximum(x, -largest), largest)
    return x.to(dtype)


def list_large_categories(columns: Sequence[Column]) -> list[int]:
    """Return the positions of the columns with more categories than one-hot columns."""
    return [k for k, column in enumerate(columns) if len(column.categories) > MAX_ONE_HOT]


def fit_preprocessing(
    plan: recipe.Preprocessing,
    columns: Sequence[Column],
    training: Inputs,
    statistics: FittedStatistics | None = None,
) -> Preprocessing:
    """Fit the preprocessing to the training set, ``[rows, columns]`` of `encode_features`.

    The statistics are those of `list_large_categories`. An optional column without a value in the
    training set is imputed with zero. Raise `DataError` if another one has no value.
    """
    x = training.astype(np.float64)
    missing = np.isnan(x)
    empty = np.asarray(missing.all(axis=0))
    for k, column in enumerate(columns):
        if empty[k] and not column.feature.optional:
            raise DataError(
                f"All training cells of {column.feature.name!r} are empty; leave the column out."
            )
    x[:, empty] = 0
    numeric = [
        k for k, column in enumerate(columns) if column.feature.type not in ("category", "datetime")
    ]
    calendars = [
        Calendar(k, x[:, k], trend=column.feature.trend)
        for k, column in enumerate(columns)
        if column.feature.type == "datetime" and not empty[k]
    ]
    categories = [
        (k, len(column.categories))
        for k, column in enumerate(columns)
        if column.feature.type == "category" and len(column.categories) <= MAX_ONE_HOT
    ]
    indicated = [int(k) for k in np.flatnonzero(missing.any(axis=0))] if plan.add_indicator else []
    dated = [calendar.position for calendar in calendars]
    impute = any(columns[k].feature.optional for k in (*numeric, *dated))
    dates = []
    if any(calendar.parts for calendar in calendars):
        found = find_parts(calendars, torch.from_numpy(x)).numpy()
        dates.append(found[:, list_parts(calendars, NUMBERS)])
    words = [] if statistics is None else [statistics.out_of_fold]
    numbers = np.hstack([x[:, numeric], *dates, *words])
    steps = _fit_numeric_steps(plan, numbers, impute=impute) if numbers.size else nn.Sequential()
    if plan.rotated:
        slots = {columns[k].feature.name: position for position, k in enumerate(numeric)}
        steps.append(
            RotatedColumns([(slots[first], slots[second]) for first, second in plan.rotated])
        )
    lookup = None if statistics is None else statistics.lookup
    return Preprocessing(
        steps,
        numeric,
        categories,
        indicated,
        calendars=calendars,
        statistics=lookup,
        wide=any(column.feature.type == "datetime" for column in columns),
    )


def _fit_numeric_steps(plan: recipe.Preprocessing, x: Floats, *, impute: bool) -> nn.Sequential:
    fill = np.nanmedian(x, axis=0) if plan.impute == "median" else np.nanmean(x, axis=0)
    steps: list[nn.Module] = [Imputer(fill)] if impute else []
    if plan.clip > 0:
        low, high = np.nanquantile(x, [plan.clip, 1 - plan.clip], axis=0)
        steps.append(Clipper(low, high))
        x = np.clip(x, low, high)
    return nn.Sequential(*steps, fit_scaler(plan.scaler, x))


def fit_scaler(kind: ScalerKind, values: Floats) -> Scaler:
    """Fit a scaler to ``[rows, columns]``, ignoring NaN; constant columns are not scaled.

    Args:
        kind: ``min-max`` maps the range to 0…1, ``standard`` gives mean 0 and deviation 1,
            ``mean`` subtracts the mean and divides by the range, ``robust`` subtracts the median
            and divides by the interquartile range, ``none`` leaves the values as they are.
        values: the training set in raw units.
    """
    offset, scale = _RULES[kind](values)
    return Scaler(offset, np.where(scale > _MIN_SCALE, scale, 1.0))


def _compute_range(x: Floats) -> Floats:
    return np.asarray(np.nanmax(x, axis=0) - np.nanmin(x, axis=0), dtype=np.float64)


def _compute_mean(x: Floats) -> Floats:
    return np.asarray(np.nanmean(x, axis=0), dtype=np.float64)


def _compute_median_and_range(x: Floats) -> tuple[Floats, Floats]:
    low, middle, high = np.nanquantile(x, [0.25, 0.5, 0.75], axis=0)
    # A column that is mostly one value has no interquartile range, but still a deviation.
    return middle, np.where(high > low, high - low, np.nanstd(x, axis=0))


_RULES: dict[ScalerKind, Callable[[Floats], tuple[Floats, Floats]]] = {
    "min-max": lambda x: (np.nanmin(x, axis=0), _compute_range(x)),
    "standard": lambda x: (_compute_mean(x), np.nanstd(x, axis=0)),
    "mean": lambda x: (_compute_mean(x), _compute_range(x)),
    "robust": _compute_median_and_range,
    "none": lambda x: (np.zeros(x.shape[1]), np.ones(x.shape[1])),
}
