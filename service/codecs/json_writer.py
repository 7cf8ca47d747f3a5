"""Predictions with default options as JSON bytes; the parts common to all rows are encoded once.

`service.codecs.outputs` makes the same predictions as objects, for every option of a request. The
bytes written here equal what orjson writes for those objects.
"""

from collections.abc import Sequence

import numpy as np
import orjson

from service.bundle.manifest import ClassesOutput, Output, ValueOutput
from service.codecs.features import Warnings
from service.engine.tensors import Array
from service.predictions import are_unsure, classify, predict_label, to_label_columns

_NUMPY = orjson.OPT_SERIALIZE_NUMPY


def prediction_writer(output: Output, version: str) -> "PredictionWriter":
    """Create the writer of one version of a model."""
    end = b',"model_version":' + orjson.dumps(version) + b"}"
    if isinstance(output, ValueOutput):
        return _ValueWriter(output, end)
    return _ClassesWriter(output, end)


class _ValueWriter:
    """``{"value": 1.5, "unit": "cones"}``."""

    def __init__(self, output: ValueOutput, end: bytes) -> None:
        self._unit = b"" if output.unit is None else b',"unit":' + orjson.dumps(output.unit)
        self._end = end

    def write(self, scores: Array, warnings: Warnings, *, single: bool) -> bytes:
        """Return a body: the prediction of a bare row, or ``predictions`` of several.

        Args:
            scores: ``[rows, columns]`` of the graph, finite.
            warnings: messages by row.
            single: whether the request was one row without a list.
        """
        if single:
            value, suffix = orjson.dumps(scores[0, 0], option=_NUMPY), _encode_warnings(warnings, 0)
            return b'{"value":%b%b%b%b' % (value, self._unit, suffix, self._end)
        rows = [b'{"value":%b%b' % (number, self._unit) for number in _encode_numbers(scores[:, 0])]
        for row in warnings:
            rows[row] += _encode_warnings(warnings, row)
        return b'{"predictions":[%b}]%b' % (b"},".join(rows), self._end)


class _ClassesWriter:
    """``{"label": "b", "probability": 0.9, "probabilities": {"a": 0.1, "b": 0.9}}``."""

    def __init__(self, output: ClassesOutput, end: bytes) -> None:
        self._output = output
        self._end = end
        self._starts = [
            b'{"label":%b,"probability":' % orjson.dumps(label) for label in output.labels
        ]
        first, *others = [orjson.dumps(label) + b":" for label in output.labels]
        self._keys = [b',"probabilities":{' + first, *(b"," + key for key in others)]
        self._threshold = output.decision_threshold
        limit = output.unsure_below
        self._unsure_below = None if limit is None else np.float64(limit)
        # The pieces of a row: start, probability, each key and its number, and end.
        self._row = [b"", b"", *(piece for key in self._keys for piece in (key, b"")), b""]
        # The end of a row without its last brace, by whether the prediction is unsure.
        self._row_ends = b"}", b"}"
        if limit is not None:
            self._row_ends = b'},"unsure":false', b'},"unsure":true'
        self._list_ends = [end + b"}," for end in self._row_ends]
        # A single row as a format string, without its last brace.
        keys = [key.replace(b"%", b"%%") + b"%b" for key in self._keys]
        self._single = b"".join((b"%b%b", *keys, b"%b"))

    def write(self, scores: Array, warnings: Warnings, *, single: bool) -> bytes:
        """Return a body; the arguments are those of `_ValueWriter.write`."""
        if len(scores) == 1:
            only = self._write_row(scores[0])
            if warnings:
                only += _encode_warnings(warnings, 0)
            return only + self._end if single else b'{"predictions":[%b}]%b' % (only, self._end)
        probabilities, chosen, unsure = classify(self._output, scores)
        ends = self._list_ends[:1] * len(chosen)
        if unsure is not None:
            ends = [self._list_ends[flag] for flag in unsure]
        for row in warnings:
            ends[row] = ends[row].removesuffix(b"},") + _encode_warnings(warnings, row) + b"},"
        ends[-1] = ends[-1].removesuffix(b",")
        pieces = self._pieces(_encode_numbers(probabilities), chosen, ends)
        return b"".join((b'{"predictions":[', *pieces, b"]", self._end))

    def _write_row(self, columns: Array) -> bytes:
        """Return one row, without its last brace; `classify` takes several times as long for it."""
        probabilities = to_label_columns(columns)
        label = int(predict_label(columns, self._threshold))
        limit = self._unsure_below
        is_unsure = limit is not None and bool(are_unsure(probabilities[label], limit))
        numbers = orjson.dumps(probabilities, option=_NUMPY)[1:-1].split(b",")
        row_end = self._row_ends[is_unsure]
        return self._single % (self._starts[label], numbers[label], *numbers, row_end)

    def _pieces(
        self, numbers: list[bytes], chosen: Sequence[int], ends: list[bytes]
    ) -> list[bytes]:
        count, width = len(self._row), len(self._keys)
        pieces = self._row * len(chosen)
        pieces[0::count] = [self._starts[position] for position in chosen]
        pieces[1::count] = [
            numbers[row + position]
            for row, position in zip(range(0, len(numbers), width), chosen, strict=True)
        ]
        for column in range(width):
            pieces[3 + 2 * column :: count] = numbers[column::width]
        pieces[count - 1 :: count] = ends
        return pieces


PredictionWriter = _ValueWriter | _ClassesWriter


def _encode_warnings(warnings: Warnings, row: int) -> bytes:
    return b',"warnings":' + orjson.dumps(warnings[row]) if row in warnings else b""


def _encode_numbers(numbers: Array) -> list[bytes]:
    """Return each number as orjson writes it, row by row."""
    return orjson.dumps(np.ascontiguousarray(numbers).ravel(), option=_NUMPY)[1:-1].split(b",")
