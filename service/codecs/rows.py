"""Decode rows of JSON values one by one, and find what is wrong with them.

`service.codecs.messages` writes messages only for the problems that are reported; the others are
counted, so that a body full of mistakes costs little more than its parsing.
"""

import math
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import orjson

from service.bundle.features import (
    UNSEEN,
    WHOLE_MAX,
    BooleanFeature,
    CategoryFeature,
    Datatype,
    DatetimeFeature,
    Feature,
    IntegerFeature,
    NumericalFeature,
    TextFeature,
)
from service.codecs.messages import ProblemCollector, missing_problem, type_problem, unknown_problem
from service.errors import Problem
from service.freetext import normalize_text
from service.spelling import closest_name
from service.tabletext import lower_words, missing_words
from service.timetext import DatetimeFormat, parse_datetime
from service.values import (
    find_word,
    format_value,
    is_integer,
    is_number,
    join_values,
    prefix_row,
    suggest_closest,
)

_MAX_LAYOUTS = 256
# A search for a near name costs more than a whole row.
_MAX_SEARCHES = 10

Convert = Callable[[object], float | None]
TypeProblem = Callable[[Feature, object, int | None], Problem]


@dataclass(frozen=True)
class RowKeys:
    """The columns that the keys of a row name, and the mistakes in the keys.

    ``suggestions`` are the features that unknown keys probably mean.
    """

    columns: Sequence[int]
    unknown: Sequence[str] = ()
    missing: Sequence[int] = ()
    suggestions: Mapping[str, str] = field(default_factory=dict)


class FeatureSchema:
    """The features of a model, indexed for decoding rows."""

    def __init__(self, features: Sequence[Feature], datatype: Datatype = "FP32") -> None:
        self.features = features
        self.names = [feature.name for feature in features]
        self.positions = {name: column for column, name in enumerate(self.names)}
        self.required = [i for i, feature in enumerate(features) if not feature.optional]
        self.all = RowKeys(range(len(features)))
        self.converts: list[Callable[[object], Any]] = [
            create_text_converter(feature)
            if isinstance(feature, TextFeature)
            else create_converter(feature, datatype)
            for feature in features
        ]
        self.example = {feature.name: feature.example for feature in features}
        """A valid row."""


class RowDecoder:
    """Decodes the rows of one request.

    ``describe_type`` describes a value of the wrong type.
    """

    def __init__(self, schema: FeatureSchema, describe_type: TypeProblem = type_problem) -> None:
        self._schema = schema
        self._describe_type = describe_type
        self._layouts: dict[tuple[str, ...], RowKeys] = {}
        self._searches = _MAX_SEARCHES
        self._blank = [math.nan] * len(schema.features)

    def decode(
        self, rows: Sequence[object], start: int | None, found: ProblemCollector
    ) -> list[Sequence[Any]]:
        """Return the numbers and texts of the rows; a value that is missing or invalid is NaN.

        Args:
            rows: JSON values.
            start: the number of the first row; None if the request has only one.
            found: collects the problems.
        """
        numbers: list[Sequence[Any]] = []
        for index, row in enumerate(rows):
            number = None if start is None else start + index
            layout = self._layout(row, found)
            if layout is None:
                found.add(1, [self._shape_problem(row, number)] if found.remaining else ())
            numbers.append(
                self._blank if layout is None else self._cells(row, layout, number, found)
            )
        return numbers

    def _cells(
        self,
        row: Any,  # noqa: ANN401 - JSON is any of its types
        layout: RowKeys,
        number: int | None,
        found: ProblemCollector,
    ) -> Sequence[Any]:
        wrong: list[int] = []
        cells = self._blank
        if layout.columns:
            cells = cells.copy()
            keys = self._schema.names if isinstance(row, dict) else range(len(row))
            for column in layout.columns:
                value = self._schema.converts[column](row[keys[column]])
                if value is None:
                    wrong.append(column)
                else:
                    cells[column] = value
        if count := len(layout.unknown) + len(layout.missing) + len(wrong):
            problems = self._problems(row, layout, wrong, number) if found.remaining else ()
            found.add(count, problems)
        return cells

    def _problems(
        self,
        row: Any,  # noqa: ANN401 - JSON is any of its types
        layout: RowKeys,
        wrong: Sequence[int],
        number: int | None,
    ) -> Iterator[Problem]:
        features = self._schema.features
        for key in layout.unknown:
            advice = suggest_closest(layout.suggestions.get(key), self._schema.names)
            yield unknown_problem(key, row[key], advice, number)
        for column in layout.missing:
            yield missing_problem(features[column], number)
        for column in wrong:
            value = row[self._schema.names[column] if isinstance(row, dict) else column]
            yield self._describe_type(features[column], value, number)

    def _layout(self, row: object, found: ProblemCollector) -> RowKeys | None:
        """Return the layout of a row's keys; None if it is no object and no array of this width."""
        if isinstance(row, list):
            return self._schema.all if len(row) == len(self._blank) else None
        if not isinstance(row, dict):
            return None
        keys = tuple(row)
        layout = self._layouts.get(keys)
        if layout is None:
            layout = self._find_columns(row, search=found.remaining > 0)
            if len(self._layouts) < _MAX_LAYOUTS:
                self._layouts[keys] = layout
        return layout

    def _find_columns(self, row: Mapping[str, object], *, search: bool) -> RowKeys:
        names, positions = self._schema.names, self._schema.positions
        columns = [positions[key] for key in row if key in positions]
        missing = [column for column in self._schema.required if names[column] not in row]
        unknown = [key for key in row if key not in positions]
        lacking = {names[column]: column for column in missing}
        suggestions = {}
        for key in unknown[: self._searches if search else 0]:
            close = closest_name(key, lacking) or closest_name(key, names)
            if close is not None:
                lacking.pop(close, None)  # a misspelled key is one mistake, not two
                suggestions[key] = close
            self._searches -= 1
        return RowKeys(columns, unknown, list(lacking.values()), suggestions)

    def _shape_problem(self, row: object, number: int | None) -> Problem:
        got = format_value(row)
        if isinstance(row, list):
            got = f"{len(row)} value{'' if len(row) == 1 else 's'}"
        expected = f"an object with {join_values(self._schema.names)}"
        sentence = f"expected {expected}, got {got}."
        hint = f"Send for example {orjson.dumps(self._schema.example).decode()}"
        return Problem(
            prefix_row(number, sentence), number, None, expected, format_value(row), hint
        )


def create_converter(feature: NumericalFeature, datatype: Datatype = "FP32") -> Convert:
    """Return a function from JSON values to numbers; it returns None for values of other types.

    ``datatype`` is that of the graph's input, which the numbers must fit.
    """
    is_wide = datatype == "FP64"
    if isinstance(feature, CategoryFeature):
        convert = _category_converter(feature)
    elif isinstance(feature, BooleanFeature):
        convert = _boolean
    elif isinstance(feature, DatetimeFeature):
        missing = lower_words(missing_words(feature.missing)) if feature.optional else ()
        convert = partial(_datetime, text_format=feature.format, missing=missing)
    elif isinstance(feature, IntegerFeature):
        convert = _wide_integer if is_wide else _integer
    else:
        convert = _wide_number if is_wide else _number
    if not feature.optional:
        return convert
    return lambda value: math.nan if value is None else convert(value)


def create_text_converter(feature: TextFeature) -> Callable[[object], str | None]:
    """Return a function from JSON values to normalized text; None for values of other types.

    A missing text is the empty string, or None if the feature is required.
    """
    missing, absent = missing_words(feature.missing), "" if feature.optional else None

    def convert(value: object) -> str | None:
        # A table may have written a number in a column of text.
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = str(int(value) if is_integer(value) else value)
        if value is None:
            return absent
        if not isinstance(value, str):
            return None
        return absent if value.strip() in missing else normalize_text(value)

    return convert


def _category_converter(feature: CategoryFeature) -> Convert:
    positions = {word: float(position) for position, word in enumerate(feature.categories)}
    unseen = UNSEEN if feature.unseen == "other" else None
    missing, absent = missing_words(feature.missing), math.nan if feature.optional else None

    def convert(value: object) -> float | None:
        # Categories are words in the manifest, but a table may have written them as numbers.
        # JSON has no difference between 1 and 1.0, and pandas sends 1.0 if values are missing.
        if isinstance(value, int | float) and not isinstance(value, bool) and is_integer(value):
            value = str(int(value))
        if not isinstance(value, str):
            return None
        word = find_word(value, positions, missing)
        return absent if word is None else positions.get(word, unseen)

    return convert


def _datetime(value: object, text_format: DatetimeFormat, missing: Collection[str]) -> float | None:
    """Return days since 1970-01-01, which may also be sent as a number; NaN for a missing word."""
    if isinstance(value, str):
        text = value.strip()
        return math.nan if text.lower() in missing else parse_datetime(text, text_format)
    return _wide_number(value)


def _boolean(value: object) -> float | None:
    return float(value) if isinstance(value, bool | int | float) and value in (0, 1) else None


def _number(value: object) -> float | None:
    return float(value) if is_number(value) else None


def _integer(value: object) -> float | None:
    """Return a number; None also for a fraction that rounding to 32 bits would make whole."""
    if not is_number(value) or abs(value) > WHOLE_MAX:
        return None
    is_hidden = not is_integer(value) and is_integer(float(np.float32(value)))
    return None if is_hidden else float(value)


def _wide_number(value: object) -> float | None:
    return float(value) if is_number(value, sys.float_info.max) else None


def _wide_integer(value: object) -> float | None:
    return float(value) if is_number(value, WHOLE_MAX) else None
