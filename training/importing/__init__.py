"""Import ONNX models of other libraries as bundles."""
