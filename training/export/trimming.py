"""Leaving out what a network computes and no answer depends on.

A pool by twos of eleven rows takes ten; the eleventh was computed for nothing, and so were all
rows before it that only it has seen. So the convolutions stop earlier: at their end less is put
around the picture, or less of it is taken. What is left is computed as it was.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

Size = tuple[int, ...]
"""Along the axes after those of batch and channels: height and width of pictures."""

_WINDOWED = {"Conv", "MaxPool", "AveragePool"}
# They look at each place by itself.
_PLACEWISE = {"Relu", "LeakyRelu", "Elu", "Sigmoid", "Tanh"}
_BATCH_AND_CHANNELS = 2


def trim(model: onnx.ModelProto) -> None:
    """Let the windows of convolutions and pools end where nothing more is looked at.

    Args:
        model: changed in place where there is something to leave out, else the same to the byte.
    """
    graph = model.graph
    if any(part.HasField("g") for node in graph.node for part in node.attribute):
        return  # what a graph within takes from around itself is not told by its node
    sizes = _sizes(model)
    wanted = _wanted(graph, sizes)
    made: dict[str, Size] = {}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        given, answer = node.input[0] if node.input else "", node.output[0]
        if node.op_type in _PLACEWISE and given in made:
            made[answer] = made[given]
        elif answer not in wanted:
            pass  # nobody takes it
        elif (window := _window_of(node, sizes)) is not None:
            nodes += _ended(graph, node, window, made.get(given, sizes[given]), wanted[answer])
            made[answer] = wanted[answer]
        nodes.append(node)
    if any(size != sizes[name] for name, size in made.items()):
        del graph.node[:]
        graph.node.extend(nodes)
        del graph.value_info[:]
        graph.value_info.extend(onnx.shape_inference.infer_shapes(model).graph.value_info)


class _Window(NamedTuple):
    """How a convolution or a pool looks at its input, by axis."""

    reach: Size
    """From the first place that it sees at once to the last."""
    stride: Size
    before: Size
    """The margin around the input, at the start of each axis."""
    after: Size
    """The same at its end."""

    def seen(self, answered: Size) -> Size:
        """How many places are looked at for so many answers, the margin before them included."""
        return tuple(
            (count - 1) * stride + reach
            for count, stride, reach in zip(answered, self.stride, self.reach, strict=True)
        )

    def answers(self, given: Size, after: Size) -> Size:
        """How many answers there are to so many places with this margin after them."""
        return tuple(
            (before + count + more - reach) // stride + 1
            for before, count, more, reach, stride in zip(
                self.before, given, after, self.reach, self.stride, strict=True
            )
        )


def _window_of(node: onnx.NodeProto, sizes: Mapping[str, Size]) -> _Window | None:
    """None of what has no window, or one that does not say its margin in numbers."""
    if node.op_type not in _WINDOWED or len(node.output) > 1 or node.input[0] not in sizes:
        return None
    said = {found.name: helper.get_attribute_value(found) for found in node.attribute}
    if said.get("ceil_mode") or said.get("auto_pad", b"NOTSET") != b"NOTSET":
        return None
    if "kernel_shape" not in said:
        return None
    kernel = said["kernel_shape"]
    axes = len(kernel)
    dilations = said.get("dilations", [1] * axes)
    margins = said.get("pads", [0] * (2 * axes))
    return _Window(
        reach=tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)),
        stride=tuple(said.get("strides", [1] * axes)),
        before=tuple(margins[:axes]),
        after=tuple(margins[axes:]),
    )


def _sizes(model: onnx.ModelProto) -> dict[str, Size]:
    """Of every tensor whose length along each such axis is known."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    found: dict[str, Size] = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        axes = value.type.tensor_type.shape.dim[_BATCH_AND_CHANNELS:]
        if axes and all(axis.HasField("dim_value") for axis in axes):
            found[value.name] = tuple(axis.dim_value for axis in axes)
    return found


def _wanted(graph: onnx.GraphProto, sizes: Mapping[str, Size]) -> dict[str, Size]:
    """How much of each tensor, from its start, an answer depends on."""
    wanted = {value.name: sizes[value.name] for value in graph.output if value.name in sizes}
    for node in reversed(graph.node):
        answered = wanted.get(node.output[0])
        window = _window_of(node, sizes)
        for place, name in enumerate(node.input):
            if name not in sizes:
                continue
            needed = sizes[name]
            if answered is not None and node.op_type in _PLACEWISE:
                needed = answered
            elif answered is not None and window is not None and place == 0:
                seen = zip(window.seen(answered), window.before, needed, strict=True)
                needed = tuple(min(reach - before, all_) for reach, before, all_ in seen)
            others = wanted.get(name, (0,) * len(needed))
            wanted[name] = tuple(map(max, needed, others))
    return wanted


def _ended(
    graph: onnx.GraphProto, node: onnx.NodeProto, window: _Window, given: Size, wanted: Size
) -> list[onnx.NodeProto]:
    """Let a node answer no more than is wanted; what must be done before it for that."""
    if window.answers(given, window.after) == wanted:
        return []
    places = tuple(
        seen - before for seen, before in zip(window.seen(wanted), window.before, strict=True)
    )
    after = tuple(max(seen - count, 0) for seen, count in zip(places, given, strict=True))
    _set_margin(node, (*window.before, *after))
    if window.answers(given, after) == wanted:
        return []
    kept = tuple(map(min, places, given))
    cut, name = f"{node.input[0]}_cut_for_{node.output[0]}", node.input[0]
    node.input[0] = cut
    numbers = {"starts": (0,) * len(kept), "ends": kept, "axes": range(2, 2 + len(kept))}
    for what, values in numbers.items():
        array = np.array(list(values), np.int64)
        graph.initializer.append(numpy_helper.from_array(array, f"{cut}_{what}"))
    names = [name, *(f"{cut}_{what}" for what in numbers)]
    return [helper.make_node("Slice", names, [cut], f"{cut}_slice")]


def _set_margin(node: onnx.NodeProto, margin: Size) -> None:
    others = [attribute for attribute in node.attribute if attribute.name != "pads"]
    del node.attribute[:]
    node.attribute.extend([*others, helper.make_attribute("pads", list(margin))])
