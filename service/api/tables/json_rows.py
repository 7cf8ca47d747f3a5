"""Rows of newline-delimited JSON as a model's numbers, a block at a time."""

from collections.abc import Sequence
from itertools import count

import numpy as np
import orjson

from service.api.features import FeatureCodec
from service.api.tables.block import Block, Fault, Matrix
from service.api.tables.lines import Lines
from service.errors import InvalidRequest


class JsonRows:
    """Reads one row a line: an object by names, or an array in the features' order."""

    def __init__(self, codec: FeatureCodec) -> None:
        self._codec = codec
        self._lines = Lines("utf-8-sig")
        self._example = orjson.dumps(codec.example).decode()

    @property
    def line(self) -> int:
        """The line that is read next, from 1."""
        return self._lines.taken + 1

    def feed(self, data: bytes) -> None:
        """Take in what has arrived; raises `InvalidRequest` where a line does not end."""
        self._lines.feed(data)

    def end(self) -> None:
        """Nothing more will arrive."""
        self._lines.end()

    def take(self, most: int) -> Block | None:
        """The next rows that have arrived, at most so many; None where there is none."""
        first = self._lines.taken + 1
        taken = self._lines.take(most)
        if not taken:
            return None
        numbered = [(line, text) for line, text in zip(count(first), taken) if text.strip()]
        lines = [line for line, _ in numbered]
        texts = [text for _, text in numbered]
        try:
            numbers = self._read(texts)
        except InvalidRequest:
            return self._singly(texts, lines)
        return Block(numbers, {}, lines)

    def _singly(self, texts: Sequence[str], lines: Sequence[int]) -> Block:
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
