"""From a stream of rows to a stream of answers, by a block of rows at a time.

Whatever carries the bytes, HTTP or a file, passes here: the answers are the same to the bit.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Protocol

import numpy as np

from service.codecs.features import NO_WARNINGS, FeatureCodec, Warnings
from service.codecs.row_batch import Block, Fault, Matrix, Reader
from service.engine.dtypes import Array
from service.engine.model import ServedModel
from service.errors import DeadlineExceeded, InferenceFailed, InputRejected, OnwardError, Overloaded
from service.observability.metrics import Phases

# A block is so large that reading and answering it takes about as long: a small request that
# arrives meanwhile passes between two.
_SHORTEST_SECONDS = 0.001
_LONGEST_SECONDS = 0.002_5
_FEWEST_ROWS, _FIRST_ROWS, _MOST_ROWS = 1, 256, 4096
_PAUSE_SECONDS = 0.02


class Answers(Protocol):
    """How answers are written."""

    @property
    def media_type(self) -> str:
        """What it writes."""

    def head(self) -> bytes:
        """What comes before the first row."""

    def write(self, block: Block, scores: Array, warnings: Mapping[int, Sequence[str]]) -> bytes:
        """The rows of a block; ``scores`` are those of its rows without a fault."""

    def refuse(self, fault: Fault) -> bytes:
        """A last row that says why nothing follows."""

    def tail(self) -> bytes:
        """What comes after the last row."""


@dataclass
class Tally:
    """What has been done, and how long its parts took in seconds.

    ``rows`` have an answer, ``faults`` an error.
    """

    rows: int = 0
    faults: int = 0
    decode: float = 0.0
    queue: float = 0.0
    compute: float = 0.0
    encode: float = 0.0

    @property
    def seen(self) -> int:
        """All rows."""
        return self.rows + self.faults

    @property
    def phases(self) -> Phases:
        """The times, as the metrics take them."""
        return Phases(self.decode, self.queue, self.compute, self.encode)


class Scoring:
    """One table on its way through one model.

    Args:
        model: that answers.
        codec: of the model.
        reader: of the rows.
        answers: writes what they are answered.
        warn: whether values beyond training are looked for.
        turns: shared by all tables of a process; who reads or writes a block holds it.
        patience_seconds: how long a block may take, waiting included.
    """

    def __init__(  # noqa: PLR0913 - the parts of a way; grouping them would only rename them
        self,
        model: ServedModel,
        codec: FeatureCodec,
        reader: Reader,
        answers: Answers,
        *,
        warn: bool,
        turns: asyncio.Lock,
        patience_seconds: float,
    ) -> None:
        self._model = model
        self._codec = codec
        self._warn = warn
        self._reader = reader
        self._answers = answers
        self._turns = turns
        self._patience_seconds = patience_seconds
        self._most_rows = _FIRST_ROWS
        self.tally = Tally()
        # What made it impossible to go on.
        self.broken: OnwardError | None = None

    @property
    def media_type(self) -> str:
        """What the answer is."""
        return self._answers.media_type

    async def run(self, arriving: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        """The answer's bytes, as soon as they are there.

        What makes it impossible to go on is told in a last row.

        Args:
            arriving: what follows the bytes that the reader has already.
        """
        yield self._answers.head()
        try:
            async for piece in self._drained():
                yield piece
            async for data in arriving:
                self._reader.feed(data)
                async for piece in self._drained():
                    yield piece
            self._reader.end()
            async for piece in self._drained():
                yield piece
        except OnwardError as error:
            # Its traceback refers to this frame, and so to all that has been read.
            self.broken = error.with_traceback(None)
            place = f"Line {self._reader.line}"
            sentence = f"{place}: {error} Nothing from here on was scored."
            yield self._answers.refuse(Fault(sentence, error.code))
        yield self._answers.tail()

    async def _drained(self) -> AsyncIterator[bytes]:
        """The answers to what has arrived."""
        while True:
            async with self._turns:
                await asyncio.sleep(0)  # small requests first
                started = perf_counter()
                block = self._reader.take(self._most_rows)
                decode = perf_counter() - started
            if block is None:
                return
            compute = self.tally.compute
            block, scores = await self._scored(block)
            compute = self.tally.compute - compute
            async with self._turns:
                started = perf_counter()
                piece = self._answers.write(block, scores, self._warnings(block))
                encode = perf_counter() - started
            self._count(block, decode, encode)
            self._pace(max(decode + encode, compute))
            if piece:
                yield piece

    async def _scored(self, block: Block) -> tuple[Block, Array]:
        """The block with the faults that only the model finds, and the scores of its other rows."""
        rows = range(len(block.lines))
        sound = [row for row in rows if row not in block.faults] if block.faults else rows
        errors: dict[int, OnwardError] = {}
        scores = await self._scores(block.numbers, sound, errors)
        if not errors:
            return block, scores
        faults = {row: Fault.of(error, f"Line {block.lines[row]}") for row, error in errors.items()}
        return replace(block, faults={**block.faults, **faults}), scores

    async def _scores(
        self, numbers: Matrix, rows: Sequence[int], errors: dict[int, OnwardError]
    ) -> Array:
        """The scores of these rows; of a row that the model cannot compute, its error instead."""
        if not rows:
            return np.empty((0, max(self._model.outputs[0].shape[-1], 1)), np.float32)
        try:
            return await self._predicted(numbers if len(rows) == len(numbers) else numbers[rows])
        except (InputRejected, InferenceFailed) as error:
            if len(rows) == 1:
                errors[rows[0]] = error
                return await self._scores(numbers, (), errors)
        half = len(rows) // 2
        parts = [await self._scores(numbers, part, errors) for part in (rows[:half], rows[half:])]
        return np.concatenate(parts)

    async def _predicted(self, numbers: Matrix) -> Array:
        """The graph's output; other callers' load is waited out.

        Raises:
            DeadlineExceeded: it took too long.
        """
        try:
            async with asyncio.timeout(self._patience_seconds):
                while True:
                    try:
                        prediction = await self._model.predict((numbers,))
                    except Overloaded:
                        await asyncio.sleep(_PAUSE_SECONDS)
                    else:
                        break
        except TimeoutError:
            raise DeadlineExceeded(self._patience_seconds) from None
        self.tally.queue += prediction.queue_seconds
        self.tally.compute += prediction.compute_seconds
        return prediction.outputs[0]

    def _warnings(self, block: Block) -> Warnings:
        if not self._warn:
            return NO_WARNINGS
        return self._codec.trained.warnings(block.numbers)

    def _count(self, block: Block, decode: float, encode: float) -> None:
        self.tally.rows += len(block.lines) - len(block.faults)
        self.tally.faults += len(block.faults)
        self.tally.decode += decode
        self.tally.encode += encode

    def _pace(self, seconds: float) -> None:
        if seconds > _LONGEST_SECONDS:
            self._most_rows = max(_FEWEST_ROWS, self._most_rows // 2)
        elif seconds < _SHORTEST_SECONDS:
            self._most_rows = min(_MOST_ROWS, self._most_rows * 2)
