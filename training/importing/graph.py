"""Someone else's ONNX model: what it takes, and what it answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx
from onnx import TensorProto

from training.data.table import Float32s
from training.errors import ImportRefused
from training.export.runtime import Array, run_graph
from training.recipe.table import Feature

_NUMBERS: dict[int, type[np.generic]] = {
    TensorProto.FLOAT: np.float32,
    TensorProto.DOUBLE: np.float64,
    TensorProto.INT32: np.int32,
    TensorProto.INT64: np.int64,
    TensorProto.BOOL: np.bool_,
}
WHOLE = (TensorProto.INT32, TensorProto.INT64)
WORDS = TensorProto.STRING
_CLASSES = ("classlabels_strings", "classlabels_int64s", "classlabels_ints")


@dataclass(frozen=True)
class ForeignInput:
    """One input of the graph, ``[batch, width]``."""

    name: str
    type: int
    """Of `onnx.TensorProto`."""
    width: int | None
    """None where the graph leaves it open."""


class Foreign:
    """A graph made elsewhere, its ZipMaps taken out: every output is a tensor.

    Args:
        model: as read from its file; it is changed in place.

    Raises:
        ImportRefused: an input is nothing that the columns of a table can fill.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.classes = _classes(model)
        _open_batch(model)
        _remove_maps(model)
        held = {tensor.name for tensor in model.graph.initializer}
        self.inputs = [_input(value) for value in model.graph.input if value.name not in held]
        if len(self.inputs) > 1:
            self.inputs = [ForeignInput(i.name, i.type, i.width or 1) for i in self.inputs]

    @property
    def maker(self) -> str:
        """The program that wrote the file, as it calls itself."""
        return f"{self.model.producer_name} {self.model.producer_version}".strip()

    @property
    def width(self) -> int | None:
        """The columns it takes in all, where that is certain."""
        widths = [known.width for known in self.inputs if known.width is not None]
        return sum(widths) if len(widths) == len(self.inputs) else None

    @property
    def column_names(self) -> list[str] | None:
        """What the graph itself calls its columns, where each is an input of its own."""
        named = len(self.inputs) > 1 and all(known.width == 1 for known in self.inputs)
        return [known.name for known in self.inputs] if named else None

    @property
    def column_types(self) -> list[int]:
        """The type of each column, one of `onnx.TensorProto`'s."""
        return [known.type for known in self.inputs for _ in range(known.width or 1)]

    @cached_property
    def _serialised(self) -> bytes:
        return bytes(self.model.SerializeToString())

    def run(self, features: Float32s, columns: Sequence[Feature]) -> dict[str, Array]:
        """Every output by name, given rows as the contract has them, ``[rows, columns]``.

        Raises:
            ImportRefused: ONNX Runtime cannot run the graph on these rows.
        """
        fed, start = {}, 0
        for known in self.inputs:
            end = start + (known.width or features.shape[1])
            fed[known.name] = _as_fed(features[:, start:end], known.type, columns[start:end])
            start = end
        return run_graph(self._serialised, fed)


def _as_fed(part: Float32s, kind: int, columns: Sequence[Feature]) -> Array:
    if kind != WORDS:
        return part.astype(_NUMBERS[kind])
    fed = np.empty(part.shape, dtype=object)
    for k, column in enumerate(columns):
        words = [*column.categories, ""]  # the last is what -1, no known word, becomes
        fed[:, k] = [words[place] for place in np.nan_to_num(part[:, k], nan=-1).astype(int)]
    return fed


def _input(value: onnx.ValueInfoProto) -> ForeignInput:
    tensor = value.type.tensor_type
    if tensor.elem_type not in _NUMBERS and tensor.elem_type != WORDS:
        kind = TensorProto.DataType.Name(tensor.elem_type).lower()
        raise ImportRefused(
            f"its input {value.name!r} is of type {kind}; a table can fill numbers, truth values "
            "and words only."
        )
    dims = tensor.shape.dim
    if len(dims) != 2:  # noqa: PLR2004 - rows and columns
        raise ImportRefused(
            f"its input {value.name!r} has {len(dims)} axes; a table has two, rows and columns."
        )
    return ForeignInput(value.name, tensor.elem_type, dims[1].dim_value or None)


def _open_batch(model: onnx.ModelProto) -> None:
    """Let the first axis be of any length; the proof tells whether the graph can bear it."""
    for value in (*model.graph.input, *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        if dims:
            dims[0].dim_param = "batch"
    del model.graph.value_info[:]


def _remove_maps(model: onnx.ModelProto) -> None:
    """Answer the tensor that a ZipMap would have made a list of dictionaries of."""
    graph = model.graph
    for node in [node for node in graph.node if node.op_type == "ZipMap"]:
        for value in graph.output:
            if value.name == node.output[0]:
                shape = ["batch", None]
                value.CopyFrom(
                    onnx.helper.make_tensor_value_info(node.input[0], TensorProto.FLOAT, shape)
                )
        graph.node.remove(node)


def _classes(model: onnx.ModelProto) -> list[str] | list[int] | None:
    """The classes in the order of their probabilities, where a node lists them."""
    nodes = sorted(model.graph.node, key=lambda node: node.op_type != "ZipMap")
    for node in nodes:
        for attribute in node.attribute:
            if attribute.name in _CLASSES and (attribute.strings or attribute.ints):
                return [word.decode() for word in attribute.strings] or list(attribute.ints)
    return None
