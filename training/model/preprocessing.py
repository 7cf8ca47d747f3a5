"""From raw columns to what a network sees: modules, and as such part of the exported graph."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from training.data.table import Column, Floats
from training.errors import DataError
from training.recipe import table as recipe
from training.recipe.table import ScalerKind

_ANGLES = [k * math.pi / 8 for k in (1, 2, 3, 5, 6, 7)]
"""Between the axes, which the columns are themselves."""
_LEAST_SCALE = 1e-30
"""A span below it is a constant column's rounding, and float32 could not divide by it."""


class Imputer(nn.Module):
    """Puts the training part's typical value where a number is missing."""

    fill: Tensor

    def __init__(self, fill: Floats) -> None:
        super().__init__()
        self.register_buffer("fill", torch.as_tensor(fill, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """``[rows, columns]``, NaN replaced."""
        return torch.where(torch.isnan(x), self.fill, x)


class Clipper(nn.Module):
    """Holds each column within bounds learned from the training part."""

    low: Tensor
    high: Tensor

    def __init__(self, low: Floats, high: Floats) -> None:
        super().__init__()
        self.register_buffer("low", torch.as_tensor(low, dtype=torch.float64))
        self.register_buffer("high", torch.as_tensor(high, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """``[rows, columns]`` in raw units, extremes moved to the bounds."""
        return torch.minimum(torch.maximum(x, self.low), self.high)


class OneHot(nn.Module):
    """A category's position becomes a column of ones and noughts for each word.

    A missing or unseen category is no word: all its columns are nought.
    """

    words: Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        self.register_buffer("words", torch.arange(count, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """``[rows]`` of positions to ``[rows, words]``."""
        return (x.unsqueeze(1) == self.words).to(x.dtype)


class Rotated(nn.Module):
    """Pairs of columns as they look from other angles, after the columns themselves.

    A network that sees each number in bins draws its lines along the axes. A coast runs slantwise:
    rotated coordinates let the same bins follow it.
    """

    first: Tensor
    second: Tensor

    def __init__(self, pairs: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.register_buffer("first", torch.tensor([pair[0] for pair in pairs]))
        self.register_buffer("second", torch.tensor([pair[1] for pair in pairs]))
        self.outputs = len(pairs) * len(_ANGLES)

    def forward(self, x: Tensor) -> Tensor:
        """``[rows, columns]``, scaled, to ``[rows, columns + outputs]``."""
        first, second = x.index_select(1, self.first), x.index_select(1, self.second)
        turns = [math.cos(angle) * first + math.sin(angle) * second for angle in _ANGLES]
        return torch.cat([x, *turns], dim=1)


class Scaler(nn.Module):
    """``(x - offset) / scale``, column by column; offset and scale in the column's own unit."""

    offset: Tensor
    scale: Tensor

    def __init__(self, offset: Floats, scale: Floats) -> None:
        super().__init__()
        self.register_buffer("offset", torch.as_tensor(offset, dtype=torch.float64))
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """``[rows, columns]`` in raw units to the same shape without units."""
        return (x - self.offset) / self.scale

    def inverse(self, z: Tensor) -> Tensor:
        """Back to raw units."""
        return z * self.scale + self.offset


class Preprocessing(nn.Module):
    """Numbers imputed, clipped and scaled; categories one-hot; and which values were missing.

    The columns come out in this order: numbers and booleans, rotated pairs, one block for each
    category, then one indicator for each column that had missing cells in the training part.
    """

    numbers: Tensor
    indicated: Tensor

    def __init__(
        self,
        steps: nn.Sequential,
        numeric: Sequence[int],
        categories: Sequence[tuple[int, int]],
        indicated: Sequence[int],
    ) -> None:
        super().__init__()
        self.steps = steps
        self.numeric = list(numeric)
        self.register_buffer("numbers", torch.tensor(numeric, dtype=torch.long))
        self.positions = [position for position, _ in categories]
        self.one_hots = nn.ModuleList(OneHot(words) for _, words in categories)
        self.register_buffer("indicated", torch.tensor(indicated, dtype=torch.long))
        turns = sum(step.outputs for step in steps if isinstance(step, Rotated))
        self.numbers_width = len(numeric) + turns

    def forward(self, x: Tensor) -> Tensor:
        """``[rows, columns]`` in raw units to ``[rows, width]`` without units."""
        blocks = [self.steps(self._numbers(x))] if self.numeric else []
        for position, one_hot in zip(self.positions, self.one_hots, strict=True):
            blocks.append(one_hot(x[:, position]))
        if len(self.indicated):
            blocks.append(torch.isnan(x.index_select(1, self.indicated)).to(x.dtype))
        return torch.cat(blocks, dim=1) if len(blocks) > 1 else blocks[0]

    def _numbers(self, x: Tensor) -> Tensor:
        """The columns that are no categories; where none is one, there is nothing to pick."""
        return x if len(self.numeric) == x.shape[1] else x.index_select(1, self.numbers)

    @property
    def scaler(self) -> Scaler | None:
        """The fitted scaler, where there are numbers to scale."""
        return next((step for step in self.steps if isinstance(step, Scaler)), None)


def fit_preprocessing(
    plan: recipe.Preprocessing, columns: Sequence[Column], training: npt.NDArray[np.float32]
) -> Preprocessing:
    """Learn the preprocessing from the training part and from nothing else.

    Args:
        plan: the recipe's wishes.
        columns: what each column is.
        training: ``[rows, columns]`` as `tabular.encode_features` gives it.

    Raises:
        DataError: a column has no value at all in the training part.
    """
    x = training.astype(np.float64)
    missing = np.isnan(x)
    for k, column in enumerate(columns):
        if missing[:, k].all():
            raise DataError(
                f"All training cells of {column.feature.name!r} are empty; leave the column out."
            )
    numeric = [k for k, column in enumerate(columns) if column.feature.type != "category"]
    categories = [
        (k, len(column.categories))
        for k, column in enumerate(columns)
        if column.feature.type == "category"
    ]
    indicated = [int(k) for k in np.flatnonzero(missing.any(axis=0))] if plan.add_indicator else []
    impute = any(columns[k].feature.optional for k in numeric)
    steps = _numeric_steps(plan, x[:, numeric], impute=impute) if numeric else nn.Sequential()
    if plan.rotated:
        place = {columns[k].feature.name: position for position, k in enumerate(numeric)}
        steps.append(Rotated([(place[first], place[second]) for first, second in plan.rotated]))
    return Preprocessing(steps, numeric, categories, indicated)


def _numeric_steps(plan: recipe.Preprocessing, x: Floats, *, impute: bool) -> nn.Sequential:
    fill = np.nanmedian(x, axis=0) if plan.impute == "median" else np.nanmean(x, axis=0)
    steps: list[nn.Module] = [Imputer(fill)] if impute else []
    if plan.clip > 0:
        low, high = np.nanquantile(x, [plan.clip, 1 - plan.clip], axis=0)
        steps.append(Clipper(low, high))
        x = np.clip(x, low, high)
    return nn.Sequential(*steps, fit_scaler(plan.scaler, x))


def fit_scaler(kind: ScalerKind, values: Floats) -> Scaler:
    """Learn a scaler from ``[rows, columns]``, passing over NaN; a constant column is not scaled.

    Args:
        kind: ``min-max`` maps the span to 0…1, ``standard`` gives mean 0 and deviation 1,
            ``mean`` subtracts the mean and divides by the span, ``robust`` subtracts the median
            and divides by the interquartile range, ``none`` leaves the values as they are.
        values: the training part in raw units.
    """
    offset, scale = _RULES[kind](values)
    return Scaler(offset, np.where(scale > _LEAST_SCALE, scale, 1.0))


def _span(x: Floats) -> Floats:
    return np.asarray(np.nanmax(x, axis=0) - np.nanmin(x, axis=0), dtype=np.float64)


def _mean(x: Floats) -> Floats:
    return np.asarray(np.nanmean(x, axis=0), dtype=np.float64)


def _robust(x: Floats) -> tuple[Floats, Floats]:
    low, middle, high = np.nanquantile(x, [0.25, 0.5, 0.75], axis=0)
    # A column that is mostly one value has no interquartile range; its deviation still scales it.
    return middle, np.where(high > low, high - low, np.nanstd(x, axis=0))


_RULES: dict[ScalerKind, Callable[[Floats], tuple[Floats, Floats]]] = {
    "min-max": lambda x: (np.nanmin(x, axis=0), _span(x)),
    "standard": lambda x: (_mean(x), np.nanstd(x, axis=0)),
    "mean": lambda x: (_mean(x), _span(x)),
    "robust": _robust,
    "none": lambda x: (np.zeros(x.shape[1]), np.ones(x.shape[1])),
}
