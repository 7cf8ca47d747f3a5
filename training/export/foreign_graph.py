"""An ONNX model from another program, changed so that every output is a tensor."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
from onnx import ModelProto, ValueInfoProto, helper

from training.data.table import Inputs
from training.errors import ImportRejected
from training.export.graph_builder import GraphBuilder
from training.export.graph_names import choose_free_name, list_names, list_nodes, list_subgraphs
from training.export.graph_reading import (
    STRING_TYPE,
    Column,
    GraphReader,
    KnownLabels,
    read_input,
)
from training.export.node_attributes import ClassNames
from training.onnx_files import Array, run_graph
from training.recipe.table import Feature

# The domain of the standard operators can be spelled in two ways.
_SPELLED_OUT = "ai.onnx"
# For graphs that only use operators of other domains; IR version 4 is the first that does not
# list constants as inputs.
_OPSET = 13
_IR_VERSION = 4


class ForeignGraph:
    """An imported graph, changed in place, with the same outputs as tensors.

    ZipMaps become tensors in the order of their classes, columns of one tensor are joined, and
    sequences of tensors are dropped. Raise `ImportRejected` if an input has a type or rank that
    table columns cannot fill, unless the graph takes images.
    """

    def __init__(self, model: ModelProto, *, takes_images: bool = False) -> None:
        self.model = model
        normalize_domains(model)
        sequences = _drop_sequences(model)
        constants = {tensor.name for tensor in model.graph.initializer}
        inputs = [value for value in model.graph.input if value.name not in constants]
        if not inputs:
            raise ImportRejected("it has no inputs, so its prediction is always the same.")
        self.inputs = [] if takes_images else [read_input(value) for value in inputs]
        if len(self.inputs) > 1:
            self.inputs = [replace(known, width=known.width or 1) for known in self.inputs]
        reader = GraphReader(model)
        names = [value.name for value in model.graph.output]
        joined = _join_columns(model, reader)
        classes = {name: reader.find_classes(joined.get(name, name)) for name in (*names, *joined)}
        comparisons = {name: reader.find_comparison(name) for name in names}
        self.known_labels = KnownLabels(
            {name: found for name, found in classes.items() if found is not None},
            {name: found for name, found in comparisons.items() if found is not None},
            sequences,
        )
        self.vocabularies: Mapping[Column, list[str]] = reader.read_vocabularies()
        """The words that the graph knows, by the name of a string input and its column."""
        _remove_maps(model)
        _open_batch(model)

    @property
    def classes(self) -> ClassNames | None:
        """The class names of the first output that has some."""
        return next(iter(self.known_labels.classes.values()), None)

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

    def run_original(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the graph in its own types; return every output by its name.

        Args:
            inputs: by name, ``[rows, width]`` or ``[rows]``; words as objects.

        Raises:
            ImportRejected: ONNX Runtime cannot run the graph on these rows.
        """
        values = {known.name: known.shape(inputs[known.name]) for known in self.inputs}
        return run_graph(self._serialized, values)

    def run(self, features: Inputs, columns: Sequence[Feature]) -> dict[str, Array]:
        """Run the graph on rows as a bundle encodes them, ``[rows, columns]``.

        Raise `ImportRejected` if ONNX Runtime cannot run the graph on these rows.
        """
        values, start = {}, 0
        for known in self.inputs:
            end = start + (known.width or features.shape[1])
            part = features[:, start:end]
            values[known.name] = (
                _find_words(part, columns[start:end]) if known.type == STRING_TYPE else part
            )
            start = end
        return self.run_original(values)


def normalize_domains(model: ModelProto) -> None:
    """Write the domain of the standard operators as ONNX does: as an empty string."""
    for owner in (model, *model.functions):
        spelled = [opset for opset in owner.opset_import if opset.domain == _SPELLED_OUT]
        known = {opset.domain for opset in owner.opset_import}
        for opset in spelled:
            if "" in known:
                owner.opset_import.remove(opset)
            else:
                opset.domain = ""
    parts = [model.graph]
    nodes = [node for graph in parts for node in list_nodes(graph)]
    for function in model.functions:
        nodes.extend(function.node)
        nodes.extend(
            inner
            for node in function.node
            for graph in list_subgraphs(node)
            for inner in list_nodes(graph)
        )
    for node in nodes:
        if node.domain == _SPELLED_OUT:
            node.domain = ""


def require_standard_operators(model: ModelProto) -> None:
    """Import the standard operators in a graph that only uses those of other domains."""
    if not any(opset.domain == "" for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid("", _OPSET))
    model.ir_version = max(model.ir_version, _IR_VERSION)


def _find_words(part: Inputs, columns: Sequence[Feature]) -> Array:
    values = np.empty(part.shape, dtype=object)
    for k, column in enumerate(columns):
        categories = [*column.categories, ""]  # -1, an unknown word, selects the last
        values[:, k] = [
            categories[position] for position in np.nan_to_num(part[:, k], nan=-1).astype(int)
        ]
    return values


def _drop_sequences(model: ModelProto) -> list[str]:
    """Remove the outputs that are sequences of tensors, and return their names."""
    dropped = [
        value
        for value in model.graph.output
        if value.type.WhichOneof("value") == "sequence_type"
        and value.type.sequence_type.elem_type.WhichOneof("value") == "tensor_type"
    ]
    for value in dropped:
        model.graph.output.remove(value)
    return [value.name for value in dropped]


def _remove_maps(model: ModelProto) -> None:
    """Let each ZipMap return the tensor that it reads."""
    for node in model.graph.node:
        if node.op_type == "ZipMap":
            require_standard_operators(model)
            node.op_type, node.domain = "Identity", ""
            del node.attribute[:]


def _open_batch(model: ModelProto) -> None:
    """Make the batch axis dynamic; verification shows whether the graph supports it.

    Declared types of outputs are removed, which some converters write wrongly: ONNX Runtime finds
    the real ones.
    """
    graph = model.graph
    for value in graph.input:
        dims = value.type.tensor_type.shape.dim
        if dims:
            dims[0].dim_param = "batch"
    names = [value.name for value in graph.output]
    del graph.value_info[:], graph.output[:]
    graph.output.extend(ValueInfoProto(name=name) for name in names)


def _join_columns(model: ModelProto, reader: GraphReader) -> dict[str, str]:
    """Add an output that joins those that are all columns of one tensor, one each.

    Return the tensors by the names of the added outputs.
    """
    groups: dict[str, dict[int, str]] = {}
    for value in model.graph.output:
        found = reader.find_column(value.name)
        if found is not None:
            groups.setdefault(found[0], {})[found[1]] = value.name
    added = {}
    for source, group in groups.items():
        if len(group) > 1 and sorted(group) == list(range(len(group))):
            used = list_names(model.graph)
            output = choose_free_name(f"{source}_columns", used)
            builder = GraphBuilder(choose_free_name("columns", {*used, output}))
            shape = builder.add_constant(np.array([-1, 1]))
            columns = [builder.add("Reshape", group[k], shape) for k in range(len(group))]
            builder.add("Concat", *columns, output=output, axis=1)
            model.graph.node.extend(builder.nodes)
            model.graph.initializer.extend(builder.constants)
            model.graph.output.append(ValueInfoProto(name=output))
            model.ir_version = max(model.ir_version, _IR_VERSION)
            added[output] = source
    return added
