"""Scalers: fitted in numpy, applied as a module whose buffers are plain numbers."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from training.data.table import Floats
from training.recipe.table import ScalerKind

_LEAST_SCALE = 1e-30
"""A span below it is a constant column's rounding, and float32 could not divide by it."""


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
