"""Fitted models as ONNX bundles."""
