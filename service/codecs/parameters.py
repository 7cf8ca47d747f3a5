"""The query parameters of predictions, and the prediction intervals that they request."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import parse_qsl

import numpy as np
import numpy.typing as npt

from service.bundle.manifest import Interval, IntervalLevel, Output, ValueOutput
from service.codecs.tensors import LARGEST_FLOAT32
from service.engine.tensors import Array
from service.errors import InvalidRequest
from service.predictions import interval_ends
from service.spelling import closest_name
from service.tabletext import Decimal
from service.values import format_value, parse_integer

T = TypeVar("T")
Ends = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]

PARAMETER_NAMES = ("top", "probabilities", "warnings", "interval", "decimal")
_ALL_OR_NONE = {"all": True, "none": False}
TRUE_OR_FALSE = {"true": True, "false": False}
_DECIMAL_MARKS: Mapping[str, Decimal] = {"point": ".", "comma": ","}
_LEVEL = re.compile(r"0?\.[0-9]{1,9}")

_LEVEL_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Parameters:
    """Which parts a prediction has, and how a table writes its numbers.

    ``interval`` is the level of the prediction interval around a value; None is no interval.
    ``top`` is the number of class labels, the most probable first; None is all, in the order of
    the manifest. ``warnings`` None is the default of the response's format; ``decimal`` None is the
    mark that the table itself uses.
    """

    top: int | None = None
    probabilities: bool = True
    warnings: bool | None = None
    decimal: Decimal | None = None
    interval: float | None = None


DEFAULT_PARAMETERS = Parameters()


def read_parameters(query: bytes) -> Parameters:
    """Read the parameters of a prediction from a query string.

    Raise `InvalidRequest` if one is misspelled, or its value is invalid.
    """
    if not query:
        return DEFAULT_PARAMETERS
    values = parse_query(query, PARAMETER_NAMES)
    top = _read_count(values)
    probabilities = read_choice(values, "probabilities", _ALL_OR_NONE)
    return Parameters(
        None if probabilities is False else top,
        probabilities is not False,
        read_choice(values, "warnings", TRUE_OR_FALSE),
        read_choice(values, "decimal", _DECIMAL_MARKS),
        _read_level(values),
    )


def parse_query(query: bytes, known: Sequence[str]) -> Mapping[str, str]:
    """Return the parameters of a query string; unknown ones are ignored.

    Raise `InvalidRequest` if an unknown name resembles a known one.
    """
    values = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True))
    for name in values:
        close = None if name in known else closest_name(name, known)
        if close is not None:
            raise InvalidRequest(f"Unknown parameter {format_value(name)}; did you mean {close!r}?")
    return values


def _read_count(values: Mapping[str, str]) -> int | None:
    text = values.get("top")
    if text is None:
        return None
    count = parse_integer(text)
    if not count:
        raise InvalidRequest(
            f"Parameter 'top' must be a whole number from 1, got {format_value(text)}."
        )
    return count


def _read_level(values: Mapping[str, str]) -> float | None:
    text = values.get("interval")
    if text is None:
        return None
    if not _LEVEL.fullmatch(text):
        raise invalid_level(text)
    return float(text)


def invalid_level(level: object) -> InvalidRequest:
    """Return the error of an interval's level that is not a number between 0 and 1."""
    return InvalidRequest(
        "Parameter 'interval' must be a share between 0 and 1, such as 0.9, got "
        f"{format_value(level)}."
    )


def read_choice(values: Mapping[str, str], name: str, choices: Mapping[str, T]) -> T | None:
    """Return the value of a parameter by its word; None if the query string does not have it.

    Raise `InvalidRequest` if the word is none of the choices.
    """
    text = values.get(name)
    if text is None:
        return None
    if text not in choices:
        words = " or ".join(repr(word) for word in choices)
        raise InvalidRequest(f"Parameter {name!r} must be {words}, got {format_value(text)}.")
    return choices[text]


def require_supported(output: Output | None, parameters: Parameters) -> None:
    """Raise `InvalidRequest` if this model has no such interval, or no labels for ``top``.

    The output is None for a graph without a manifest whose outputs are no named classes.
    """
    if output is None:
        if parameters.interval is None and parameters.top is None:
            return
        name = "top" if parameters.interval is None else "interval"
        raise InvalidRequest(
            f"Parameter {name!r} needs class labels or a manifest, and this model is a graph "
            "without them; leave it out."
        )
    if parameters.interval is not None:
        find_interval(output, parameters.interval)
    if isinstance(output, ValueOutput) and parameters.top is not None:
        raise InvalidRequest("Parameter 'top' chooses among labels; this model predicts a value.")


def finite_ends(output: Output, level: float, values: Array) -> Ends:
    """Return the low and the high end of each value's interval, as finite float32, ``[rows]``.

    Raise `InvalidRequest` if the model has no interval of this level, the expected share of true
    values within it.
    """
    low, high = (
        ends.clip(-LARGEST_FLOAT32, LARGEST_FLOAT32).astype(np.float32)
        for ends in interval_ends(*find_interval(output, level), values)
    )
    return low, high


def find_interval(output: Output, level: float) -> tuple[Interval, IntervalLevel]:
    """Return the interval of this level, or raise `InvalidRequest` if the model has none."""
    if not isinstance(output, ValueOutput):
        raise InvalidRequest(
            "Parameter 'interval' is for values; this model predicts class labels, and their "
            "probabilities say how certain they are."
        )
    if output.interval is None:
        raise InvalidRequest(
            "This model has no prediction intervals: too few rows were left to learn them from. "
            "Leave out 'interval'."
        )
    for candidate in output.interval.levels:
        if abs(candidate.level - level) < _LEVEL_TOLERANCE:
            return output.interval, candidate
    levels = ", ".join(f"{candidate.level:g}" for candidate in output.interval.levels)
    raise InvalidRequest(f"Parameter 'interval' must be one of {levels} here, got {level:g}.")
