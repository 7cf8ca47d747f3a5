"""What an imported graph says about itself: inputs, class names, words, and its own threshold."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import (
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    helper,
    numpy_helper,
    shape_inference,
)
from onnx import ValueInfoProto as Value

from training.errors import ImportRejected
from training.export.node_attributes import (
    ClassNames,
    decode,
    read_attributes,
    read_classes,
    read_values,
    to_names,
)
from training.onnx_files import Array

STRING_TYPE = TensorProto.STRING
NUMBER_TYPES: Mapping[int, type[np.generic]] = {
    TensorProto.FLOAT: np.float32,
    TensorProto.DOUBLE: np.float64,
    TensorProto.FLOAT16: np.float16,
    TensorProto.INT8: np.int8,
    TensorProto.INT16: np.int16,
    TensorProto.INT32: np.int32,
    TensorProto.INT64: np.int64,
    TensorProto.UINT8: np.uint8,
    TensorProto.UINT16: np.uint16,
    TensorProto.UINT32: np.uint32,
    TensorProto.UINT64: np.uint64,
    TensorProto.BOOL: np.bool_,
}
INTEGER_TYPES = tuple(kind for kind, dtype in NUMBER_TYPES.items() if issubclass(dtype, np.integer))

Column = tuple[str, int]
"""The name of an input, and the position of one of its columns."""

# Nodes that neither change nor reorder the values of a column.
_TRANSPARENT = {"Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Dropout"}
# The attributes with the words that a node expects in its input.
_WORDS: Mapping[str, tuple[str, ...]] = {
    "OneHotEncoder": ("cats_strings",),
    "LabelEncoder": ("keys_strings", "keys_tensor", "classes_strings"),
    "CategoryMapper": ("cats_strings",),
    "TfIdfVectorizer": ("pool_strings",),
}
_MOST_COLUMNS = 100_000
_LABEL_STEPS = {"Where", "ArrayFeatureExtractor", "Gather", "LabelEncoder", "Not", "ZipMap"}
_COMPARISONS = {"Greater": True, "LessOrEqual": True, "GreaterOrEqual": False, "Less": False}


@dataclass(frozen=True)
class ForeignInput:
    """One input of the graph: ``[batch, width]``, or ``[batch]`` of rank 1."""

    name: str
    type: int
    """A data type of `onnx.TensorProto`."""
    width: int | None
    """None if the graph does not fix it."""
    rank: int = 2

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the arrays that ONNX Runtime takes: object for strings."""
        return np.dtype(NUMBER_TYPES.get(self.type, np.object_))

    @property
    def limits(self) -> tuple[int, int] | None:
        """The least and the greatest value of an integer type."""
        if self.type not in INTEGER_TYPES:
            return None
        limits = np.iinfo(self.dtype)
        return int(limits.min), int(limits.max)

    def shape(self, cells: Array) -> Array:
        """Return ``[rows, width]`` or ``[rows]`` in the type and the rank of the input."""
        if self.rank == 1:
            return cells.reshape(len(cells)).astype(self.dtype, copy=False)
        return cells.reshape(len(cells), self.width or -1).astype(self.dtype, copy=False)


@dataclass(frozen=True)
class Comparison:
    """How the graph chooses one of two labels by a score."""

    limit: float | None
    """The constant that the score of the second label is compared with; None if it is compared with
    that of the first."""
    strict: bool
    """Whether a tie gives the first of the two labels."""


@dataclass(frozen=True)
class KnownLabels:
    """What a graph says about the labels of its outputs, by the name of the output.

    The table adds the classes of its target.
    """

    classes: Mapping[str, ClassNames] = field(default_factory=dict)
    """The class names: of labels, or of scores with a column for each class."""
    comparisons: Mapping[str, Comparison] = field(default_factory=dict)
    """How labels are chosen from scores, if nodes between them and the label say so."""
    sequences: Sequence[str] = ()
    """The outputs that are sequences of tensors."""
    target: frozenset[str] = frozenset()
    """The classes in the target column of the table; empty if there is none."""


def read_input(value: Value) -> ForeignInput:
    """Return the type and the shape of an input.

    Raise `ImportRejected` if table columns cannot fill it.
    """
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        words = {"sequence_type": "a sequence", "map_type": "a map", "optional_type": "optional"}
        raise ImportRejected(
            f"its input {value.name!r} is {words.get(str(kind), 'of no type')}; the columns of a "
            "table can only fill tensors. Export it with one tensor of columns, or one for each."
        )
    tensor = value.type.tensor_type
    if tensor.elem_type not in NUMBER_TYPES and tensor.elem_type != STRING_TYPE:
        name = TensorProto.DataType.Name(tensor.elem_type).lower()
        raise ImportRejected(
            f"its input {value.name!r} is of type {name}; table columns are numbers, "
            "booleans or words."
        )
    if not tensor.HasField("shape"):
        return ForeignInput(value.name, tensor.elem_type, None)
    dims = tensor.shape.dim
    if len(dims) == 1 and dims[0].dim_value <= 1:
        return ForeignInput(value.name, tensor.elem_type, 1, rank=1)
    if len(dims) == 1:
        raise ImportRejected(
            f"its input {value.name!r} is one row of {dims[0].dim_value} numbers without a batch "
            "axis. Export it with the shape [batch, columns]."
        )
    if len(dims) != 2:  # noqa: PLR2004 - rows and columns
        remedy = (
            "Import images with --images."
            if len(dims) == 4  # noqa: PLR2004 - batch, height, width, channels
            else "Serve it without a bundle, from models/NAME/1/model.onnx."
        )
        raise ImportRejected(
            f"its input {value.name!r} has {len(dims)} axes; a table has two: rows and columns."
            f" {remedy}"
        )
    return ForeignInput(value.name, tensor.elem_type, dims[1].dim_value or None)


class GraphReader:
    """Follows the tensors of a graph back to its inputs, without running it."""

    def __init__(self, model: ModelProto) -> None:
        self._model = model
        self._graph: GraphProto = model.graph
        self._producers = {name: node for node in model.graph.node for name in node.output if name}
        self._constants: dict[str, TensorProto] = {
            tensor.name: tensor for tensor in model.graph.initializer
        }
        for node in model.graph.node:
            for attribute in node.attribute:
                if node.op_type == "Constant" and attribute.name == "value":
                    self._constants[node.output[0]] = attribute.t
        self._inputs = {
            value.name: value.type.tensor_type
            for value in model.graph.input
            if value.name not in self._constants
        }

    def read_constant(self, name: str) -> Array | None:
        """Return the values of a constant tensor, or None if it is computed."""
        if name in self._constants:
            return numpy_helper.to_array(self._constants[name])
        node = self._producers.get(name)
        if node is None:
            return None
        if node.op_type == "Constant":
            attribute = node.attribute[0]
            return np.array(decode(helper.get_attribute_value(attribute)))
        if node.op_type in ("Identity", "Cast", "Reshape", "Unsqueeze", "Squeeze"):
            return self.read_constant(node.input[0])
        return None

    def find_classes(self, output: str) -> ClassNames | None:
        """Return the class names of an output: labels, or a column of scores for each.

        Labels are chosen from a constant by the last steps; else the nearest classifier lists them.
        """
        for node in self._walk_back(output, _is_label_step):
            found = self._read_labels(node)
            if found is not None and len(found) > 1:
                return found
        listed = (read_classes(node) for node in self._walk_back(output))
        return next((found for found in listed if found is not None and len(found) > 1), None)

    def find_comparison(self, output: str) -> Comparison | None:
        """Return how a label is chosen, if its last steps compare scores."""
        for node in self._walk_back(output, _is_label_step):
            if node.op_type in _COMPARISONS:
                found = self._read_comparison(node)
                if found is not None:
                    return found
            elif node.op_type in ("ArgMax", "ArgMin"):
                last = read_attributes(node).get("select_last_index", 0)
                return Comparison(None, strict=not last)
        return None

    def _read_comparison(self, node: NodeProto) -> Comparison | None:
        strict = _COMPARISONS[node.op_type]
        left, right = node.input
        limit, other = self._read_number(right), self._read_number(left)
        if limit is None and other is not None:
            left, limit, strict = right, other, not strict
        column = self.find_column(left)
        if limit is None and (column is None or self.find_column(right) is None):
            return None
        # The score of the first label falls where that of the second rises.
        if column is not None and column[1] == 0 and self._count_inferred(column[0]) != 1:
            return Comparison(None if limit is None else 1 - limit, not strict)
        return Comparison(limit, strict)

    def _read_number(self, name: str) -> float | None:
        """Return a constant of one number, or None if it is none."""
        values = self.read_constant(name)
        return float(values.reshape(())) if values is not None and values.size == 1 else None

    def _count_inferred(self, name: str) -> int | None:
        """Return the number of columns of any tensor, if ONNX can infer it."""
        inferred = shape_inference.infer_shapes(self._model).graph
        for value in (*inferred.input, *inferred.value_info, *inferred.output):
            dims = value.type.tensor_type.shape.dim
            if value.name == name and len(dims) > 1:
                return int(dims[1].dim_value) or None
        return None

    def find_column(self, output: str) -> tuple[str, int] | None:
        """Return the tensor that an output is one column of, and the position of the column."""
        name = output
        while (node := self._producers.get(name)) is not None:
            if node.op_type in _TRANSPARENT:
                name = node.input[0]
                continue
            position = self._read_position(node, name)
            return None if position is None else (node.input[0], position)
        return None

    def read_vocabularies(self) -> dict[Column, list[str]]:
        """Return the words that the graph knows of its string columns, in its own order.

        The empty word is none of them: it stands for a missing cell.
        """
        found: dict[Column, list[str]] = {}
        for node in self._graph.node:
            words, source = self._read_words(node)
            for column in self._trace_all(source) if words else ():
                known = found.setdefault(column, [])
                new = dict.fromkeys(word for word in words or () if word and isinstance(word, str))
                known.extend(word for word in new if word not in known)
        return {
            column: words
            for column, words in found.items()
            if words and self._inputs[column[0]].elem_type == STRING_TYPE
        }

    def _walk_back(
        self, output: str, passable: Callable[[NodeProto], bool] = lambda _: True
    ) -> Iterator[NodeProto]:
        """Return the nodes before a tensor, nearest first; go on only behind passable ones."""
        queue, seen = deque([output]), {output}
        while queue:
            node = self._producers.get(queue.popleft())
            if node is None:
                continue
            yield node
            if passable(node):
                new = [name for name in node.input if name and name not in seen]
                seen.update(new)
                queue.extend(new)

    def _read_labels(self, node: NodeProto) -> ClassNames | None:
        """Return the labels that a node chooses from."""
        listed = read_classes(node)
        if listed is not None:
            return listed
        if node.op_type == "LabelEncoder":
            return read_values(read_attributes(node))
        if node.op_type in ("ArrayFeatureExtractor", "Gather"):
            names = self.read_constant(node.input[0])
            if names is not None and names.size == max(names.shape, default=0):
                return to_names(names)
        return None

    def _read_words(self, node: NodeProto) -> tuple[ClassNames | None, str]:
        """Return the words that a node expects in its input, and the input."""
        for key in _WORDS.get(node.op_type, ()):
            attributes = read_attributes(node)
            if key in attributes:
                return to_names(attributes[key]), node.input[0]
        if node.op_type == "Equal":
            for constant, other in (node.input, reversed(node.input)):
                values = self.read_constant(constant)
                if values is not None and values.dtype.kind in "OU" and values.size > 1:
                    return to_names(values), other
        return None, ""

    def _trace_all(self, name: str) -> list[Column]:
        """Return the input column of each column of a tensor, as far as it is one."""
        width = self._count_columns(name)
        traced = [self._trace(name, position) for position in range(width or 1)]
        return [column for column in traced if column is not None]

    def _trace(self, name: str, position: int) -> Column | None:
        """Return the input column that a column of a tensor is."""
        if name in self._inputs:
            return name, position
        node = self._producers.get(name)
        parts = [] if node is None else self._list_parts(node)
        if node is not None and node.op_type == "Concat":
            for part in parts:
                width = self._count_columns(part) or position + 1
                if position < width:
                    return self._trace(part, position)
                position -= width
            return None
        if len(parts) == 1:
            return self._trace(parts[0], position)
        chosen = None if node is None else self._read_positions(node, name)
        if node is None or chosen is None or position >= len(chosen):
            return None
        return self._trace(node.input[0], chosen[position])

    def _count_columns(self, name: str) -> int | None:
        """Return the number of columns of a tensor, if it is known."""
        if name in self._inputs:
            dims = self._inputs[name].shape.dim
            return 1 if len(dims) == 1 else (dims[1].dim_value or None) if len(dims) > 1 else None
        node = self._producers.get(name)
        if node is None:
            return None
        widths = [self._count_columns(part) for part in self._list_parts(node)]
        if widths:
            known = [width for width in widths if width is not None]
            return sum(known) if len(known) == len(widths) else None
        chosen = self._read_positions(node, name)
        return None if chosen is None else len(chosen)

    def _list_parts(self, node: NodeProto) -> list[str]:
        """Return the tensors whose columns a node passes on, side by side."""
        if node.op_type in _TRANSPARENT:
            return [node.input[0]]
        if node.op_type == "Concat":
            return list(node.input)
        if node.op_type == "Where":  # replaces missing cells by a constant
            computed = [part for part in node.input[1:] if self._reads_input(part)]
            return computed if len(computed) == 1 else []
        return []

    def _reads_input(self, name: str) -> bool:
        """Return whether a tensor depends on an input."""
        given = {name, *(one for node in self._walk_back(name) for one in node.input)}
        return not given.isdisjoint(self._inputs)

    def _read_position(self, node: NodeProto, output: str) -> int | None:
        positions = self._read_positions(node, output)
        return positions[0] if positions is not None and len(positions) == 1 else None

    def _read_positions(self, node: NodeProto, output: str) -> list[int] | None:
        """Return the columns of its first input that a node selects."""
        attributes = read_attributes(node)
        if node.op_type == "ArrayFeatureExtractor" or (
            node.op_type == "Gather" and attributes.get("axis", 0) in (1, -1)
        ):
            chosen = self.read_constant(node.input[1])
            return None if chosen is None else [int(one) for one in chosen.ravel()]
        if node.op_type == "Slice":
            return self._read_slice(node, attributes)
        if node.op_type == "Split" and attributes.get("axis", 0) in (1, -1):
            return self._read_split(node, attributes, output)
        return None

    def _read_slice(self, node: NodeProto, attributes: Mapping[str, Any]) -> list[int] | None:
        parts: list[Array] = []
        for k, key in ((1, "starts"), (2, "ends"), (3, "axes")):
            given = attributes.get(key)
            if len(node.input) > k and node.input[k]:
                given = self.read_constant(node.input[k])
            if given is None and key == "axes" and parts:
                given = range(parts[0].size)
            if given is None:
                return None
            parts.append(np.ravel(np.asarray(given)))
        ranges = {
            int(axis): (int(start), int(end)) for start, end, axis in zip(*parts, strict=True)
        }
        start, end = ranges.pop(1, ranges.pop(-1, (0, 0)))
        if any(other[0] for other in ranges.values()):
            return None
        return list(range(start, end)) if 0 <= start < end <= start + _MOST_COLUMNS else None

    def _read_split(
        self, node: NodeProto, attributes: Mapping[str, Any], output: str
    ) -> list[int] | None:
        position = list(node.output).index(output)
        sizes = self.read_constant(node.input[1]) if len(node.input) > 1 else None
        if sizes is None:
            sizes = np.array(attributes.get("split", [1] * len(node.output)))
        start = int(sizes[:position].sum())
        return list(range(start, start + int(sizes[position])))


def _is_label_step(node: NodeProto) -> bool:
    """Return whether a node only passes on labels or replaces them by others."""
    return node.op_type in {*_TRANSPARENT, *_LABEL_STEPS}
