"""Trimming: convolutions skip rows and columns that no output depends on.

A 2x2 pool over eleven rows uses ten; the eleventh and everything that only it depends on is
unused. The trimmed convolutions have less padding at their end or a sliced input. The remaining
values do not change.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

Size = tuple[int, ...]
"""Sizes of the axes after batch and channels: height and width of images."""

_WINDOWED = {"Conv", "MaxPool", "AveragePool"}
# Elementwise operators.
_ELEMENTWISE = {"Relu", "LeakyRelu", "Elu", "Sigmoid", "Tanh"}
_BATCH_AND_CHANNELS = 2


def trim(model: onnx.ModelProto) -> None:
    """Trim convolutions and pools in place to what later nodes use.

    A model without anything to trim stays identical.
    """
    graph = model.graph
    if any(part.HasField("g") for node in graph.node for part in node.attribute):
        return  # subgraphs may use outer tensors that their node does not list
    sizes = _infer_sizes(model)
    needed = _find_needed_sizes(graph, sizes)
    trimmed: dict[str, Size] = {}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        source, prediction = node.input[0] if node.input else "", node.output[0]
        if node.op_type in _ELEMENTWISE and source in trimmed:
            trimmed[prediction] = trimmed[source]
        elif prediction not in needed:
            pass  # unused
        elif (window := _find_window(node, sizes)) is not None:
            before, trimmed[prediction] = _trim_end(
                graph, node, window, trimmed.get(source, sizes[source]), needed[prediction]
            )
            nodes += before
        nodes.append(node)
    if any(size != sizes[name] for name, size in trimmed.items()):
        del graph.node[:]
        graph.node.extend(nodes)
        del graph.value_info[:]
        graph.value_info.extend(onnx.shape_inference.infer_shapes(model).graph.value_info)


class _Window(NamedTuple):
    """The window of a convolution or pool, by axis."""

    reach: Size
    """The size of the dilated kernel."""
    stride: Size
    before: Size
    """The padding at the start of each axis."""
    after: Size
    """The padding at the end of each axis."""

    def compute_input_size(self, predicted: Size) -> Size:
        """Return the input size, including padding at the start, for this output size."""
        return tuple(
            (count - 1) * stride + reach
            for count, stride, reach in zip(predicted, self.stride, self.reach, strict=True)
        )

    def compute_output_size(self, source: Size, after: Size) -> Size:
        """Return the output size for this input size and padding at the end."""
        return tuple(
            (before + count + more - reach) // stride + 1
            for before, count, more, reach, stride in zip(
                self.before, source, after, self.reach, self.stride, strict=True
            )
        )


def _find_window(node: onnx.NodeProto, sizes: Mapping[str, Size]) -> _Window | None:
    """Return the window of a node; None without a window or explicit padding."""
    if node.op_type not in _WINDOWED or len(node.output) > 1 or node.input[0] not in sizes:
        return None
    attributes = {found.name: helper.get_attribute_value(found) for found in node.attribute}
    if attributes.get("ceil_mode") or attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
        return None
    if "kernel_shape" not in attributes:
        return None
    kernel = attributes["kernel_shape"]
    axes = len(kernel)
    dilations = attributes.get("dilations", [1] * axes)
    margins = attributes.get("pads", [0] * (2 * axes))
    return _Window(
        reach=tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)),
        stride=tuple(attributes.get("strides", [1] * axes)),
        before=tuple(margins[:axes]),
        after=tuple(margins[axes:]),
    )


def _infer_sizes(model: onnx.ModelProto) -> dict[str, Size]:
    """Return sizes of all tensors whose axes are known."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    found: dict[str, Size] = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        axes = value.type.tensor_type.shape.dim[_BATCH_AND_CHANNELS:]
        if axes and all(axis.HasField("dim_value") for axis in axes):
            found[value.name] = tuple(axis.dim_value for axis in axes)
    return found


def _find_needed_sizes(graph: onnx.GraphProto, sizes: Mapping[str, Size]) -> dict[str, Size]:
    """Return the leading part of each tensor that the outputs depend on."""
    all_needed = {value.name: sizes[value.name] for value in graph.output if value.name in sizes}
    for node in reversed(graph.node):
        predicted = all_needed.get(node.output[0])
        window = _find_window(node, sizes)
        for position, name in enumerate(node.input):
            if name not in sizes:
                continue
            needed = sizes[name]
            if predicted is not None and node.op_type in _ELEMENTWISE:
                needed = predicted
            elif predicted is not None and window is not None and position == 0:
                covered = zip(
                    window.compute_input_size(predicted), window.before, needed, strict=True
                )
                # A window that reads only padding needs one row too: no axis can be empty.
                needed = tuple(max(min(reach - before, n), 1) for reach, before, n in covered)
            others = all_needed.get(name, (0,) * len(needed))
            all_needed[name] = tuple(map(max, needed, others))
    return all_needed


def _trim_end(
    graph: onnx.GraphProto, node: onnx.NodeProto, window: _Window, source: Size, needed: Size
) -> tuple[list[onnx.NodeProto], Size]:
    """Trim a node to what later nodes need, or to a little more if it reads only padding.

    Returns:
        The nodes that must run before it, and the size of its output.
    """
    positions = tuple(
        max(covered - before, 1)
        for covered, before in zip(window.compute_input_size(needed), window.before, strict=True)
    )
    after = tuple(max(covered - count, 0) for covered, count in zip(positions, source, strict=True))
    retained = tuple(map(min, positions, source))
    predicted = window.compute_output_size(retained, after)
    if window.compute_output_size(source, window.after) == predicted:
        return [], predicted
    _set_margin(node, (*window.before, *after))
    if window.compute_output_size(source, after) == predicted:
        return [], predicted
    sliced, name = f"{node.input[0]}_cut_for_{node.output[0]}", node.input[0]
    node.input[0] = sliced
    parameters = {
        "starts": (0,) * len(retained),
        "ends": retained,
        "axes": range(2, 2 + len(retained)),
    }
    for parameter, values in parameters.items():
        array = np.array(list(values), np.int64)
        graph.initializer.append(numpy_helper.from_array(array, f"{sliced}_{parameter}"))
    names = [name, *(f"{sliced}_{parameter}" for parameter in parameters)]
    return [helper.make_node("Slice", names, [sliced], f"{sliced}_slice")], predicted


def _set_margin(node: onnx.NodeProto, margin: Size) -> None:
    others = [attribute for attribute in node.attribute if attribute.name != "pads"]
    del node.attribute[:]
    node.attribute.extend([*others, helper.make_attribute("pads", list(margin))])
