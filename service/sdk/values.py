"""Values of Python, numpy, pandas and polars as JSON.

None of these libraries is imported: their values are recognized by what they have in common.
"""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from service.sdk.errors import InvalidData

_PLAIN = {str, int, bool, type(None)}
_PLAIN_OR_FLOAT = _PLAIN | {float}
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def encode(document: object) -> bytes:
    """Return JSON in UTF-8; a lone surrogate is sent as it is, and the service rejects it."""
    return _ENCODER.encode(document).encode("utf-8", "surrogatepass")


def to_json(value: Any) -> Any:  # noqa: ANN401, C901, PLR0911 - any value; one return for each kind
    """Return the JSON value of a cell, a row or a nested value.

    NaN, NaT and pandas' NA are null; dates and times are ISO 8601, and a period of pandas is its
    text.
    Raise `InvalidData` if JSON has no such value.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return _finite(value)
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, Decimal):
        return _decimal(value)
    if isinstance(value, datetime | date | time):
        # NaT is a datetime that is not equal to itself.
        return value.isoformat() if value == value else None  # noqa: PLR0124
    if hasattr(value, "dtype") and hasattr(value, "tolist"):
        return _numpy(value)
    if type(value).__name__ == "NAType":
        return None
    if type(value).__name__ == "Period":
        return str(value)
    raise InvalidData(
        f"A value of type {type(value).__name__} has no form in JSON: {value!r:.80}. Send a "
        "number, text, a boolean, a date or null."
    )


def column_to_json(values: Sequence[Any], name: str, start: int) -> Sequence[Any]:
    """Return the JSON values of a column of a table, whose first row has the number ``start``."""
    types = set(map(type, values))
    if types <= _PLAIN:
        return values
    if types <= _PLAIN_OR_FLOAT and math.inf not in values and -math.inf not in values:
        return [None if value != value else value for value in values]  # noqa: PLR0124 - NaN
    cells = []
    for row, value in enumerate(values, start):
        try:
            cells.append(to_json(value))
        except InvalidData as error:
            raise InvalidData(f"Row {row}, column {name!r}: {error}") from None
    return cells


def rows_to_json(rows: Sequence[Any], start: int) -> list[Any]:
    """Return rows that are objects or arrays as JSON values."""
    found = []
    for row, value in enumerate(rows, start):
        try:
            found.append(to_json(value))
        except InvalidData as error:
            raise InvalidData(f"Row {row}: {error}") from None
    return found


def _finite(value: float) -> float | None:
    if math.isinf(value):
        raise InvalidData(
            f"The number {value} has no form in JSON. Send null where a value is missing."
        )
    return None if math.isnan(value) else value


def _decimal(value: Decimal) -> float | int | None:
    if not value.is_finite():
        return _finite(float(value))
    return int(value) if value == value.to_integral_value() else float(value)


def _numpy(value: Any) -> Any:  # noqa: ANN401 - a scalar or an array of numpy
    if getattr(value, "ndim", 0):
        return [to_json(item) for item in value]
    kind = value.dtype.kind
    if kind == "M":
        return str(value) if value == value else None  # noqa: PLR0124 - NaT
    if kind == "f":
        return _finite(float(value))
    item = value.tolist()
    if hasattr(item, "dtype"):
        raise InvalidData(f"A number of type {value.dtype} has no form in JSON.")
    return to_json(item)
