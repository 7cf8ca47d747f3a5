"""A table's rows: JSON objects in, one checked float32 matrix out.

Everything wrong is collected and told at once. The rules on values are in `FeatureCodec.check`,
which every dialect's rows pass.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import orjson

from service.api.quick import QuickRows
from service.api.values import Misfit, at, listed, number_of, shown
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
Mask = npt.NDArray[np.bool_]

UNSEEN = -1.0
_ABSENT = object()
_NAME_SHOWN = 100


class FeatureCodec:
    """Turns rows into the matrix a model takes, by the features of its manifest."""

    def __init__(self, features_input: FeaturesInput) -> None:
        self.features = features_input.features
        self._names = [feature.name for feature in self.features]
        self._known = set(self._names)
        self._quick = QuickRows(self.features)

    @property
    def example(self) -> dict[str, object]:
        """A row that this model takes."""
        return {feature.name: feature.example for feature in self.features}

    def rows(self, rows: Sequence[object]) -> Matrix:
        """Rows as ``[rows, columns]``; an object by names, or an array in the features' order.

        Raises:
            InvalidInput: every problem of every row.
        """
        quick = self._quick.read(rows)
        if quick is not None:
            return quick
        matrix = np.full((len(rows), len(self.features)), np.nan, np.float32)
        read = np.zeros(matrix.shape, np.bool_)
        problems: list[Problem] = []
        numbered = len(rows) > 1
        for index, row in enumerate(rows):
            place = index if numbered else None
            problems.extend(self._read_row(row, place, matrix[index], read[index]))
        problems.extend(self._rule_problems(matrix, read, numbered=numbered))
        _raise_any(problems)
        return matrix

    def check(self, matrix: Matrix) -> None:
        """Hold every value against its feature's rules, whichever dialect brought it.

        Raises:
            InvalidInput: every value that breaks a rule.
        """
        if self._quick.allows(matrix):
            return
        read = np.ones(matrix.shape, np.bool_)
        _raise_any(list(self._rule_problems(matrix, read, numbered=len(matrix) > 1)))

    def _read_row(
        self, row: object, place: int | None, values: Matrix, read: Mask
    ) -> Iterator[Problem]:
        """Fill ``values`` and mark in ``read`` what was filled; yield what could not be."""
        if isinstance(row, dict):
            yield from self._key_problems(row, place)
            given = [row.get(feature.name, _ABSENT) for feature in self.features]
        elif isinstance(row, list) and len(row) == len(self.features):
            given = row
        else:
            yield self._shape_problem(row, place)
            return
        for column, (feature, value) in enumerate(zip(self.features, given, strict=True)):
            if value is _ABSENT:
                continue  # told as a missing key, or optional and so NaN already
            try:
                values[column] = _convert(feature, value)
            except Misfit as misfit:
                yield _value_problem(feature, shown(value), place, misfit.hint)
            else:
                read[column] = True

    def _rule_problems(self, matrix: Matrix, read: Mask, *, numbered: bool) -> Iterator[Problem]:
        for column, feature in enumerate(self.features):
            values = matrix[:, column]
            for row in np.flatnonzero(_breaks_rule(values, feature) & read[:, column]):
                yield _rule_problem(feature, float(values[row]), int(row) if numbered else None)

    def _key_problems(self, row: Mapping[str, object], place: int | None) -> Iterator[Problem]:
        missing = {f.name: f for f in self.features if f.name not in row and not f.optional}
        for key in row:
            if key in self._known:
                continue
            close = nearest(key, missing) or nearest(key, self._names)
            missing.pop(close or "", None)  # a misspelt key is one mistake, not two
            advice = f"did you mean {close!r}?" if close else f"it takes {listed(self._names)}."
            sentence = f"unknown feature {shown(key)}; {advice}"
            yield Problem(at(place, sentence), place, key[:_NAME_SHOWN], got=shown(row[key]))
        for feature in missing.values():
            hint = f"Add {shown(feature.name)}: {shown(feature.example)}, for example."
            sentence = f"feature {feature.name!r} is missing."
            yield Problem(at(place, sentence), place, feature.name, describe(feature), hint=hint)

    def _shape_problem(self, row: object, place: int | None) -> Problem:
        what = f"{len(row)} values" if isinstance(row, list) else shown(row)
        expected = f"an object with {listed(self._names)}"
        sentence = f"expected {expected}, got {what}."
        hint = f"Send for example {orjson.dumps(self.example).decode()}"
        return Problem(at(place, sentence), place, None, expected, shown(row), hint)


def describe(feature: Feature) -> str:
    """What a value of this feature must be, in words."""
    if isinstance(feature, CategoryFeature):
        return f"one of {listed(feature.categories)}"
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
    raise Misfit(f"Did you mean {shown(close)}?" if close else None)


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
    if math.isnan(value):
        return _value_problem(feature, "null", row, "It is required.")
    if math.isinf(value):
        hint = "It does not fit a 32-bit number."
    elif isinstance(feature, NumberFeature | IntegerFeature) and feature.unit:
        hint = f"Check the unit: it is {feature.unit}."
    return _value_problem(feature, f"{value:g}", row, hint)


def _value_problem(feature: Feature, got: str, row: int | None, hint: str | None) -> Problem:
    expected = describe(feature)
    sentence = f"feature {feature.name!r} must be {expected}, got {got}."
    return Problem(at(row, sentence), row, feature.name, expected, got, hint)


def _raise_any(problems: list[Problem]) -> None:
    if problems:
        raise InvalidInput(sorted(problems, key=lambda problem: problem.row or 0))
