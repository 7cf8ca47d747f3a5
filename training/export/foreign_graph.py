"""An ONNX model from another program: its inputs and its outputs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto

from training.data.table import Float32s
from training.errors import ImportRejected
from training.onnx_files import Array, run_graph
from training.recipe.families import output_width
from training.recipe.table import Feature

_NUMBERS: dict[int, type[np.generic]] = {
    TensorProto.FLOAT: np.float32,
    TensorProto.DOUBLE: np.float64,
    TensorProto.INT32: np.int32,
    TensorProto.INT64: np.int64,
    TensorProto.BOOL: np.bool_,
}
INTEGER_TYPES = (TensorProto.INT32, TensorProto.INT64)
STRING_TYPE = TensorProto.STRING
_CLASSES = ("classlabels_strings", "classlabels_int64s", "classlabels_ints")
_NEAR_ONE = 1e-3


@dataclass(frozen=True)
class ForeignInput:
    """One input of the graph, ``[batch, width]``."""

    name: str
    type: int
    """A data type of `onnx.TensorProto`."""
    width: int | None
    """None if the graph does not fix it."""


class ForeignGraph:
    """An imported graph, changed in place: without ZipMaps, so that every output is a tensor.

    Raise `ImportRejected` if an input has a type or rank that table columns cannot fill.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.classes = _find_classes(model)
        _open_batch(model)
        _remove_maps(model)
        initializers = {tensor.name for tensor in model.graph.initializer}
        self.inputs = [
            _read_input(value) for value in model.graph.input if value.name not in initializers
        ]
        if len(self.inputs) > 1:
            self.inputs = [ForeignInput(i.name, i.type, i.width or 1) for i in self.inputs]

    @property
    def producer(self) -> str:
        """The producer name and version in the file."""
        return f"{self.model.producer_name} {self.model.producer_version}".strip()

    @property
    def width(self) -> int | None:
        """The number of input columns, if the graph fixes it."""
        widths = [known.width for known in self.inputs if known.width is not None]
        return sum(widths) if len(widths) == len(self.inputs) else None

    @property
    def column_names(self) -> list[str] | None:
        """The names of the inputs, if each is one column."""
        named = len(self.inputs) > 1 and all(known.width == 1 for known in self.inputs)
        return [known.name for known in self.inputs] if named else None

    @property
    def column_types(self) -> list[int]:
        """The `onnx.TensorProto` data type of each column."""
        return [known.type for known in self.inputs for _ in range(known.width or 1)]

    @cached_property
    def _serialized(self) -> bytes:
        return bytes(self.model.SerializeToString())

    def run(self, features: Float32s, columns: Sequence[Feature]) -> dict[str, Array]:
        """Run the graph on rows as a bundle encodes them, ``[rows, columns]``; return every output.

        Raise `ImportRejected` if ONNX Runtime cannot run the graph on these rows.
        """
        values, start = {}, 0
        for known in self.inputs:
            end = start + (known.width or features.shape[1])
            values[known.name] = _convert_input(
                features[:, start:end], known.type, columns[start:end]
            )
            start = end
        return run_graph(self._serialized, values)


def _convert_input(part: Float32s, kind: int, columns: Sequence[Feature]) -> Array:
    if kind != STRING_TYPE:
        return part.astype(_NUMBERS[kind])
    values = np.empty(part.shape, dtype=object)
    for k, column in enumerate(columns):
        categories = [*column.categories, ""]  # -1, an unknown word, selects the last
        values[:, k] = [
            categories[position] for position in np.nan_to_num(part[:, k], nan=-1).astype(int)
        ]
    return values


def _read_input(value: onnx.ValueInfoProto) -> ForeignInput:
    tensor = value.type.tensor_type
    if tensor.elem_type not in _NUMBERS and tensor.elem_type != STRING_TYPE:
        kind = TensorProto.DataType.Name(tensor.elem_type).lower()
        raise ImportRejected(
            f"its input {value.name!r} is of type {kind}; table columns are numbers, "
            "booleans or words."
        )
    dims = tensor.shape.dim
    if len(dims) != 2:  # noqa: PLR2004 - rows and columns
        raise ImportRejected(
            f"its input {value.name!r} has {len(dims)} axes; a table has two: rows and columns."
        )
    return ForeignInput(value.name, tensor.elem_type, dims[1].dim_value or None)


def _open_batch(model: onnx.ModelProto) -> None:
    """Make the batch axis dynamic; verification shows whether the graph supports it."""
    for value in (*model.graph.input, *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        if dims:
            dims[0].dim_param = "batch"
    del model.graph.value_info[:]


def _remove_maps(model: onnx.ModelProto) -> None:
    """Replace each ZipMap output by the tensor that the ZipMap reads."""
    graph = model.graph
    for node in [node for node in graph.node if node.op_type == "ZipMap"]:
        for value in graph.output:
            if value.name == node.output[0]:
                shape = ["batch", None]
                value.CopyFrom(
                    onnx.helper.make_tensor_value_info(node.input[0], TensorProto.FLOAT, shape)
                )
        graph.node.remove(node)


def _find_classes(model: onnx.ModelProto) -> list[str] | list[int] | None:
    """Return the classes in the order of their probabilities, if a node lists them."""
    nodes = sorted(model.graph.node, key=lambda node: node.op_type != "ZipMap")
    for node in nodes:
        for attribute in node.attribute:
            if attribute.name in _CLASSES and (attribute.strings or attribute.ints):
                return [word.decode() for word in attribute.strings] or list(attribute.ints)
    return None


@dataclass(frozen=True)
class OutputMapping:
    """The output that becomes the prediction of the bundle, and how."""

    output: str
    form: Literal["value", "probability", "probabilities", "label"]
    labels: list[str] = field(default_factory=list)
    classes: list[str] | list[int] = field(default_factory=list)
    """The graph's own names of the labels, if its output is a label."""

    @property
    def width(self) -> int:
        """The number of output columns of the bundle."""
        return output_width(len(self.labels))

    @property
    def remark(self) -> str:
        """A note on the meaning of the probabilities."""
        if self.form != "label":
            return ""
        return "The model returns only a label, so its probabilities are 1 and 0."

    def apply(self, outputs: Mapping[str, Array]) -> Float32s:
        """Return the prediction of the bundle, ``[rows, width]``, from the outputs of the graph."""
        found = outputs[self.output]
        if self.form == "label":
            found = found.reshape(-1, 1) == np.array(self.classes, dtype=found.dtype)
        if self.form in ("label", "probabilities") and self.width == 1:
            found = found[:, 1:]
        found = found.reshape(len(found), self.width).astype(np.float32)
        return found.clip(0, 1) if self.form in ("probability", "probabilities") else found


def find_output(
    outputs: Mapping[str, Array], classes: list[str] | list[int] | None, labels: Sequence[str]
) -> OutputMapping:
    """Choose the output to publish: probabilities, else labels, else a value.

    If scores next to a label are not probabilities, such as the distances of k-means, only the
    label is used: their softmax would not be a measured confidence.

    Args:
        outputs: of the graph, for some rows.
        classes: the class names in the graph, if it has them.
        labels: names given by the user; if empty, a number or the names in the graph.

    Raises:
        ImportRejected: no output, or more than one, can be the prediction.
    """
    for name, array in outputs.items():
        if _are_probabilities(array):
            return OutputMapping(
                name, "probabilities", _choose_labels(labels, classes, array.shape[1])
            )
    for name, array in outputs.items():
        if array.dtype.kind in "iUOb" and array.size == len(array):
            return _map_label(name, array, classes, labels)
    single = {name: a for name, a in outputs.items() if a.dtype.kind == "f" and a.size == len(a)}
    if len(single) != 1:
        raise ImportRejected(
            f"none of its outputs is one prediction per row: {_describe_outputs(outputs)}. "
            "Give it one output: a number, a label, or probabilities that sum to one."
        )
    name, array = next(iter(single.items()))
    if not labels:
        return OutputMapping(name, "value")
    if len(labels) == 2 and ((array >= 0) & (array <= 1)).all():  # noqa: PLR2004 - one probability
        return OutputMapping(name, "probability", list(labels))
    raise ImportRejected(
        f"its output {name!r} is one number between {array.min():.4g} and {array.max():.4g}, which "
        f"is not a probability of {len(labels)} labels. Add a sigmoid or softmax to it, or "
        "leave out the labels if it predicts a number."
    )


def _map_label(
    name: str, array: Array, classes: list[str] | list[int] | None, labels: Sequence[str]
) -> OutputMapping:
    if classes is None and not labels:
        raise ImportRejected(
            f"its output {name!r} is a label, but the graph does not list the labels. Name all of "
            "them with --labels, in the order of their numbers."
        )
    if classes is None:
        classes = list(labels) if array.dtype.kind in "UO" else list(range(len(labels)))
    unknown = sorted(set(array.ravel().tolist()) - set(classes))
    if unknown:
        raise ImportRejected(
            f"it returns {unknown[0]!r}, which is none of its classes "
            f"({', '.join(map(str, classes))}). Name all of them with --labels."
        )
    return OutputMapping(name, "label", _choose_labels(labels, classes, len(classes)), classes)


def _choose_labels(
    labels: Sequence[str], classes: list[str] | list[int] | None, count: int
) -> list[str]:
    named = list(labels) or [str(name) for name in classes or range(count)]
    if len(named) != count:
        raise ImportRejected(
            f"it has {count} classes, but {len(named)} labels are named: "
            f"{', '.join(named)}. Name {count} with --labels, in the graph's order"
            + (f" ({', '.join(map(str, classes))})." if classes else ".")
        )
    return named


def _are_probabilities(array: Array) -> bool:
    if array.dtype.kind != "f" or array.ndim != 2 or array.shape[1] < 2:  # noqa: PLR2004 - columns
        return False
    sums = array.sum(axis=1, dtype=np.float64)
    return bool((np.abs(sums - 1) <= _NEAR_ONE).all() and (array >= 0).all())


def _describe_outputs(outputs: Mapping[str, Array]) -> str:
    return ", ".join(
        f"{name!r} {array.dtype} {list(array.shape)}" for name, array in outputs.items()
    )
