"""The part of a graph that turns free text into numbers: TF-IDF, then a linear map.

A row is encoded on its own, in a Scan: a batch of a long and many short texts would need the memory
of as many long ones, and the last bits of a product depend on the number of its rows.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from service.bundle.features import TEXT_NAME
from training.data.table import Float32s
from training.onnx_files import strip

OPSETS: Mapping[str, int] = {"": 20, "com.microsoft": 1}
"""The operator sets of the nodes: StringSplit needs the first, Tokenizer the second."""
_IR_VERSION = 10
# Follows the tokens of each text, as the operators need at least one; no n-gram contains it.
_END = "\0"


@dataclass(frozen=True)
class NGrams:
    """N-grams of tokens, as `TfidfVectorizer` of scikit-learn counts them.

    Attributes:
        characters: whether tokens are characters, instead of the parts between spaces.
        tokens: of each n-gram.
        weights: of each n-gram, its inverse document frequency.
    """

    characters: bool
    tokens: Sequence[Sequence[str]]
    weights: Sequence[float]


@dataclass(frozen=True)
class TextMap:
    """The encoding of a column of text.

    Attributes:
        kinds: of the n-grams, whose TF-IDF of unit length are joined.
        projection: ``[n-grams, outputs]``.
        offset: ``[outputs]``, added to the product.
    """

    kinds: Sequence[NGrams]
    projection: Float32s
    offset: Float32s


def build_nodes(maps: Sequence[TextMap], output: str) -> tuple[list[NodeProto], list[TensorProto]]:
    """Return nodes from the input ``text``, ``[batch, columns]``, to ``[batch, outputs]``."""
    constants: list[TensorProto] = []

    def constant(values: Any) -> str:  # noqa: ANN401 - numpy arrays of any type
        name = f"text/constant_{len(constants)}"
        constants.append(numpy_helper.from_array(values, name))
        return name

    end = constant(np.array([[_END]], np.object_))
    axis = constant(np.array([0]))
    body: list[NodeProto] = []
    encoded = [
        _encode(body, f"text/column_{k}", text_map, constant, end)
        for k, text_map in enumerate(maps)
    ]
    joined = encoded[0]
    if len(encoded) > 1:
        joined = "text/joined"
        body.append(helper.make_node("Concat", encoded, [joined], axis=1))
    body.append(helper.make_node("Squeeze", [joined, axis], ["text/encoded"]))
    width = sum(len(text_map.offset) for text_map in maps)
    graph = helper.make_graph(
        body,
        "text",
        [helper.make_tensor_value_info("text/row", TensorProto.STRING, [len(maps)])],
        [helper.make_tensor_value_info("text/encoded", TensorProto.FLOAT, [width])],
    )
    scan = helper.make_node("Scan", [TEXT_NAME], [output], body=graph, num_scan_inputs=1)
    return [scan], constants


def build_graph(maps: Sequence[TextMap]) -> bytes:
    """Return a graph from ``text``, ``[batch, columns]``, to ``encoded``, ``[batch, outputs]``."""
    nodes, constants = build_nodes(maps, "encoded")
    width = sum(len(text_map.offset) for text_map in maps)
    graph = helper.make_graph(
        nodes,
        "onward",
        [helper.make_tensor_value_info(TEXT_NAME, TensorProto.STRING, ["batch", len(maps)])],
        [helper.make_tensor_value_info("encoded", TensorProto.FLOAT, ["batch", width])],
        constants,
    )
    opsets = [helper.make_opsetid(*one) for one in OPSETS.items()]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)
    strip(model)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _encode(
    nodes: list[NodeProto],
    name: str,
    text_map: TextMap,
    constant: Callable[[Any], str],
    end: str,
) -> str:
    """Add the nodes that encode a column of ``text/row``; return their output, ``[1, outputs]``."""

    def add(kind: str, inputs: Sequence[str], domain: str = "", **options: Any) -> str:  # noqa: ANN401 - attributes
        output = f"{name}/step_{len(nodes)}"
        nodes.append(helper.make_node(kind, inputs, [output], domain=domain, **options))
        return output

    position = constant(np.array([int(name.rpartition("_")[2])]))
    cell = add("Gather", ["text/row", position])
    parts = []
    for kind in text_map.kinds:
        if kind.characters:
            options = {"mark": 0, "mincharnum": 1, "pad_value": _END, "separators": [""]}
            tokens = add("Tokenizer", [cell], "com.microsoft", **options)
        else:
            tokens = f"{name}/tokens"
            nodes.append(
                helper.make_node("StringSplit", [cell], [tokens, f"{tokens}_count"], delimiter=" ")
            )
        counted = add("Concat", [tokens, end], axis=1)
        counts = add("TfIdfVectorizer", [counted], **_describe_counts(kind))
        parts.append(add("LpNormalization", [counts], axis=-1, p=2))
    joined = add("Concat", parts, axis=1) if len(parts) > 1 else parts[0]
    product = add("MatMul", [joined, constant(text_map.projection)])
    return add("Add", [product, constant(text_map.offset)])


def _describe_counts(kind: NGrams) -> dict[str, Any]:
    """Return the attributes of TfIdfVectorizer, in whose pool n-grams are sorted by length."""
    lengths = [len(tokens) for tokens in kind.tokens]
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    longest = max(lengths)
    starts = [sum(size for size in lengths if size < length) for length in range(1, longest + 1)]
    return {
        "mode": "TFIDF",
        "min_gram_length": min(lengths),
        "max_gram_length": longest,
        "max_skip_count": 0,
        "ngram_counts": starts,
        "ngram_indexes": order,
        "pool_strings": [token for k in order for token in kind.tokens[k]],
        "weights": [kind.weights[k] for k in order],
    }
