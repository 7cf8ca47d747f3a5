"""Rewrite an imported graph of images to take those of a bundle: uint8, channels last."""

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from service.bundle.manifest import IMAGE_NAME
from training.export.graph_builder import GraphBuilder
from training.export.graph_names import choose_free_name, list_names, rename
from training.export.image_input import ImageTensor
from training.export.output_mapping import OutputMapping
from training.export.wrapping import finish


def wrap_images(
    original: ModelProto, tensor: ImageTensor, mapping: OutputMapping, output_tensor: str
) -> bytes:
    """Return the graph with the input ``image`` and one output, for any number of images.

    The input is uint8 ``[batch, height, width, channels]``, which the graph itself normalizes, with
    operators that every operator set from version 7 has.
    """
    model = ModelProto()
    model.CopyFrom(original)
    names = {}
    for name in (IMAGE_NAME, output_tensor):
        used = list_names(model.graph)
        if name in used:
            names[name] = choose_free_name(name, used)
            rename(model.graph, name, names[name])
    builder = GraphBuilder(choose_free_name("pixels", list_names(model.graph)))
    _normalize(builder, tensor, names.get(tensor.name, tensor.name))
    shape: list[str | int | None] = ["batch", tensor.height, tensor.width, tensor.channels]
    value = helper.make_tensor_value_info(IMAGE_NAME, TensorProto.UINT8, shape)
    return finish(model, value, builder, mapping.rename(names), output_tensor)


def free_batch(model: ModelProto, tensor: ImageTensor) -> ModelProto:
    """Return a copy in which no Reshape fixes the number of images, as PyTorch's export writes it.

    A Reshape of values that depend on the images, to as many rows as the file allows, retains its
    rows instead. Verification shows whether these were the images.
    """
    freed = ModelProto()
    freed.CopyFrom(model)
    graph = freed.graph
    constants = {one.name: one for one in graph.initializer}
    constants |= {
        node.output[0]: node.attribute[0].t
        for node in graph.node
        if node.op_type == "Constant" and node.attribute[0].name == "value"
    }
    dependent = {tensor.name}
    builder = GraphBuilder(choose_free_name("rows", list_names(graph)))
    for node in graph.node:
        if dependent.isdisjoint(node.input) or node.op_type == "Shape":
            continue
        dependent.update(node.output)
        if node.op_type == "Reshape" and node.input[1] in constants:
            shape = numpy_helper.to_array(constants[node.input[1]]).copy()
            if shape.size > 1 and shape[0] == tensor.batch:
                shape[0] = 0
                node.input[1] = builder.add_constant(shape)
                del node.attribute[:]  # allowzero, with which a zero is no length to retain
    graph.initializer.extend(builder.constants)
    return freed


def _normalize(builder: GraphBuilder, tensor: ImageTensor, output: str) -> None:
    """Add the steps of `ImageTensor.normalize`, in the same order and precision."""
    rule = tensor.normalization
    is_half = tensor.element == TensorProto.FLOAT16
    working = np.float32 if is_half else tensor.dtype
    values = builder.add("Cast", IMAGE_NAME, to=TensorProto.FLOAT if is_half else tensor.element)
    for operator, numbers in (
        ("Div", None if rule.divisor is None else (rule.divisor,)),
        ("Sub", rule.mean),
        ("Div", rule.deviation),
    ):
        if numbers is not None:
            constant = builder.add_constant(np.array(numbers, working))
            values = builder.add(operator, values, constant)
    if is_half:
        values = builder.add("Cast", values, to=tensor.element)
    if tensor.layout == "nchw":
        values = builder.add("Transpose", values, perm=[0, 3, 1, 2])
    # A zero retains the length of the batch.
    shape = builder.add_constant(np.array([0, *tensor.shape], np.int64))
    builder.add("Reshape", values, shape, output=output)
