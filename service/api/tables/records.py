"""Records of a CSV file that hold quotes: a cell may have the separator, and line ends, in it."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from service.api.tables.lines import Lines


class _StarvedError(Exception):
    """A record goes on in a line that has not arrived."""


@dataclass(frozen=True)
class Record:
    """One row: its cells, its text without the last line end, and the line where it begins.

    A record that cannot be cut into cells has a ``fault`` instead.
    """

    cells: Sequence[str]
    text: str
    line: int
    fault: str | None = None


class Records:
    """Takes records from lines, as the csv module reads them."""

    def __init__(self, lines: Lines, separator: str) -> None:
        self._lines = lines
        self._separator = separator
        self._next = 0

    def take(self, most: int) -> list[Record]:
        """The next records that have arrived whole, at most so many; empty lines are none."""
        taken: list[Record] = []
        reader = csv.reader(self, delimiter=self._separator, strict=True)
        while len(taken) < most:
            start = self._next
            try:
                cells = next(reader)
            except _StarvedError:
                self._next = start
                break
            except StopIteration:
                break
            except csv.Error as error:
                # One line is lost, and what a quote has swallowed after it is read again.
                self._next = start + 1
                reader = csv.reader(self, delimiter=self._separator, strict=True)
                taken.append(self._record([], start, _fault(str(error))))
                continue
            if cells:
                taken.append(self._record(cells, start))
        self._lines.take(self._next)
        self._next = 0
        return taken

    def __iter__(self) -> Self:
        """The lines, as the csv module asks for them."""
        return self

    def __next__(self) -> str:
        if self._next < len(self._lines.waiting):
            self._next += 1
            return self._lines.waiting[self._next - 1] + "\n"
        if self._lines.ended:
            raise StopIteration
        raise _StarvedError

    def _record(self, cells: Sequence[str], start: int, fault: str | None = None) -> Record:
        text = "\n".join(self._lines.waiting[start : self._next]).removesuffix("\r")
        return Record(cells, text, self._lines.taken + start + 1, fault)


def _fault(reason: str) -> str:
    """What is wrong with a record, from what the csv module says of it."""
    if "unexpected end" in reason or "field limit" in reason:
        return "a quote is opened here and never closed; close it, or write it twice."
    return "a quote stands inside a cell in quotes; write it twice there."
