"""Removing from an ONNX file what is no part of the computation."""

import onnx


def strip(model: onnx.ModelProto) -> None:
    """Remove stack traces, paths and descriptions that exporters leave in the file."""
    del model.metadata_props[:]
    model.ClearField("doc_string")
    inner = model.graph
    inner.ClearField("doc_string")
    for part in (
        inner,
        *inner.node,
        *inner.input,
        *inner.output,
        *inner.value_info,
        *inner.initializer,
    ):
        del part.metadata_props[:]
        part.ClearField("doc_string")
