"""The nodes that compute the output of a bundle from the outputs of an imported graph."""

import numpy as np
from onnx import TensorProto

from training.errors import ImportRejected
from training.export.graph_builder import GraphBuilder
from training.export.node_attributes import ClassNames
from training.export.output_mapping import BELOW, TIE, OutputMapping

_ML = "ai.onnx.ml"
# The first standard operator sets that broadcast as numpy does, that have Where, and whose Clip has
# inputs.
_BROADCASTING = 7
_WHERE = 9
_CLIP_WITH_INPUTS = 11


def add_output(
    builder: GraphBuilder, mapping: OutputMapping, output_tensor: str, version: int
) -> None:
    """Add the steps of `OutputMapping.apply`: the output of the graph becomes that of the bundle.

    Args:
        builder: collects the steps.
        mapping: of the output.
        output_tensor: the name of the result, ``[batch, width]``.
        version: of the standard operators.

    Raises:
        ImportRejected: they are too old.
    """
    found = _read_columns(builder, mapping, version)
    if mapping.form in ("label", "probabilities") and mapping.width == 1:
        found = builder.add("Gather", found, builder.add_constant(np.array([1])), axis=1)
    if mapping.form not in ("probability", "probabilities"):
        builder.add("Cast", found, output=output_tensor, to=TensorProto.FLOAT)
        return
    found = builder.add("Cast", found, to=TensorProto.FLOAT)
    if mapping.label_output is None or version < _WHERE:
        _clip(builder, found, output_tensor, version)
        return
    scores = _clip(builder, found, "", version)
    own = _compare_label(builder, mapping.label_output, mapping.classes, version)
    if mapping.width == 1:
        _break_ties_of_two(builder, scores, own, mapping, output_tensor)
    else:
        _break_ties(builder, scores, own, mapping, output_tensor)


def _read_columns(builder: GraphBuilder, mapping: OutputMapping, version: int) -> str:
    """Return the values, or the probability of each class, ``[batch, columns]``."""
    found = mapping.output
    if mapping.form == "label":
        found = _compare_label(builder, found, mapping.classes, version)
        return builder.add("Cast", found, to=TensorProto.FLOAT)
    if not mapping.is_table:
        shape = builder.add_constant(np.array([-1, mapping.count]))
        found = builder.add("Reshape", found, shape)
    if mapping.activation == "softmax":
        return builder.add("Softmax", found, axis=1)
    return builder.add("Sigmoid", found) if mapping.activation == "sigmoid" else found


def _clip(builder: GraphBuilder, found: str, output: str, version: int) -> str:
    """Limit probabilities: sums over many trees can exceed one by rounding."""
    if version < _CLIP_WITH_INPUTS:
        return builder.add("Clip", found, output=output, min=0.0, max=1.0)
    low, high = (builder.add_constant(np.array(limit, dtype=np.float32)) for limit in (0, 1))
    return builder.add("Clip", found, low, high, output=output)


def _break_ties(
    builder: GraphBuilder, scores: str, own: str, mapping: OutputMapping, output_tensor: str
) -> None:
    """Add the steps of `OutputMapping.apply` that let equal probabilities give the label.

    Args:
        builder: collects the steps.
        scores: ``[batch, labels]``.
        own: whether each label is that of the graph, ``[batch, labels]``.
        mapping: of the output.
        output_tensor: the name of the result, ``[batch, labels]``.
    """
    zero, tie, below = (
        builder.add_constant(np.array(number, dtype=np.float32)) for number in (0, TIE, BELOW)
    )
    alone = builder.add("Where", own, scores, zero)
    # The only one that is not zero; ReduceMax takes its axes in two ways.
    ones = builder.add_constant(np.ones((mapping.width, 1), dtype=np.float32))
    highest = builder.add("MatMul", alone, ones)
    is_higher = builder.add("Greater", scores, builder.add("Add", highest, tie))
    is_free = builder.add("Or", own, is_higher)
    lower = builder.add("Min", scores, builder.add("Mul", highest, below))
    builder.add("Where", is_free, scores, lower, output=output_tensor)


def _break_ties_of_two(
    builder: GraphBuilder, scores: str, own: str, mapping: OutputMapping, output_tensor: str
) -> None:
    """Do the same for the probability of the second of two labels, ``[batch, 1]``."""
    limit = np.float32(mapping.chosen_threshold)
    threshold, below, tie = (
        builder.add_constant(np.array(number, dtype=np.float32))
        for number in (limit, np.nextafter(limit, np.float32(0)), TIE)
    )
    is_second = builder.add("Gather", own, builder.add_constant(np.array([1])), axis=1)
    raised, lowered = builder.add("Max", scores, threshold), builder.add("Min", scores, below)
    chosen = builder.add("Where", is_second, raised, lowered)
    distance = builder.add("Abs", builder.add("Sub", scores, threshold))
    is_free = builder.add("Greater", distance, tie)
    builder.add("Where", is_free, scores, chosen, output=output_tensor)


def _compare_label(builder: GraphBuilder, found: str, classes: ClassNames, version: int) -> str:
    """Return whether labels equal each class, ``[batch, classes]``."""
    if version < _BROADCASTING:
        raise ImportRejected(
            f"it uses version {version} of the ONNX operators; its label needs version "
            f"{_BROADCASTING}. Convert it again with a newer one."
        )
    codes: list[int] = [code for code in classes if isinstance(code, int)]
    if not codes:
        codes = list(range(len(classes)))
        found = builder.add(
            "LabelEncoder",
            found,
            domain=_ML,
            keys_strings=[str(word) for word in classes],
            values_int64s=codes,
            default_int64=-1,
        )
    found = builder.add("Cast", found, to=TensorProto.INT64)
    found = builder.add("Reshape", found, builder.add_constant(np.array([-1, 1])))
    return builder.add("Equal", found, builder.add_constant(np.array(codes)))
