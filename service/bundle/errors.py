"""The exceptions of the bundle contract."""


class BundleError(Exception):
    """A bundle cannot be used or written; the message says what is wrong and where."""


class InvalidOnnxFile(BundleError):
    """A file is not an ONNX file that ONNX Runtime could load."""
