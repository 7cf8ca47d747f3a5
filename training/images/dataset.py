"""Decoded pictures: the same to the network whether they are in memory or on the disk."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Classes = npt.NDArray[np.int64]
Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class PictureSet:
    """Pictures with what they show."""

    store: Bytes
    """``[stored, height, width, channels]``, perhaps of more pictures than these."""
    target: Classes
    """``[pictures]``, positions of labels."""
    names: Sequence[str]
    """``[pictures]``, for people: the file, or the place in the data set."""
    labels: Sequence[str]
    places: Rows | None = None
    """``[pictures]``, where each lies in the store; None: all of it in order."""

    def __len__(self) -> int:
        return len(self.target)

    @property
    def classes(self) -> int:
        """How many classes there are, here or not."""
        return len(self.labels)

    def pixels(self, rows: Rows | slice) -> Bytes:
        """``[rows, height, width, channels]``, a copy."""
        places = np.arange(len(self)) if self.places is None else self.places
        return self.store[places[rows]]

    def chosen(self, rows: Rows) -> "PictureSet":
        """Some of them, in this order; the pixels stay where they are."""
        places = rows if self.places is None else self.places[rows]
        names = [self.names[row] for row in rows]
        return replace(self, target=self.target[rows], names=names, places=places)
