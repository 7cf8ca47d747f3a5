"""A graph made elsewhere, rewritten to keep the contract: one input of raw columns, one answer."""

from collections.abc import Sequence

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, compose, helper, numpy_helper

from service.bundle.features import INPUT_NAME
from training.errors import ImportRefused
from training.importing.graph import WORDS, Foreign, Reply
from training.onnx_files import Array, strip
from training.recipe.table import Feature

_PREFIX = "model/"
_WORDS_SINCE = 2
"""The version of ai.onnx.ml whose LabelEncoder maps between any two types."""


class Drawing:
    """Nodes and constants to be added, in the order of their use."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def add(
        self,
        kind: str,
        *inputs: str,
        output: str = "",
        domain: str = "",
        **options: int | str | list[int] | list[float] | list[str],
    ) -> str:
        """Add a node and give the name of what it answers."""
        output = output or f"{self.name}/step_{len(self.nodes)}"
        node = helper.make_node(kind, inputs, [output], domain=domain)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in options.items())
        self.nodes.append(node)
        return output

    def constant(self, values: Array) -> str:
        """Add a constant and give its name."""
        name = f"{self.name}/constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(values, name))
        return name


def wrap(foreign: Foreign, columns: Sequence[Feature], reply: Reply, answer: str) -> bytes:
    """The graph with input ``features`` and the one output `answer`, any batch size.

    Args:
        foreign: the graph as it is.
        columns: what the features are, in the order of the graph's inputs.
        reply: which output is the answer, and how.
        answer: what the contract calls the output.

    Raises:
        ImportRefused: the graph is of a kind that cannot be joined to other nodes.
    """
    model = compose.add_prefix(foreign.model, _PREFIX)
    before, after = Drawing("columns"), Drawing("answer")
    _feed(before, foreign, columns)
    _answer(after, reply, answer)
    graph = model.graph
    if any(node.op_type == "LabelEncoder" for node in (*before.nodes, *after.nodes)):
        _teach_words(model)
    kept = _needed([*before.nodes, *graph.node, *after.nodes], answer)
    held = {name for node in kept for name in _reads(node)}
    initialisers = [tensor for tensor in graph.initializer if tensor.name in held]
    wrapped = helper.make_graph(
        kept,
        "onward",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, ["batch", len(columns)])],
        [helper.make_tensor_value_info(answer, TensorProto.FLOAT, ["batch", reply.width])],
        [*before.constants, *initialisers, *after.constants],
        sparse_initializer=list(graph.sparse_initializer),
    )
    model.graph.CopyFrom(wrapped)
    strip(model)
    return bytes(model.SerializeToString(deterministic=True))


def _feed(drawing: Drawing, foreign: Foreign, columns: Sequence[Feature]) -> None:
    """Give each of the graph's inputs its columns, in its type."""
    start = 0
    for known in foreign.inputs:
        end = start + (known.width or len(columns))
        target = _PREFIX + known.name
        if known.type == WORDS:
            words = [
                _word(drawing, _columns(drawing, start + k, start + k + 1), column.categories)
                for k, column in enumerate(columns[start:end])
            ]
            drawing.add("Concat", *words, output=target, axis=1)
        else:
            part = _columns(drawing, start, end)
            drawing.add("Cast", part, output=target, to=known.type)
        start = end


def _columns(drawing: Drawing, start: int, end: int) -> str:
    places = drawing.constant(np.arange(start, end, dtype=np.int64))
    return drawing.add("Gather", INPUT_NAME, places, axis=1)


def _word(drawing: Drawing, positions: str, words: Sequence[str]) -> str:
    """The words at these positions; none of them, -1 and NaN included, is the empty word."""
    return drawing.add(
        "LabelEncoder",
        positions,
        domain="ai.onnx.ml",
        keys_floats=[float(k) for k in range(len(words))],
        values_strings=list(words),
        default_string="",
    )


def _answer(drawing: Drawing, reply: Reply, answer: str) -> None:
    """Turn the graph's own output into the contract's, ``[batch, width]``."""
    found = _PREFIX + reply.output
    if reply.form == "label":
        found = _one_hot(drawing, found, reply.classes)
    if reply.form in ("label", "probabilities") and reply.width == 1:
        found = drawing.add("Gather", found, drawing.constant(np.array([1])), axis=1)
    shape = drawing.constant(np.array([-1, reply.width]))
    found = drawing.add("Reshape", found, shape)
    if reply.form not in ("probability", "probabilities"):
        drawing.add("Cast", found, output=answer, to=TensorProto.FLOAT)
        return
    found = drawing.add("Cast", found, to=TensorProto.FLOAT)
    # Sums over many trees stray beyond one in their last bit.
    found = drawing.add("Min", found, drawing.constant(np.array(1, dtype=np.float32)))
    drawing.add("Max", found, drawing.constant(np.array(0, dtype=np.float32)), output=answer)


def _one_hot(drawing: Drawing, found: str, classes: Sequence[str] | Sequence[int]) -> str:
    codes: list[int] = [code for code in classes if isinstance(code, int)]
    if not codes:
        codes = list(range(len(classes)))
        found = drawing.add(
            "LabelEncoder",
            found,
            domain="ai.onnx.ml",
            keys_strings=[str(word) for word in classes],
            values_int64s=codes,
            default_int64=-1,
        )
    found = drawing.add("Cast", found, to=TensorProto.INT64)
    found = drawing.add("Reshape", found, drawing.constant(np.array([-1, 1])))
    same = drawing.add("Equal", found, drawing.constant(np.array(codes)))
    return drawing.add("Cast", same, to=TensorProto.FLOAT)


def _needed(nodes: Sequence[NodeProto], answer: str) -> list[NodeProto]:
    """The nodes that the answer depends on, in their order."""
    wanted, kept = {answer}, []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(_reads(node))
            kept.append(node)
    return kept[::-1]


def _reads(node: NodeProto) -> set[str]:
    """Every name that a node takes, inside its branches and loops too."""
    inner = [part for attribute in node.attribute for part in (attribute.g, *attribute.graphs)]
    return set(node.input).union(*(_reads(step) for graph in inner for step in graph.node))


def _teach_words(model: ModelProto) -> None:
    """Let the graph know the LabelEncoder that we add."""
    versions = {opset.domain: opset for opset in model.opset_import}
    if "ai.onnx.ml" not in versions:
        model.opset_import.append(helper.make_opsetid("ai.onnx.ml", _WORDS_SINCE))
    elif versions["ai.onnx.ml"].version < _WORDS_SINCE:
        if any(node.op_type == "LabelEncoder" for node in model.graph.node):
            raise ImportRefused(
                "it reads words by the first version of ai.onnx.ml. Convert it again with "
                "target_opset={'': 18, 'ai.onnx.ml': 3}."
            )
        versions["ai.onnx.ml"].version = _WORDS_SINCE
