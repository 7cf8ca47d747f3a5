"""Messages about invalid rows, and the rows of a table with theirs.

Only the problems that are reported get a message.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import ceil, floor

import numpy as np
import numpy.typing as npt

from service.bundle.features import (
    WHOLE_MAX,
    BooleanFeature,
    CategoryFeature,
    DatetimeFeature,
    Feature,
    IntegerFeature,
    NumericalFeature,
    NumericFeature,
    Range,
    TextFeature,
)
from service.errors import PROBLEMS_SHOWN, InvalidInput, OnwardError, Problem
from service.records import SURROGATE
from service.spelling import LONGEST_WORD, closest_name, join_names
from service.tabletext import NumberFormat, plain_number
from service.timetext import TIME_OF_DAY, describe_format
from service.values import (
    LARGEST_WHOLE,
    format_number,
    format_value,
    is_integer,
    join_values,
    not_a_number,
    prefix_row,
)

Matrix = npt.NDArray[np.floating]
"""``[rows, columns]`` in the type of the graph's input, float32 or float64."""

_NOT_UTF8 = (
    "the row holds bytes that are not UTF-8; save the table in UTF-8, or name its encoding, for "
    "example Content-Type: text/csv; charset=windows-1252."
)
_NAME_SHOWN = 100
SURPLUS_SHOWN = 3
"""Surplus cells of a row that its message quotes."""
# A row of two bytes may lack a thousand features.
_MAX_ROW_PROBLEMS = 10


class ProblemCollector:
    """The first problems of a request, and the number of all."""

    def __init__(self, most: int = PROBLEMS_SHOWN) -> None:
        self._most = most
        self.problems: list[Problem] = []
        self.count = 0

    @property
    def remaining(self) -> int:
        """The number of further problems that will be reported."""
        return self._most - len(self.problems)

    def add(self, count: int, problems: Iterable[Problem]) -> None:
        """Count problems, and take those that will be reported."""
        self.count += count
        self.problems += islice(problems, self.remaining)

    def raise_any(self) -> None:
        """Raise `InvalidInput` if there are problems."""
        if self.count:
            raise InvalidInput(self.problems, self.count)


def describe(feature: Feature) -> str:
    """Describe the valid values of a feature."""
    if isinstance(feature, CategoryFeature):
        return f"one of {join_values(feature.categories)}" if feature.categories else "a string"
    if isinstance(feature, TextFeature):
        return "a string"
    if isinstance(feature, BooleanFeature):
        return "true or false"
    if isinstance(feature, DatetimeFeature):
        return describe_format(feature.format)
    kind = "a whole number" if isinstance(feature, IntegerFeature) else "a number"
    unit = f" ({feature.unit})" if feature.unit else ""
    allowed = feature.allowed or Range()
    low = high = ""
    if allowed.minimum is not None:
        low = f" from {format_number(allowed.minimum)}"
    if allowed.maximum is not None:
        high = f" {'to' if low else 'up to'} {format_number(allowed.maximum)}"
    return f"{kind}{unit}{low}{high}"


def describe_number(feature: NumericalFeature) -> str:
    """Describe the valid numbers of a feature in the graph's input."""
    if isinstance(feature, BooleanFeature):
        return "0 or 1"
    if isinstance(feature, DatetimeFeature):
        return _describe_days(feature)
    if not isinstance(feature, CategoryFeature):
        return describe(feature)
    words = [
        f"{position} is {format_value(word)}"
        for position, word in enumerate(feature.categories[:12])
    ]
    if len(feature.categories) > len(words):
        words.append("and so on")
    if feature.unseen == "other":
        words.append("-1 is any other")
    return f"a position from 0 to {len(feature.categories) - 1}: {', '.join(words)}"


def _describe_days(feature: DatetimeFeature) -> str:
    if feature.format == TIME_OF_DAY:
        return "a time of day as a fraction of a day, from 0 to below 1"
    return "a number of days since 1970-01-01, of the years 1 to 9999"


def unknown_problem(key: str, value: object, advice: str, row: int | None) -> Problem:
    """Describe a key that is not the name of a feature."""
    sentence = f"unknown feature {format_value(key)}; {advice}"
    return Problem(prefix_row(row, sentence), row, key[:_NAME_SHOWN], got=format_value(value))


def missing_problem(feature: Feature, row: int | None) -> Problem:
    """Describe a required feature that is missing in a row."""
    hint = f"Add {format_value(feature.name)}: {format_value(feature.example)}, for example."
    sentence = f"feature {feature.name!r} is missing."
    return Problem(prefix_row(row, sentence), row, feature.name, describe(feature), hint=hint)


def type_problem(feature: Feature, value: object, row: int | None) -> Problem:
    """Describe a JSON value of the wrong type for its feature."""
    hint = _type_hint(feature, value)
    return value_problem(feature, describe(feature), format_value(value), row, hint)


def rule_problem(
    feature: NumericalFeature,
    expected: str,
    value: np.floating,
    row: int | None,
    hint: str | None = None,
) -> Problem:
    """Describe a number that is invalid for its feature; ``expected`` describes valid ones."""
    if np.isnan(value):
        return value_problem(feature, expected, "null", row, "It is required.")
    if np.isinf(value):
        hint = f"It does not fit a {value.itemsize * 8}-bit number."
    elif isinstance(feature, IntegerFeature) and abs(value) > WHOLE_MAX:
        hint = LARGEST_WHOLE
    elif hint is None and isinstance(feature, NumericFeature):
        hint = _numeric_hint(feature, float(value))
    return value_problem(feature, expected, format_number(value), row, hint)


def value_problem(
    feature: Feature, expected: str, got: str, row: int | None, hint: str | None
) -> Problem:
    """Describe an invalid value; ``expected`` describes valid ones."""
    sentence = f"feature {feature.name!r} must be {expected}, got {got}."
    return Problem(prefix_row(row, sentence), row, feature.name, expected, got, hint)


def _type_hint(feature: Feature, value: object) -> str | None:
    if value is None:
        return "It is required."
    if isinstance(feature, BooleanFeature):
        return "Send true or false without quotes."
    if isinstance(feature, DatetimeFeature):
        return f"Send {format_value(feature.example)}, for example, or {_describe_days(feature)}."
    if not isinstance(feature, CategoryFeature | TextFeature):
        written = _read_number(feature, value)
        return written or not_a_number(value, whole=isinstance(feature, IntegerFeature))
    is_word = isinstance(value, int | str) and not isinstance(value, bool)
    if isinstance(feature, TextFeature) or not is_word:
        return "Send it as a string."
    return suggest_category(str(value), feature)


def _numeric_hint(feature: NumericFeature, value: float) -> str | None:
    """Say what to send instead of a finite number that is not valid."""
    allowed = feature.allowed or Range()
    if isinstance(feature, IntegerFeature) and not is_integer(value):
        closest = [n for n in (floor(value), ceil(value)) if allowed.low <= n <= allowed.high]
        if closest:
            return f"Send a whole number, such as {' or '.join(map(str, closest))}."
    if value < 0 and allowed.minimum == 0:
        return "It must not be negative."
    return f"Check the unit: it is {feature.unit}." if feature.unit else None


def _read_number(feature: NumericFeature, value: object) -> str | None:
    """Say what to send instead of a number in the notation of the training table."""
    if feature.decimal is None or not isinstance(value, str) or len(value) > LONGEST_WORD:
        return None
    text, number_format = value.strip(), NumberFormat(feature.decimal, feature.thousands or "")
    plain = plain_number(text, number_format, feature.affix)
    if plain is None or plain == text:
        return None
    return (
        f"Send {plain} without the quotes, which is {text} in the notation of the training table."
    )


def suggest_category(text: str, feature: CategoryFeature) -> str | None:
    """Return a question that suggests the closest category; None if none is close."""
    close = closest_name(text, feature.categories)
    return None if close is None else f"Did you mean {format_value(close)}?"


def error_document(sentence: str, code: str, problems: Sequence[Problem] = ()) -> dict[str, object]:
    """Return the JSON of an error, of a request or of a row."""
    body: dict[str, object] = {"error": sentence, "code": code}
    if problems:
        body["details"] = [
            {key: value for key, value in dataclasses.asdict(problem).items() if value is not None}
            for problem in problems
        ]
    return body


@dataclass(frozen=True)
class RowError:
    """Why one row has no prediction."""

    message: str
    code: str
    problems: Sequence[Problem] = ()

    @classmethod
    def from_error(cls, error: OnwardError, position: str) -> "RowError":
        """Return the error of a request with one row as that of a row at a position ("Line 7")."""
        problems = error.problems if isinstance(error, InvalidInput) else ()
        reported = problems[:_MAX_ROW_PROBLEMS]
        text = " ".join([problem.text for problem in reported] or [str(error)])
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


def width_error(
    line: int, cells: Sequence[str], count: int, width: int, separator: str
) -> RowError:
    """Describe a row with more or fewer cells than the table has columns.

    ``cells`` are at least the first ones, which the message shows, and ``count`` is that of all.
    """
    columns = f"{width} column{'' if width == 1 else 's'}"
    found = f"{count} cell{'' if count == 1 else 's'}"
    message = f"Line {line}: {found} where the header has {columns};"
    if count < width:
        message += " write an empty cell for each missing value."
    else:
        message += f" quote a cell that contains {format_value(separator)}"
        if separator == ",":
            message += ", and mark decimals by a point"
        surplus = join_names(cells[width:], SURPLUS_SHOWN, format_value, count - width)
        message += f". Extra cells: {surplus}."
    return RowError(message, InvalidInput.code)


def replace_undecoded(texts: list[str], lines: Sequence[int], errors: dict[int, RowError]) -> None:
    """Add an error for each row with bytes that are not UTF-8, and replace these in its text."""
    for row, text in enumerate(texts):
        if SURROGATE.search(text):
            errors.setdefault(row, RowError(f"Line {lines[row]}: {_NOT_UTF8}", InvalidInput.code))
            texts[row] = SURROGATE.sub("\ufffd", text)
