"""Rows of newline-delimited JSON as a model's numbers, a block at a time."""

from collections.abc import Sequence
from itertools import count

import numpy as np
import orjson

from service.codecs.csv_reader import Lines
from service.codecs.features import FeatureCodec
from service.codecs.row_batch import Block, Fault, Matrix
from service.errors import InvalidRequest

# Rows that are read one by one, because one of them is wrong, take much longer.
_MOST_SINGLE_ROWS = 64


class JsonRows:
    """Reads one row a line: an object by names, or an array in the features' order.

    Args:
        codec: of the model.
        longest: characters of a line.
    """

    def __init__(self, codec: FeatureCodec, longest: int) -> None:
        self._codec = codec
        self._lines = Lines("utf-8-sig", longest)
        # Fewer where rows are wrong, so that not all that wait are read in vain.
        self._most_rows = _MOST_SINGLE_ROWS
        self._example = orjson.dumps(codec.example).decode()

    @property
    def line(self) -> int:
        """The line that is read next, from 1."""
        return self._lines.taken + 1

    def feed(self, data: bytes) -> None:
        """Take in what has arrived."""
        self._lines.feed(data)

    def require_first(self) -> None:
        """Say so before the first row is read; raises `RecordTooLarge` where it is."""
        self._lines.require_next()

    def end(self) -> None:
        """Nothing more will arrive."""
        self._lines.end()

    def take(self, most: int) -> Block | None:
        """The next rows that have arrived, at most so many; None where there is none.

        Raises:
            RecordTooLarge: the next one is.
        """
        if not self._lines.waiting:
            self._lines.require_next()
            return None
        most = min(most, self._most_rows)
        lines, texts = self._waiting(most)
        try:
            block = Block(self._read(texts), {}, lines)
            self._most_rows = 2 * most
        except InvalidRequest:
            most = self._most_rows = min(most, _MOST_SINGLE_ROWS)
            block = self._singly(*self._waiting(most))
        self._lines.take(most)
        return block

    def _waiting(self, most: int) -> tuple[Sequence[int], Sequence[str]]:
        """The next lines that are not empty, of at most so many: their numbers, and their texts."""
        waiting = zip(count(self.line), self._lines.waiting[:most])
        numbered = [(number, text) for number, text in waiting if text.strip()]
        return [number for number, _ in numbered], [text for _, text in numbered]

    def _singly(self, lines: Sequence[int], texts: Sequence[str]) -> Block:
        numbers = np.zeros((len(texts), len(self._codec.features)), np.float32)
        faults = {}
        for row, text in enumerate(texts):
            try:
                numbers[row] = self._read([text])[0]
            except InvalidRequest as error:
                faults[row] = Fault.of(error, f"Line {lines[row]}")
        return Block(numbers, faults, lines)

    def _read(self, texts: Sequence[str]) -> Matrix:
        """The numbers of whole lines.

        Raises:
            InvalidRequest: one of them is no JSON, or no row that the model takes.
        """
        try:
            rows = list(map(orjson.loads, texts))
        except orjson.JSONDecodeError as error:
            raise InvalidRequest(
                f"The line is not JSON: {error}. Send one object a line, for example "
                f"{self._example}"
            ) from None
        if not rows:
            return np.empty((0, len(self._codec.features)), np.float32)
        return self._codec.rows(rows)
