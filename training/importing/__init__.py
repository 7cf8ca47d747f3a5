"""Import ONNX models of other libraries as bundles, verified against the originals."""
