"""Usual answers as bytes: what is the same in all of a model's answers is written once.

`service.codecs.outputs` makes the same as objects, for every option that a client may set; what is
written here is, byte by byte, what orjson makes of those.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import orjson

from service.bundle.manifest import ClassesOutput, Output, ValueOutput
from service.codecs.features import Warnings
from service.codecs.outputs import chosen_labels, scores_by_label, unsure
from service.engine.tensors import Array

_NUMPY = orjson.OPT_SERIALIZE_NUMPY
_FLAGS = (b"false", b"true")


class AnswerWriter(Protocol):
    """Writes a model's answers, each with all that is known of it."""

    def write(self, scores: Array, warnings: Warnings, *, single: bool) -> bytes:
        """A body: a bare row's one answer, or ``predictions``.

        Args:
            scores: ``[rows, columns]`` of the graph, finite.
            warnings: sentences for some of the rows.
            single: whether it is one row that was sent bare.
        """


def answer_writer(output: Output, version: str) -> AnswerWriter:
    """What writes the answers of one version.

    Args:
        output: what the manifest says of it.
        version: of the model.
    """
    about = b',"model_version":' + orjson.dumps(version) + b"}"
    if isinstance(output, ValueOutput):
        return _ValueWriter(output, about)
    return _ClassesWriter(output, about)


class _ValueWriter:
    """``{"value": 1.5, "unit": "cones"}``."""

    def __init__(self, output: ValueOutput, about: bytes) -> None:
        self._unit = b"" if output.unit is None else b',"unit":' + orjson.dumps(output.unit)
        self._about = about

    def write(self, scores: Array, warnings: Warnings, *, single: bool) -> bytes:
        """As `AnswerWriter` has it."""
        if single:
            value, warned = orjson.dumps(scores[0, 0], option=_NUMPY), _warned(warnings, 0)
            return b'{"value":%b%b%b%b' % (value, self._unit, warned, self._about)
        rows = [b'{"value":%b%b' % (number, self._unit) for number in _written(scores[:, 0])]
        for row in warnings:
            rows[row] += _warned(warnings, row)
        return b'{"predictions":[%b}]%b' % (b"},".join(rows), self._about)


class _ClassesWriter:
    """``{"label": "b", "probability": 0.9, "probabilities": {"a": 0.1, "b": 0.9}}``."""

    def __init__(self, output: ClassesOutput, about: bytes) -> None:
        self._output = output
        self._about = about
        self._starts = [
            b'{"label":%b,"probability":' % orjson.dumps(label) for label in output.labels
        ]
        first, *others = [orjson.dumps(label) + b":" for label in output.labels]
        self._keys = [b',"probabilities":{' + first, *(b"," + key for key in others)]
        self._threshold = np.float32(0.5 if output.threshold is None else output.threshold)
        self._unsure_below = output.unsure_below
        # A row's pieces: its start, its probability, each key and number, and its end.
        self._row = [b"", b"", *(piece for key in self._keys for piece in (key, b"")), b"}}"]
        if self._unsure_below is not None:
            self._row[-1:] = [b'},"unsure":', b"", b"}"]
        # The same of a single row, without its last brace: to be filled by what is empty there.
        end = b"}" if self._unsure_below is None else b'},"unsure":%b'
        keys = [key.replace(b"%", b"%%") + b"%b" for key in self._keys]
        self._single = b"".join((b"%b%b", *keys, end))

    def write(self, scores: Array, warnings: Warnings, *, single: bool) -> bytes:
        """As `AnswerWriter` has it."""
        if len(scores) == 1:
            one = self._row_of(scores[0])
            if warnings:
                one += _warned(warnings, 0)
            return one + self._about if single else b'{"predictions":[%b}]%b' % (one, self._about)
        probabilities = scores_by_label(scores, self._output.labels)
        chosen = chosen_labels(self._output, probabilities)
        pieces = self._pieces(_written(probabilities), chosen)
        flags = unsure(self._output, probabilities, chosen)
        if flags is not None:
            pieces[len(self._row) - 2 :: len(self._row)] = [_FLAGS[flag] for flag in flags]
        ends = slice(len(self._row) - 1, -1, len(self._row))
        pieces[ends] = [self._row[-1] + b","] * (len(chosen) - 1)
        for row in warnings:
            place = (row + 1) * len(self._row) - 1
            # The last brace is the row's own.
            inner, brace, comma = pieces[place].rpartition(b"}")
            pieces[place] = inner + _warned(warnings, row) + brace + comma
        return b"".join((b'{"predictions":[', *pieces, b"]", self._about))

    def _row_of(self, row: Array) -> bytes:
        """One row's answer but for its last brace.

        Most requests have one row, for which numpy's ways with many take several times as long.

        Args:
            row: ``[columns]`` of the graph.
        """
        if row.size < len(self._keys):
            second = row[0]
            shares: Sequence[np.floating[Any]] | Array = (1 - second, second)
            place = int(second >= self._threshold)
        else:
            shares, place = row, int(row.argmax())
        numbers = orjson.dumps(shares, option=_NUMPY)[1:-1].split(b",")
        start, number = self._starts[place], numbers[place]
        if self._unsure_below is None:
            return self._single % (start, number, *numbers)
        flag = _FLAGS[float(shares[place]) < self._unsure_below]
        return self._single % (start, number, *numbers, flag)

    def _pieces(self, numbers: list[bytes], chosen: Sequence[int]) -> list[bytes]:
        """All rows' pieces, one after the other."""
        count, width = len(self._row), len(self._keys)
        pieces = self._row * len(chosen)
        pieces[0::count] = [self._starts[place] for place in chosen]
        pieces[1::count] = [
            numbers[row + place]
            for row, place in zip(range(0, len(numbers), width), chosen, strict=True)
        ]
        for column in range(width):
            pieces[3 + 2 * column :: count] = numbers[column::width]
        return pieces


def _warned(warnings: Warnings, row: int) -> bytes:
    return b',"warnings":' + orjson.dumps(warnings[row]) if row in warnings else b""


def _written(numbers: Array) -> list[bytes]:
    """Each number as orjson writes it, row by row."""
    return orjson.dumps(np.ascontiguousarray(numbers).ravel(), option=_NUMPY)[1:-1].split(b",")
