"""The outputs of a graph without a manifest, as rows: class labels, or the outputs by their names.

The predicted label is that of the graph's own label output, if it has one. Only a graph with class
names and no such output gets the most probable label.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import orjson

from service.bundle.manifest import BINARY, ClassesOutput
from service.codecs.csv_rows import CsvFormat, CsvWriter, TableWriter
from service.codecs.json_writer import ClassesWriter, Column, PredictionWriter, encode_numbers
from service.codecs.parameters import Parameters
from service.engine.model import ModelInfo
from service.engine.tensors import ABSENT, DTYPES, Array, Arrays, TensorSpec
from service.errors import InvalidRequest
from service.predictions import Classification, expand_binary_scores, predict_labels

# Keys of a response that are no outputs.
_RESERVED = {"predictions", "model_version", "warnings", "explanation", "file", "error", "code"}
_MAX_COLUMNS = 1000
_WHOLE = re.compile(r"-?[0-9]+")
_POSITION, _PROBABILITIES = "position", "probabilities"


class GraphOutputs:
    """Joins the outputs of a graph into a structured array ``[rows]``, and writes such rows."""

    def __init__(self, info: ModelInfo) -> None:
        self._name = info.name
        self._specs = info.outputs
        self._labels = info.labels
        self._scores = _find_scores(info.outputs, info.labels)
        self._label: int | None = None
        self.classes: ClassesOutput | None = None
        """None if the rows have the outputs by their names."""
        if self._scores is None:
            return
        labels = list(info.labels[info.outputs[self._scores].name])
        self._label = _find_label(info.outputs)
        # Further outputs would be lost in a prediction that is a label.
        if len(info.outputs) != (1 if self._label is None else 2):
            return
        if self._label is not None and not _is_named(info.outputs[self._label], labels):
            return
        # The names of a graph may be empty, which those of a manifest may not.
        self.classes = ClassesOutput.model_construct(
            kind="classes", name=info.outputs[self._scores].name, labels=labels
        )
        self._positions = {label: position for position, label in enumerate(labels)}

    def join(self, outputs: Arrays, rows: int) -> Array:
        """Return the outputs of a run as rows.

        Raise `InvalidRequest` if an output has no value for each row, or a label without a name.
        """
        if self.classes is not None and self._scores is not None:
            return self._join_classes(self.classes, outputs, self._scores, rows)
        arrays = [self._split(k, array, rows) for k, array in enumerate(outputs)]
        fields = [(str(k), array.dtype, array.shape[1:]) for k, array in enumerate(arrays)]
        joined = np.empty(rows, np.dtype(fields))
        for k, array in enumerate(arrays):
            joined[str(k)] = array
        return joined

    def create_writer(self, version: str) -> PredictionWriter:
        """Create the writer of JSON."""
        if self.classes is not None:
            return _LabelWriter(self.classes, version)
        return _NamedWriter(self._specs, self._labels, version)

    def create_csv_writer(self, parameters: Parameters, table: CsvFormat | None) -> TableWriter:
        """Create the writer of a table."""
        if self.classes is not None:
            return _LabelCsvWriter(self.classes, parameters, table)
        return _NamedCsvWriter(self._specs, self._labels, parameters, table)

    def select(self, joined: Array) -> Array:
        """Return the numbers of rows that are explained, ``[rows, columns]``.

        Raise `InvalidRequest` if there is not exactly one such output.
        """
        if self.classes is not None:
            return np.asarray(joined[_PROBABILITIES])
        numeric = [k for k, spec in enumerate(self._specs) if DTYPES[spec.datatype].kind == "f"]
        if len(numeric) != 1 or joined[str(numeric[0])].ndim != 1:
            raise InvalidRequest(
                f"Model {self._name!r} has no explanations: they are for class probabilities with "
                "known names, or for one number in a row, and the outputs are "
                f"{', '.join(f'{spec.name!r} {list(spec.shape)}' for spec in self._specs)}."
            )
        return np.asarray(joined[str(numeric[0])])[:, np.newaxis]

    def quantity(self, position: int) -> str:
        """Name what `select` returns in this column."""
        if self.classes is not None:
            return f"probability of {self.classes.labels[position]!r}"
        return next(spec.name for spec in self._specs if DTYPES[spec.datatype].kind == "f")

    def positions(self, joined: Array) -> Sequence[int]:
        """Return the positions of the predicted labels of rows; zeros if there are no labels."""
        if self.classes is None:
            return [0] * len(joined)
        found: list[int] = joined[_POSITION].tolist()
        return found

    def _join_classes(
        self, classes: ClassesOutput, outputs: Arrays, scores: int, rows: int
    ) -> Array:
        labels = classes.labels
        found = self._split(scores, outputs[scores], rows)
        table = found.reshape(rows, -1) if rows else found.reshape(0, len(labels))
        probabilities = expand_binary_scores(table) if len(labels) == BINARY else table
        if probabilities.shape[1] != len(labels):
            raise self._unreadable(
                f"has {probabilities.shape[1]} numbers in a row and {len(labels)} class names",
                scores,
            )
        joined = np.empty(
            rows,
            [(_PROBABILITIES, probabilities.dtype, (len(labels),)), (_POSITION, np.intp)],
        )
        joined[_PROBABILITIES] = probabilities
        if self._label is None:
            # Two columns may be scores, so only the probability of the second has a threshold.
            is_single = table.shape[1] == 1
            joined[_POSITION] = predict_labels(table) if is_single else table.argmax(axis=1)
            return joined
        values = self._split(self._label, outputs[self._label], rows).ravel().tolist()
        try:
            joined[_POSITION] = [self._positions[str(value)] for value in values]
        except KeyError as error:
            raise self._unreadable(
                f"has the label {error.args[0]!r}, which is none of the class names", self._label
            ) from None
        return joined

    def _split(self, position: int, array: Array, rows: int) -> Array:
        """Return an output with one item for each row, without an axis of length one."""
        if array is ABSENT:
            return np.full(rows, None, np.object_)
        if rows == 1 and (array.ndim == 0 or len(array) != 1):
            array = array[np.newaxis]
        if array.ndim == 0 or len(array) != rows:
            raise self._unreadable(
                f"has the shape {list(array.shape)}, not a value for each of {rows} rows", position
            )
        # Of two equivalent integer types of numpy, orjson supports only one; it has no 16 bits.
        datatype = self._specs[position].datatype
        array = np.asarray(array, DTYPES["FP32" if datatype == "FP16" else datatype])
        return array[:, 0] if array.ndim > 1 and array.shape[1:] == (1,) else array

    def _unreadable(self, reason: str, position: int) -> InvalidRequest:
        return InvalidRequest(
            f"Output {self._specs[position].name!r} of model {self._name!r} {reason}; use POST "
            f"/v2/models/{self._name}/infer."
        )


class _LabelWriter(ClassesWriter):
    """Writes the labels that the graph itself predicts."""

    def _write_row(self, columns: Array, end: bytes) -> bytes:
        numbers = encode_numbers(columns[_PROBABILITIES])
        label = int(columns[_POSITION])
        return self._row % (self._starts[label], numbers[label], *numbers, b"", end)

    def _classify(self, scores: Array) -> Classification:
        return _classify(scores)


class _LabelCsvWriter(CsvWriter):
    """Writes the labels that the graph itself predicts."""

    def _classify(self, output: ClassesOutput, scores: Array) -> Classification:  # noqa: ARG002 - of the base class
        return _classify(scores)


class _NamedWriter(PredictionWriter):
    """``{"price": 1.5, "distances": [0.1, 0.2], "shares": {"a": 0.3, "b": 0.7}}``."""

    def __init__(
        self, specs: Sequence[TensorSpec], labels: Mapping[str, Sequence[str]], version: str
    ) -> None:
        super().__init__(version)
        keys = [orjson.dumps(name) for name in free_names(specs)]
        self._starts = [(b",%b:" if k else b"{%b:") % key for k, key in enumerate(keys)]
        self._labels = [labels.get(spec.name, ()) for spec in specs]

    def _write_row(self, columns: Array, end: bytes) -> bytes:
        pieces = [
            start + _encode(columns[str(k)], self._labels[k])
            for k, start in enumerate(self._starts)
        ]
        return b"".join([*pieces, end])

    def _columns(self, scores: Array, parameters: Parameters) -> list[Column]:  # noqa: ARG002 - of the base class
        columns: list[Column] = []
        for k, start in enumerate(self._starts):
            values = scores[str(k)]
            if values.ndim == 1 and values.dtype != np.object_:
                columns += [start, encode_numbers(values)]
            else:
                columns += [start, [_encode(value, self._labels[k]) for value in values]]
        return columns


class _NamedCsvWriter(TableWriter):
    """Writes a column for each output of the graph, or for each number of a wide one.

    An output with more axes, or of a width that the graph does not state, is one cell of JSON.
    """

    def __init__(
        self,
        specs: Sequence[TensorSpec],
        labels: Mapping[str, Sequence[str]],
        parameters: Parameters,
        table: CsvFormat | None,
    ) -> None:
        self._widths = [_count_columns(spec) for spec in specs]
        warnings = ["warnings"] if parameters.warnings else []
        columns = [
            column
            for spec, name, width in zip(specs, free_names(specs), self._widths, strict=True)
            for column in _column_names(name, width, labels.get(spec.name, ()))
        ]
        super().__init__([*columns, *warnings, "error"], parameters, table)

    def _predictions(self, scores: Array) -> Sequence[str]:
        if not len(scores):
            return []
        columns = [self._cells(scores[str(k)], width) for k, width in enumerate(self._widths)]
        return [self._separator.join(cells) for cells in zip(*columns, strict=True)]

    def _cells(self, values: Array, width: int | None) -> Sequence[str]:
        """Return the text of each row, which has several cells if the output is wide."""
        if values.dtype == np.object_ and values.ndim == 1:
            return [
                self._cell(value if isinstance(value, str) else _encode(value).decode())
                for value in values
            ]
        if values.ndim == 1 or (width is not None and values.shape[1:] == (width,)):
            numbers = values.reshape(len(values), -1)
            if numbers.dtype == np.object_:
                return [self._separator.join(map(self._cell, row)) for row in numbers.tolist()]
            return self._numbers(numbers)
        return [self._cell(_encode(value).decode()) for value in values]


def _find_scores(specs: Sequence[TensorSpec], labels: Mapping[str, Sequence[str]]) -> int | None:
    """Return the position of the first output with a score for each of several named classes."""
    for position, spec in enumerate(specs):
        names = labels.get(spec.name, ())
        widths = {-1, len(names)} | ({1} if len(names) == BINARY else set())
        is_table = len(spec.shape) == 2 and spec.shape[1] in widths  # noqa: PLR2004 - rows, classes
        is_float = DTYPES[spec.datatype].kind == "f"
        if is_float and len(set(names)) == len(names) >= BINARY and (is_table or not spec.shape):
            return position
    return None


def _find_label(specs: Sequence[TensorSpec]) -> int | None:
    """Return the position of the output with the predicted label of each row.

    It is the first output of integers or strings, as in the graphs of every converter.
    """
    for position, spec in enumerate(specs):
        # Converters may declare a single label, and predict one for each row.
        is_narrow = len(spec.shape) < 2 or spec.shape[1:] == (1,)  # noqa: PLR2004 - rows, labels
        if DTYPES[spec.datatype].kind in "iuO" and is_narrow:
            return position
    return None


def _is_named(spec: TensorSpec, labels: Sequence[str]) -> bool:
    """Return whether the labels of an output can be among the names; integers may be positions."""
    return spec.datatype == "BYTES" or all(map(_WHOLE.fullmatch, labels))


def _classify(scores: Array) -> Classification:
    return Classification(scores[_PROBABILITIES], scores[_POSITION].tolist(), None)


def free_names(specs: Sequence[TensorSpec]) -> Sequence[str]:
    """Return the names of outputs in responses; the other keys of a response are not free."""
    return [f"predicted_{spec.name}" if spec.name in _RESERVED else spec.name for spec in specs]


def _count_columns(spec: TensorSpec) -> int | None:
    """Return the columns of an output in a table; None if it is one cell of JSON."""
    if len(spec.shape) < 2:  # noqa: PLR2004 - rows and columns
        return 1
    is_known = len(spec.shape) == 2 and 0 < spec.shape[1] <= _MAX_COLUMNS  # noqa: PLR2004 - as above
    return spec.shape[1] if is_known else None


def _column_names(name: str, width: int | None, labels: Sequence[str]) -> Iterator[str]:
    if width is None or width == 1:
        yield name
    elif len(labels) == width:
        yield from (f"{name}_{label}" for label in labels)
    else:
        yield from (f"{name}_{k}" for k in range(width))


def _encode(value: object, labels: Sequence[str] = ()) -> bytes:
    """Return the value of one row as JSON; numbers of classes as an object by their names."""
    if isinstance(value, np.ndarray):
        if value.shape == (len(labels),):
            value = dict(zip(labels, value, strict=True))
        elif value.dtype == np.object_:
            value = value.tolist()
        else:
            value = np.ascontiguousarray(value)
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
