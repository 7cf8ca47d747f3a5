"""Onward's online half: serves bundles over HTTP with ONNX Runtime."""
