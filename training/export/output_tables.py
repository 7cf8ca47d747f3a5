"""The outputs of an imported graph as tables, and which of them are probabilities."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from service.predictions import Ints
from training.onnx_files import Array

# Probabilities can be outside of 0 and 1 by rounding, and their sums off by more, in 16 bits.
_OUTSIDE = 1e-5
_OFF_ONE = 5e-3
_MOST_OFF_ONE = 0.25
# Quantized probabilities are multiples of at most a hundredth.
_LARGEST_STEP = 0.01
_OFF_STEP = 1e-3


@dataclass(frozen=True)
class OutputTables:
    """The outputs with one row for each row of the input, by name, as ``[rows, columns]``."""

    tables: Mapping[str, Array]

    def of(self, kinds: str, *, several: bool) -> list[str]:
        """Return the names of outputs of these kinds, with one column or with several."""
        return [
            name
            for name, table in self.tables.items()
            if table.dtype.kind in kinds and (table.shape[1] > 1) == several
        ]

    @cached_property
    def probabilities(self) -> list[str]:
        """The outputs whose rows sum to one, each of them once."""
        found: list[str] = []
        for name in self.of("f", several=True):
            table = self.tables[name]
            known = (np.array_equal(table, self.tables[other], equal_nan=True) for other in found)
            if are_probabilities(table) and not any(known):
                found.append(name)
        return found

    @cached_property
    def labels(self) -> list[str]:
        """The outputs of one word, whole number or boolean for each row.

        Next to probabilities also numbers that are positions of their columns.
        """
        count = max((self.tables[name].shape[1] for name in self.probabilities), default=0)
        positions = [
            name
            for name in self.of("f", several=False)
            if len(np.unique(self.tables[name])) > 1
            and np.isin(self.tables[name], np.arange(count)).all()
        ]
        return self.of("iuUOb", several=False) + positions

    @cached_property
    def scores(self) -> list[str]:
        """The outputs of several numbers for each row that are no probabilities."""
        return [name for name in self.of("f", several=True) if name not in self.probabilities]

    @cached_property
    def numbers(self) -> list[str]:
        """The outputs of one number for each row, without what probabilities already say."""
        columns = [column for name in self.probabilities for column in self.tables[name].T]
        return [
            name
            for name in self.of("f", several=False)
            if name not in self.labels
            and not any(
                np.array_equal(self.tables[name][:, 0], column, equal_nan=True)
                for column in columns
            )
        ]

    def describe(self, name: str) -> str:
        """Return the name with what the output is."""
        count = self.tables[name].shape[1]
        kind = (
            f"{count} probabilities"
            if name in self.probabilities
            else "a label"
            if name in self.labels
            else "one number"
            if count == 1
            else f"{count} numbers"
        )
        return f"{name!r} ({kind})"


def are_probabilities(table: Array) -> bool:
    """Return whether the rows of a table sum to one, as far as they are numbers.

    Last bits are tolerated, and the steps of quantized numbers.
    """
    table = table[~np.isnan(table).any(axis=1)].astype(np.float64)
    if not table.size:
        return True
    step = _find_step(table)
    outside = max(_OUTSIDE, step)
    if table.min() < -outside or table.max() > 1 + outside:
        return False
    error = np.abs(table.sum(axis=1) - 1).max()
    # Each number is off by a step at most, and so is one by which they may have been divided.
    return bool(error <= max(_OFF_ONE, min(step * (table.shape[1] + 1), _MOST_OFF_ONE)))


def find_other_sums(table: Array) -> Ints:
    """Return the rows whose numbers do not sum to one, or all rows if one is no share."""
    numbers = table.astype(np.float64)
    off = np.abs(numbers.sum(axis=1) - 1) > _OFF_ONE
    if numbers.min() < -_OUTSIDE or numbers.max() > 1 + _OUTSIDE:
        off[:] = True
    return np.flatnonzero(off)


def _find_step(table: Array) -> float:
    """Return the number that all numbers are multiples of, if they are quantized; else 0."""
    values = np.unique(table)
    if len(values) < 2:  # noqa: PLR2004 - a difference needs two
        return 0
    step = np.diff(values).min()
    multiples = values / step
    quantized = step <= _LARGEST_STEP and np.abs(multiples - multiples.round()).max() < _OFF_STEP
    return float(step) if quantized and step > _OUTSIDE else 0


def to_tables(outputs: Mapping[str, Array]) -> OutputTables:
    """Return the outputs that have a row for each row of the input."""
    arrays = {
        name: array
        for name, array in outputs.items()
        if isinstance(array, np.ndarray) and array.ndim and len(array)
    }
    lengths = Counter(len(array) for array in arrays.values())
    rows = lengths.most_common(1)[0][0] if lengths else 0
    return OutputTables(
        {
            name: array.reshape(rows, -1)
            for name, array in arrays.items()
            if array.size == rows * max(array.shape[1:], default=1) > 0
        }
    )
