"""Put the encoding of free text in front of a graph of numbers."""

import onnx
from onnx import ModelProto, TensorProto, helper, version_converter

from service.bundle.features import INPUT_NAME, TEXT_NAME
from training.export.graph_builder import GraphBuilder
from training.export.graph_names import rename
from training.model.text import TextModel
from training.model.text_graph import OPSETS, build_nodes
from training.onnx_files import strip

_ENCODED, _JOINED = "text/outputs", "text/features"


def add_texts(graph: bytes, predictor: TextModel) -> bytes:
    """Return a graph that encodes the input ``text``, after the columns of ``features``.

    Args:
        graph: ONNX, of the model of numbers, with the input ``features``.
        predictor: the model with its encodings of text.
    """
    model = version_converter.convert_version(onnx.load_from_string(graph), OPSETS[""])
    kind = model.graph.input[0].type.tensor_type.elem_type
    rename(model.graph, INPUT_NAME, _JOINED)
    maps = [text.text_map for text in predictor.texts]
    nodes, constants = build_nodes(maps, _ENCODED)
    builder = GraphBuilder("text/input")
    parts = [_ENCODED]
    inputs = [helper.make_tensor_value_info(TEXT_NAME, TensorProto.STRING, ["batch", len(maps)])]
    if kind != TensorProto.FLOAT:
        parts = [builder.add("Cast", _ENCODED, to=kind)]
    numbers = len(predictor.columns) - len(maps)
    if numbers:
        parts.insert(0, INPUT_NAME)
        inputs.insert(0, helper.make_tensor_value_info(INPUT_NAME, kind, ["batch", numbers]))
    builder.add("Concat", *parts, output=_JOINED, axis=1)

    merged = ModelProto()
    merged.CopyFrom(model)
    versions = {one.domain: one.version for one in model.opset_import} | dict(OPSETS)
    del merged.opset_import[:]
    merged.opset_import.extend(helper.make_opsetid(*one) for one in versions.items())
    merged.graph.CopyFrom(
        helper.make_graph(
            [*nodes, *builder.nodes, *model.graph.node],
            "onward",
            inputs,
            list(model.graph.output),
            [*constants, *builder.constants, *model.graph.initializer],
        )
    )
    strip(merged)
    onnx.checker.check_model(merged, full_check=True)
    return bytes(merged.SerializeToString(deterministic=True))
