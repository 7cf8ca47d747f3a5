"""Why a bundle cannot be used or written."""


class BundleError(Exception):
    """A bundle that breaks the contract; the message says what is wrong and where."""


class NotOnnx(BundleError):
    """A file that the runtime could not open today or tomorrow, because it is not an ONNX file."""
