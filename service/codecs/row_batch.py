"""Some rows of a table: their numbers, or what is wrong with each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from service.errors import InvalidInput, OnwardError, Problem

Matrix = npt.NDArray[np.float32]

# A row of two bytes may lack a thousand features.
_MOST_PROBLEMS = 10


@dataclass(frozen=True)
class Fault:
    """Why one row has no prediction."""

    sentence: str
    code: str
    problems: Sequence[Problem] = ()

    @classmethod
    def of(cls, error: OnwardError, place: str) -> "Fault":
        """The same error as that of a row.

        Args:
            error: about one row alone.
            place: of the row, such as "Line 7".
        """
        problems = error.problems if isinstance(error, InvalidInput) else ()
        shown = problems[:_MOST_PROBLEMS]
        text = " ".join([_whole(problem) for problem in shown] or [str(error)])
        if isinstance(error, InvalidInput) and error.count > len(shown):
            text += f" And {error.count - len(shown)} more problems."
        return cls(f"{place}: {text[0].lower()}{text[1:]}", error.code, shown)


@dataclass(frozen=True)
class Block:
    """Rows that came one after the other.

    ``numbers`` is ``[rows, columns]``, checked; those of a row with a fault mean nothing.
    ``lines`` are their line numbers in the file, from 1.
    ``cells`` are the rows as they came and without their line ends, where they were cells.
    """

    numbers: Matrix
    faults: Mapping[int, Fault]
    lines: Sequence[int]
    cells: Sequence[str] | None = None


class Reader(Protocol):
    """Rows of one format, taken from bytes as they arrive."""

    @property
    def line(self) -> int:
        """The line that is read next, from 1."""

    def feed(self, data: bytes) -> None:
        """Take in what has arrived."""

    def end(self) -> None:
        """Nothing more will arrive."""

    def take(self, most: int) -> Block | None:
        """The next rows that have arrived whole, at most so many; None where there is none.

        Raises:
            RecordTooLarge: the next one is.
        """


def _whole(problem: Problem) -> str:
    return problem.sentence if problem.hint is None else f"{problem.sentence} {problem.hint}"
