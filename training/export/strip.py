"""Removing from an ONNX file what is no part of the computation, so that equals are equal."""

import onnx


def strip(model: onnx.ModelProto) -> None:
    """Remove stack traces, paths and descriptions that exporters leave in the file.

    Operator sets are put in order: scikit-learn's converter writes them as a Python set has them,
    which is another order in every process.
    """
    opsets = sorted(model.opset_import, key=lambda opset: opset.domain)
    del model.opset_import[:]
    model.opset_import.extend(opsets)
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
