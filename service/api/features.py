"""A table's rows: JSON objects in, one checked float32 matrix out.

Everything wrong is collected and told at once. The rules on values are in `FeatureCodec.check`,
which every dialect's rows pass.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import orjson

from service.api.values import Misfit, number_of
from service.bundle.manifest import (
    BooleanFeature,
    CategoryFeature,
    Feature,
    FeaturesInput,
    IntegerFeature,
    NumberFeature,
)
from service.errors import InvalidInput, Problem, nearest

Matrix = npt.NDArray[np.float32]

UNSEEN = -1.0


class FeatureCodec:
    """Turns rows into the matrix a model takes, by the features of its manifest."""

    def __init__(self, features_input: FeaturesInput) -> None:
        self.features = features_input.features
        self._names = [feature.name for feature in self.features]
        self._known = set(self._names)

    @property
    def example(self) -> dict[str, object]:
        """A row that this model takes."""
        return {feature.name: feature.example for feature in self.features}

    def rows(self, rows: Sequence[object]) -> Matrix:
        """Rows as ``[rows, columns]``; an object by names, or an array in the features' order.

        Raises:
            InvalidInput: every problem of every row.
        """
        problems: list[Problem] = []
        numbered = len(rows) > 1
        matrix = np.empty((len(rows), len(self.features)), np.float32)
        for index, row in enumerate(rows):
            place = index if numbered else None
            values = self._row(row, place, problems)
            if values is not None:
                matrix[index] = values
        if problems:
            raise InvalidInput(problems)
        self.check(matrix, numbered=numbered)
        return matrix

    def check(self, matrix: Matrix, *, numbered: bool = True) -> None:
        """Hold every value against its feature's rules, whichever dialect brought it.

        Raises:
            InvalidInput: every value that breaks a rule.
        """
        problems: list[Problem] = []
        for column, feature in enumerate(self.features):
            values = matrix[:, column]
            for row in np.flatnonzero(_breaks_rule(values, feature)):
                value = float(values[row])
                problems.append(_rule_problem(feature, value, int(row) if numbered else None))
        if problems:
            raise InvalidInput(sorted(problems, key=lambda problem: problem.row or 0))

    def _row(self, row: object, place: int | None, problems: list[Problem]) -> list[float] | None:
        found = len(problems)
        if isinstance(row, dict):
            problems.extend(self._key_problems(row, place))
            pairs = [(f, row.get(f.name)) for f in self.features if f.name in row or f.optional]
        elif isinstance(row, list) and len(row) == len(self.features):
            pairs = list(zip(self.features, row, strict=True))
        else:
            problems.append(self._shape_problem(row, place))
            return None
        values: list[float] = []
        for feature, value in pairs:
            try:
                values.append(_convert(feature, value))
            except Misfit as misfit:
                problems.append(_misfit_problem(feature, value, misfit, place))
        return values if len(problems) == found else None

    def _key_problems(self, row: Mapping[str, object], place: int | None) -> list[Problem]:
        unknown = [key for key in row if key not in self._known]
        missing = [f for f in self.features if f.name not in row and not f.optional]
        problems = []
        for key in unknown:
            close = nearest(key, [f.name for f in missing]) or nearest(key, self._names)
            advice = f"did you mean {close!r}?" if close else f"it takes {_listed(self._names)}."
            sentence = f"{_at(place)}unknown feature {_shown(key)}; {advice}"
            problems.append(Problem(_capital(sentence), place, key, got=_shown(row[key])))
        for feature in missing:
            hint = f"Add {_shown(feature.name)}: {_shown(feature.example)}, for example."
            sentence = f"{_at(place)}feature {feature.name!r} is missing."
            expected = describe(feature)
            problems.append(Problem(_capital(sentence), place, feature.name, expected, hint=hint))
        return problems

    def _shape_problem(self, row: object, place: int | None) -> Problem:
        what = f"{len(row)} values" if isinstance(row, list) else _shown(row)
        expected = f"an object with {_listed(self._names)}"
        sentence = f"{_at(place)}expected {expected}, got {what}."
        hint = f"Send for example {orjson.dumps(self.example).decode()}"
        return Problem(_capital(sentence), place, None, expected, _shown(row), hint)


def describe(feature: Feature) -> str:
    """What a value of this feature must be, in words."""
    if isinstance(feature, CategoryFeature):
        return f"one of {_listed(feature.categories)}"
    if isinstance(feature, BooleanFeature):
        return "true or false"
    kind = "a whole number" if isinstance(feature, IntegerFeature) else "a number"
    unit = f" of {feature.unit}" if feature.unit else ""
    bounds = feature.allowed
    if bounds is None:
        return kind + unit
    if bounds.minimum is None:
        return f"{kind}{unit} up to {bounds.maximum:g}"
    if bounds.maximum is None:
        return f"{kind}{unit} from {bounds.minimum:g}"
    return f"{kind}{unit} from {bounds.minimum:g} to {bounds.maximum:g}"


def _convert(feature: Feature, value: object) -> float:
    """The graph's number for a JSON value.

    Raises:
        Misfit: it is not of the feature's kind.
    """
    if value is None:
        if feature.optional:
            return math.nan
        raise Misfit("It is required.")
    if isinstance(feature, CategoryFeature):
        return _category(feature, value)
    if isinstance(feature, BooleanFeature):
        if isinstance(value, bool | int | float) and value in (0, 1):
            return float(value)
        raise Misfit("Send true or false without quotes.")
    return number_of(value)


def _category(feature: CategoryFeature, value: object) -> float:
    # Categories are words in the manifest; a table may well have written them as numbers.
    is_number = isinstance(value, int) and not isinstance(value, bool)
    word = str(value) if is_number else value
    if not isinstance(word, str):
        raise Misfit("Send it as a string.")
    if word in feature.categories:
        return float(feature.categories.index(word))
    if feature.unseen == "other":
        return UNSEEN
    close = nearest(word, feature.categories)
    raise Misfit(f"Did you mean {_shown(close)}?" if close else None)


def _breaks_rule(values: Matrix, feature: Feature) -> npt.NDArray[np.bool_]:
    missing = np.isnan(values)
    bad: npt.NDArray[np.bool_] = np.isinf(values)
    if not feature.optional:
        bad |= missing
    if isinstance(feature, CategoryFeature):
        lowest = UNSEEN if feature.unseen == "other" else 0.0
        wrong = (values < lowest) | (values >= len(feature.categories)) | (values % 1 != 0)
    elif isinstance(feature, BooleanFeature):
        wrong = (values != 0) & (values != 1)
    else:
        wrong = np.zeros(len(values), np.bool_)
        if isinstance(feature, IntegerFeature):
            wrong |= ~np.isinf(values) & (np.floor(values) != values)
        if feature.allowed is not None:
            low, high = np.float32(feature.allowed.low), np.float32(feature.allowed.high)
            wrong |= (values < low) | (values > high)
    bad |= wrong & ~missing
    return bad


def _rule_problem(feature: Feature, value: float, row: int | None) -> Problem:
    hint = None
    if math.isinf(value):
        hint = "It does not fit a 32-bit number."
    elif isinstance(feature, NumberFeature | IntegerFeature) and feature.unit:
        hint = f"Check the unit: it is {feature.unit}."
    return _value_problem(feature, f"{value:g}", row, hint)


def _misfit_problem(feature: Feature, value: object, misfit: Misfit, row: int | None) -> Problem:
    return _value_problem(feature, _shown(value), row, misfit.hint)


def _value_problem(feature: Feature, got: str, row: int | None, hint: str | None) -> Problem:
    expected = describe(feature)
    sentence = f"{_at(row)}feature {feature.name!r} must be {expected}, got {got}."
    return Problem(_capital(sentence), row, feature.name, expected, got, hint)


def _at(row: int | None) -> str:
    return "" if row is None else f"row {row}: "


def _capital(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


def _listed(words: Sequence[str], most: int = 12) -> str:
    shown = ", ".join(_shown(word) for word in words[:most])
    return shown if len(words) <= most else f"{shown} and {len(words) - most} more"


def _shown(value: object, most: int = 60) -> str:
    """A value as JSON, shortened; a surprise of any size or kind stays one line."""
    try:
        text = orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        text = repr(value)
    return text if len(text) <= most else f"{text[: most - 1]}…"
