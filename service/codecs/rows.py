"""Rows as people send them: JSON values to the graph's numbers, and what cannot be read.

A problem is only counted here. `service.codecs.messages` writes the sentences of those that are
reported, so that a body of nothing but mistakes costs little more than its parsing.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from service.bundle.features import BooleanFeature, CategoryFeature, Feature, IntegerFeature
from service.codecs.messages import Findings, misfit_problem, missing_problem, unknown_problem
from service.errors import Problem
from service.spelling import nearest
from service.values import WHOLE_MAX, at, becomes_whole, is_number, listed, shown

UNSEEN = -1.0
_MOST_LAYOUTS = 256
# A search for a near name costs more than a whole row.
_MOST_SEARCHES = 10
_MOST_LETTERS = 100

Convert = Callable[[object], float | None]
Misfit = Callable[[Feature, object, int | None], Problem]


@dataclass(frozen=True)
class Layout:
    """What the keys of a row are: the columns given, and the mistakes in the keys alone."""

    given: Sequence[int]
    unknown: Sequence[str] = ()
    missing: Sequence[int] = ()
    meant: Mapping[str, str] = field(default_factory=dict)

    @property
    def mistakes(self) -> int:
        """How many problems the keys make."""
        return len(self.unknown) + len(self.missing)


class Columns:
    """The features of a table, as a reader of rows needs them."""

    def __init__(self, features: Sequence[Feature]) -> None:
        self.features = features
        self.names = [feature.name for feature in features]
        self.places = {name: column for column, name in enumerate(self.names)}
        self.required = [i for i, feature in enumerate(features) if not feature.optional]
        self.all = Layout(range(len(features)))
        self.converts = [_converter(feature) for feature in features]

    @property
    def example(self) -> dict[str, object]:
        """A row that the table takes."""
        return {feature.name: feature.example for feature in self.features}


class RowReader:
    """Reads the rows of one request.

    Args:
        columns: that the rows have.
        misfit: says what is wrong with a value that is not of its feature's kind.
    """

    def __init__(self, columns: Columns, misfit: Misfit = misfit_problem) -> None:
        self._columns = columns
        self._misfit = misfit
        self._layouts: dict[tuple[str, ...], Layout] = {}
        self._searches = _MOST_SEARCHES
        self._blank = [math.nan] * len(columns.features)

    def read(
        self, rows: Sequence[object], start: int | None, found: Findings
    ) -> list[Sequence[float]]:
        """The rows' numbers, NaN where one is missing or cannot be read.

        Args:
            rows: what was sent.
            start: the number of the first row, or None where there is only one.
            found: takes what is wrong.
        """
        numbers = []
        for index, row in enumerate(rows):
            place = None if start is None else start + index
            layout = self._layout(row, found)
            if layout is None:
                found.add(1, [self._shape_problem(row, place)] if found.room else ())
            numbers.append(
                self._blank if layout is None else self._cells(row, layout, place, found)
            )
        return numbers

    def _cells(
        self,
        row: Any,  # noqa: ANN401 - JSON is any of its types
        layout: Layout,
        place: int | None,
        found: Findings,
    ) -> Sequence[float]:
        """An object's or an array's cells, in the features' order."""
        wrong: list[int] = []
        cells = self._blank
        if layout.given:
            cells = cells.copy()
            keys = self._columns.names if isinstance(row, dict) else range(len(row))
            for column in layout.given:
                number = self._columns.converts[column](row[keys[column]])
                if number is None:
                    wrong.append(column)
                else:
                    cells[column] = number
        if count := layout.mistakes + len(wrong):
            found.add(count, self._problems(row, layout, wrong, place) if found.room else ())
        return cells

    def _problems(
        self,
        row: Any,  # noqa: ANN401 - JSON is any of its types
        layout: Layout,
        wrong: Sequence[int],
        place: int | None,
    ) -> Iterator[Problem]:
        features = self._columns.features
        for key in layout.unknown:
            close = layout.meant.get(key)
            names = self._columns.names
            advice = f"did you mean {close!r}?" if close else f"it takes {listed(names)}."
            yield unknown_problem(key, row[key], advice, place)
        for column in layout.missing:
            yield missing_problem(features[column], place)
        for column in wrong:
            value = row[self._columns.names[column] if isinstance(row, dict) else column]
            yield self._misfit(features[column], value, place)

    def _layout(self, row: object, found: Findings) -> Layout | None:
        """What a row's keys are; None where it is neither an object nor an array of its width."""
        if isinstance(row, list):
            return self._columns.all if len(row) == len(self._blank) else None
        if not isinstance(row, dict):
            return None
        keys = tuple(row)
        layout = self._layouts.get(keys)
        if layout is None:
            layout = self._laid_out(row, search=found.room > 0)
            if len(self._layouts) < _MOST_LAYOUTS:
                self._layouts[keys] = layout
        return layout

    def _laid_out(self, row: Mapping[str, object], *, search: bool) -> Layout:
        names, places = self._columns.names, self._columns.places
        given = [places[key] for key in row if key in places]
        missing = [column for column in self._columns.required if names[column] not in row]
        unknown = [key for key in row if key not in places]
        lacking = {names[column]: column for column in missing}
        meant = {}
        for key in unknown[: self._searches if search else 0]:
            word = key[:_MOST_LETTERS]
            close = nearest(word, lacking) or nearest(word, names)
            if close is not None:
                lacking.pop(close, None)  # a misspelt key is one mistake, not two
                meant[key] = close
            self._searches -= 1
        return Layout(given, unknown, list(lacking.values()), meant)

    def _shape_problem(self, row: object, place: int | None) -> Problem:
        what = f"{len(row)} values" if isinstance(row, list) else shown(row)
        expected = f"an object with {listed(self._columns.names)}"
        sentence = f"expected {expected}, got {what}."
        hint = f"Send for example {orjson.dumps(self._columns.example).decode()}"
        return Problem(at(place, sentence), place, None, expected, shown(row), hint)


def _converter(feature: Feature) -> Convert:
    """What makes the graph's number of a JSON value, or None of one of another kind."""
    if isinstance(feature, CategoryFeature):
        convert = _category_converter(feature)
    elif isinstance(feature, BooleanFeature):
        convert = _flag
    elif isinstance(feature, IntegerFeature):
        convert = _whole
    else:
        convert = _number
    if not feature.optional:
        return convert
    return lambda value: math.nan if value is None else convert(value)


def _category_converter(feature: CategoryFeature) -> Convert:
    positions = {word: float(place) for place, word in enumerate(feature.categories)}
    unseen = UNSEEN if feature.unseen == "other" else None

    def convert(value: object) -> float | None:
        # Categories are words in the manifest; a table may well have written them as numbers.
        # JSON does not tell 1 from 1.0, and clients that know missing values send the latter.
        if isinstance(value, int | float) and not isinstance(value, bool) and value % 1 == 0:
            value = str(int(value))
        return positions.get(value, unseen) if isinstance(value, str) else None

    return convert


def _flag(value: object) -> float | None:
    return float(value) if isinstance(value, bool | int | float) and value in (0, 1) else None


def _number(value: object) -> float | None:
    return float(value) if is_number(value) else None


def _whole(value: object) -> float | None:
    if not is_number(value) or abs(value) > WHOLE_MAX or becomes_whole(value):
        return None
    return float(value)
