"""Decode rows for a bundle with free text, whose graph reads numbers and strings.

Rows are a structured array: a field for each input of the graph. Their numbers follow the rules of
`service.codecs.features`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from service.bundle.features import INPUT_NAME, TEXT_NAME, FeaturesInput, TextFeature
from service.codecs.csv_cells import CellReader
from service.codecs.features import NO_WARNINGS, FeatureCodec, Warnings
from service.codecs.messages import ProblemCollector, type_problem
from service.codecs.rows import FeatureSchema, RowDecoder, TypeProblem
from service.engine.tensors import Array, Arrays

Rows = npt.NDArray[Any]
"""A structured array ``[rows]`` with the fields ``features`` and ``text``, if they have columns."""

# Rows are decoded in blocks, so that their values are in memory twice only for one block.
_BLOCK_ROWS = 1024


class TextCodec:
    """Decodes rows into the inputs of a graph with free text, by the features of its manifest.

    A missing text is the empty string.
    """

    def __init__(self, features_input: FeaturesInput) -> None:
        self.features = features_input.features
        self.table = features_input.table
        self._schema = FeatureSchema(self.features, features_input.datatype)
        self.example = self._schema.example
        """A valid row."""
        self.names = frozenset(self._schema.names)
        self._texts = [k for k, one in enumerate(self.features) if isinstance(one, TextFeature)]
        self._numbers = [k for k in range(len(self.features)) if k not in self._texts]
        self._numerical: FeatureCodec | None = None
        fields: list[tuple[Any, ...]] = [(TEXT_NAME, np.object_, (len(self._texts),))]
        if self._numbers:
            numerical = features_input.model_copy(update={"features": features_input.numerical})
            self._numerical = FeatureCodec(numerical)
            fields.insert(0, (INPUT_NAME, self._numerical.dtype, (len(self._numbers),)))
        self._dtype = np.dtype(fields)
        self.training_range = NumbersRange(self._numerical)
        self.accepts_unseen = self._numerical is not None and self._numerical.accepts_unseen
        """Whether a category that is not in the training set is no error."""

    def reads(self, row: object) -> bool:
        """Return whether a row has the values of features, not the tensors of the graph."""
        return not isinstance(row, dict) or row.keys() != set(self._dtype.names or ())

    def create_rows(self, count: int) -> Rows:
        """Return rows of zeros and empty strings."""
        rows = np.zeros(count, self._dtype)
        rows[TEXT_NAME] = ""
        return rows

    def decode_rows(
        self, rows: Sequence[object], describe_type: TypeProblem = type_problem
    ) -> Rows:
        """Decode rows: objects by feature name, or arrays in the order of the features.

        Raise `InvalidInput` with the first problems of all rows, and how many there are.
        """
        decoder = RowDecoder(self._schema, describe_type)
        found = ProblemCollector()
        decoded = self.create_rows(len(rows))
        for start in range(0, len(rows), _BLOCK_ROWS):
            first = start if len(rows) > 1 else None
            unread = ProblemCollector(found.remaining)
            block = decoder.decode(rows[start : start + _BLOCK_ROWS], first, unread)
            end = start + len(block)
            if self._numerical is None:
                found.add(unread.count, unread.problems)
            else:
                numbers = [[row[k] for k in self._numbers] for row in block]
                matrix = self._numerical.check_block(numbers, first, unread, found)
                decoded[INPUT_NAME][start:end] = matrix
            for column, k in enumerate(self._texts):
                # A missing value is NaN.
                decoded[TEXT_NAME][start:end, column] = [
                    row[k] if isinstance(row[k], str) else "" for row in block
                ]
        found.raise_any()
        return decoded

    def decode_columns(
        self, columns: Sequence[tuple[int, CellReader, Sequence[str]]], count: int
    ) -> tuple[Rows, npt.NDArray[np.intp]]:
        """Decode cells as `FeatureCodec.decode_columns` does."""
        rows = self.create_rows(count)
        suspects: set[int] = set()
        if self._numerical is not None:
            numbers = [
                (self._numbers.index(position), reader, cells)
                for position, reader, cells in columns
                if position in self._numbers
            ]
            rows[INPUT_NAME], wrong = self._numerical.decode_columns(numbers, count)
            suspects.update(wrong.tolist())
        for position, reader, cells in columns:
            if position in self._texts:
                convert = self._schema.converts[position]
                found = [convert(reader.value(cell)) for cell in cells]
                suspects.update(row for row, text in enumerate(found) if text is None)
                rows[TEXT_NAME][:, self._texts.index(position)] = found
        return rows, np.array(sorted(suspects), np.intp)

    def to_inputs(self, rows: Rows) -> Arrays:
        """Return the inputs of the graph in their order."""
        return tuple(np.ascontiguousarray(rows[name]) for name in self._dtype.names or ())

    def check(self, inputs: Arrays) -> Arrays:
        """Check the inputs of the graph as a client sends them, and normalize their text.

        A missing text is None. Raise `InvalidInput` if numbers break the rules of their features,
        or a required text is missing.
        """
        if self._numerical is not None:
            self._numerical.check(inputs[0])
        return (*inputs[:-1], self._read_texts(inputs[-1]))

    def _read_texts(self, sent: Array) -> Array:
        found = ProblemCollector()
        texts = np.empty(sent.shape, np.object_)
        for column, k in enumerate(self._texts):
            convert = self._schema.converts[k]
            for row, value in enumerate(sent[:, column].tolist()):
                text = texts[row, column] = convert(value)
                if text is None:
                    number = row if len(sent) > 1 else None
                    problems = [type_problem(self.features[k], value, number)]
                    found.add(1, problems if found.remaining else ())
        found.raise_any()
        return texts


class NumbersRange:
    """The training range of the numbers in rows of `TextCodec`."""

    def __init__(self, numerical: FeatureCodec | None) -> None:
        self._numerical = numerical

    def warnings(self, rows: Rows) -> Warnings:
        """Return a warning for each number outside the training range, by row."""
        if self._numerical is None:
            return NO_WARNINGS
        return self._numerical.training_range.warnings(rows[INPUT_NAME])
