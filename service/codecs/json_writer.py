"""Predictions as JSON bytes: values with units, or class labels with probabilities.

The parts common to all rows are encoded once.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from service.bundle.manifest import ClassesOutput, Output, ValueOutput
from service.codecs.parameters import DEFAULT_PARAMETERS, Parameters, finite_ends
from service.engine.tensors import Array
from service.predictions import (
    Classification,
    are_unsure,
    classify,
    label_probabilities,
    most_probable,
    predict_label,
    to_label_columns,
)

JsonObject = dict[str, object]
Fields = Mapping[int, JsonObject]
"""Further fields of predictions, such as their warnings, by row."""
Column = bytes | list[bytes]
"""A part of all rows: the same bytes, or the bytes of each."""

NO_FIELDS: Fields = {}
_UNSURE = b',"unsure":false', b',"unsure":true'
_NUMPY = orjson.OPT_SERIALIZE_NUMPY


class PredictionWriter(ABC):
    """Writes the predictions of one version of a model."""

    def __init__(self, version: str) -> None:
        self.end = b',"model_version":%b}' % orjson.dumps(version)
        """The end of a body."""

    def write(
        self,
        scores: Array,
        parameters: Parameters,
        fields: Fields = NO_FIELDS,
        *,
        single: bool,
        shared: JsonObject | None = None,
    ) -> bytes:
        """Return a body: the prediction of a bare row, or ``predictions`` of several.

        Args:
            scores: ``[rows, columns]`` of the graph, finite.
            parameters: of the request.
            fields: further fields of the predictions.
            single: whether the request was one row without a list.
            shared: further fields of the body, before the version of the model.
        """
        end = _encode_fields(shared) + self.end if shared else self.end
        if single:
            row_end = _encode_fields(fields[0]) + end if fields else end
            return self._write(scores, parameters, [row_end])
        rows = self._write(scores, parameters, _row_ends(len(scores), fields, b","))
        return b'{"predictions":[%b]%b' % (rows, end)

    def write_rows(self, scores: Array, parameters: Parameters, fields: Fields) -> list[bytes]:
        """Return the object of each row; the arguments are those of `write`."""
        if not len(scores):
            return []
        # orjson writes no line feeds between tokens, and escapes those of strings.
        ends = _row_ends(len(scores), fields, b"\n")
        return self._write(scores, parameters, ends).split(b"\n")

    def _write(self, scores: Array, parameters: Parameters, ends: list[bytes]) -> bytes:
        """Return the rows, each with its own end."""
        if len(ends) == 1 and parameters is DEFAULT_PARAMETERS:
            return self._write_row(scores[0], ends[0])
        columns = [*self._columns(scores, parameters), ends]
        pieces: list[Any] = columns * len(ends)
        for position, column in enumerate(columns):
            if isinstance(column, list):
                pieces[position :: len(columns)] = column
        return b"".join(pieces)

    @abstractmethod
    def _write_row(self, columns: Array, end: bytes) -> bytes:
        """Return a row with default parameters; `_columns` takes several times as long for it."""

    @abstractmethod
    def _columns(self, scores: Array, parameters: Parameters) -> list[Column]:
        """Return the parts of all rows, without their last braces."""


def prediction_writer(output: Output, version: str) -> PredictionWriter:
    """Create the writer of one version of a model."""
    if isinstance(output, ValueOutput):
        return _ValueWriter(output, version)
    return ClassesWriter(output, version)


class _ValueWriter(PredictionWriter):
    """``{"value": 1.5, "unit": "cones", "interval": {"level": 0.9, "low": 1.0, "high": 2.0}}``."""

    def __init__(self, output: ValueOutput, version: str) -> None:
        super().__init__(version)
        self._output = output
        self._unit = b"" if output.unit is None else b',"unit":' + orjson.dumps(output.unit)

    def _write_row(self, columns: Array, end: bytes) -> bytes:
        return b'{"value":%b%b%b' % (orjson.dumps(columns[0], option=_NUMPY), self._unit, end)

    def _columns(self, scores: Array, parameters: Parameters) -> list[Column]:
        values, level = scores[:, 0], parameters.interval
        columns: list[Column] = [b'{"value":', encode_numbers(values)]
        if level is None:
            return [*columns, self._unit]
        low, high = map(encode_numbers, finite_ends(self._output, level, values))
        start = b'%b,"interval":{"level":%b,"low":' % (self._unit, orjson.dumps(level))
        return [*columns, start, low, b',"high":', high, b"}"]


class ClassesWriter(PredictionWriter):
    """``{"label": "b", "probability": 0.9, "probabilities": {"a": 0.1, "b": 0.9}}``."""

    def __init__(self, output: ClassesOutput, version: str) -> None:
        super().__init__(version)
        self._output = output
        self._threshold = output.decision_threshold
        labels = [orjson.dumps(label) for label in output.labels]
        self._starts = [b'{"label":%b,"probability":' % label for label in labels]
        self._keys = [label + b":" for label in labels]
        limit = output.unsure_below
        self._unsure_below = None if limit is None else np.float64(limit)
        first, *others = self._keys
        self._all_keys = [b',"probabilities":{' + first, *(b"," + key for key in others)]
        # A single row as a format string.
        numbers = [key.replace(b"%", b"%%") + b"%b" for key in self._all_keys]
        self._row = b"%b%b" + b"".join(numbers) + b"}%b%b"

    def _write_row(self, columns: Array, end: bytes) -> bytes:
        probabilities = to_label_columns(columns)
        label = int(predict_label(columns, self._threshold))
        limit = self._unsure_below
        flag = b"" if limit is None else _UNSURE[bool(are_unsure(probabilities[label], limit))]
        numbers = orjson.dumps(probabilities, option=_NUMPY)[1:-1].split(b",")
        return self._row % (self._starts[label], numbers[label], *numbers, flag, end)

    def _columns(self, scores: Array, parameters: Parameters) -> list[Column]:
        probabilities, chosen, unsure = self._classify(scores)
        columns: list[Column] = [[self._starts[position] for position in chosen]]
        if parameters.probabilities and parameters.top is None:
            columns += self._probabilities(probabilities, chosen)
        else:
            columns.append(encode_numbers(label_probabilities(probabilities, chosen)))
        if parameters.top is not None:
            columns += self._most_probable(probabilities, parameters.top)
        if unsure is not None:
            columns.append([_UNSURE[flag] for flag in unsure])
        return columns

    def _classify(self, scores: Array) -> Classification:
        return classify(self._output, scores)

    def _probabilities(self, probabilities: Array, chosen: list[int]) -> list[Column]:
        numbers, width = encode_numbers(probabilities), len(self._all_keys)
        rows = zip(range(0, len(numbers), width), chosen, strict=True)
        columns: list[Column] = [[numbers[row + position] for row, position in rows]]
        for position, key in enumerate(self._all_keys):
            columns += key, numbers[position::width]
        return [*columns, b"}"]

    def _most_probable(self, probabilities: Array, top: int) -> list[Column]:
        order = most_probable(probabilities, top)
        numbers = encode_numbers(np.take_along_axis(probabilities, order, axis=1))
        columns: list[Column] = []
        separator = b',"probabilities":{'
        for rank, labels in enumerate(order.T.tolist()):
            keys = [separator + self._keys[label] for label in labels]
            columns += [keys, numbers[rank :: order.shape[1]]]
            separator = b","
        return [*columns, b"}"]


def _row_ends(rows: int, fields: Fields, separator: bytes) -> list[bytes]:
    """Return the ends of objects with a separator of one byte between them."""
    ends = [b"}" + separator] * rows
    for row, further in fields.items():
        ends[row] = _encode_fields(further) + ends[row]
    ends[-1] = ends[-1][:-1]
    return ends


def _encode_fields(fields: JsonObject) -> bytes:
    """Return fields as they follow others of an object."""
    return b"," + orjson.dumps(fields, option=_NUMPY)[1:-1]


def encode_numbers(numbers: Array) -> list[bytes]:
    """Return each number as orjson writes it, row by row."""
    return orjson.dumps(np.ascontiguousarray(numbers).ravel(), option=_NUMPY)[1:-1].split(b",")
