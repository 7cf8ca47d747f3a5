"""Batches of a table's rows, and the interfaces of what reads and writes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from service.engine.tensors import Array
from service.errors import InvalidInput, OnwardError, Problem

Matrix = npt.NDArray[np.float32]

# A row of two bytes may lack a thousand features.
_MAX_PROBLEMS = 10


@dataclass(frozen=True)
class RowError:
    """Why one row has no prediction."""

    message: str
    code: str
    problems: Sequence[Problem] = ()

    @classmethod
    def of(cls, error: OnwardError, position: str) -> "RowError":
        """Return the error of a request with one row as the error of a row in a table.

        Args:
            error: about this row alone.
            position: of the row, such as "Line 7".
        """
        problems = error.problems if isinstance(error, InvalidInput) else ()
        reported = problems[:_MAX_PROBLEMS]
        text = " ".join([_with_hint(problem) for problem in reported] or [str(error)])
        if isinstance(error, InvalidInput) and error.count > len(reported):
            text += f" And {error.count - len(reported)} more problems."
        return cls(f"{position}: {text[0].lower()}{text[1:]}", error.code, reported)


@dataclass(frozen=True)
class RowBatch:
    """Consecutive rows of a table.

    ``matrix`` is ``[rows, columns]``, checked; the numbers of a row with an error are undefined.
    ``errors`` are by row of the batch, and ``line_numbers`` start at 1.
    ``texts`` are the rows of a CSV file without their line ends; None for other formats.
    """

    matrix: Matrix
    errors: Mapping[int, RowError]
    line_numbers: Sequence[int]
    texts: Sequence[str] | None = None


class TableReader(Protocol):
    """Decodes the rows of one format from bytes as they arrive."""

    @property
    def next_line(self) -> int:
        """The number of the next line to read, from 1."""

    def feed(self, data: bytes) -> None:
        """Append bytes that have arrived."""

    def end(self) -> None:
        """Mark the end of the table."""

    def take(self, most: int) -> RowBatch | None:
        """Return the next complete rows, at most ``most``; None if there is none yet.

        Raises:
            RecordTooLarge: the next row is longer than allowed.
        """


class TableWriter(Protocol):
    """Encodes predictions for the rows of a table in one format."""

    @property
    def media_type(self) -> str:
        """The media type of the output."""

    def start(self) -> bytes:
        """Return what precedes the first row."""

    def write(self, batch: RowBatch, scores: Array, warnings: Mapping[int, Sequence[str]]) -> bytes:
        """Return the rows of a batch.

        Args:
            batch: rows of the table.
            scores: the graph's output for the rows without an error, ``[rows, columns]``.
            warnings: by row of the batch.
        """

    def write_error(self, error: RowError) -> bytes:
        """Return a last row with the reason why no further row was scored."""

    def end(self) -> bytes:
        """Return what follows the last row."""


def _with_hint(problem: Problem) -> str:
    return problem.sentence if problem.hint is None else f"{problem.sentence} {problem.hint}"
