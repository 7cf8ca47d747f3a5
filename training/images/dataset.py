"""Decoded images, in memory or in a memory-mapped file."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from training.data.table import Rows

Bytes = npt.NDArray[np.uint8]
Classes = npt.NDArray[np.int64]


def choose_evenly_spaced(rows: int, most: int) -> Rows:
    """Return at most ``most`` evenly spaced positions of this many rows."""
    return np.unique(np.linspace(0, rows - 1, min(rows, most)).astype(np.intp))


@dataclass(frozen=True)
class ImageSet:
    """Images with their labels."""

    store: Bytes
    """``[stored, height, width, channels]``; may contain more images than this set."""
    target: Classes
    """``[images]``, positions of labels."""
    names: Sequence[str]
    """``[images]``, the file of each image, or its position in the data set."""
    labels: Sequence[str]
    positions: Rows | None = None
    """``[images]``, the index of each image in the store; None: all, in order."""

    def __len__(self) -> int:
        return len(self.target)

    @property
    def classes(self) -> int:
        """The number of classes, including those without an image in this set."""
        return len(self.labels)

    def pixels(self, rows: Rows | slice) -> Bytes:
        """Copy the pixels of some rows, ``[rows, height, width, channels]``."""
        positions = np.arange(len(self)) if self.positions is None else self.positions
        return self.store[positions[rows]]

    def subset(self, rows: Rows) -> "ImageSet":
        """Return a subset in this order, over the same store."""
        positions = rows if self.positions is None else self.positions[rows]
        names = [self.names[row] for row in rows]
        return replace(self, target=self.target[rows], names=names, positions=positions)
