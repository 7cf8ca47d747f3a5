"""The commands of ``onward`` that train; they need the training extra."""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec

TRAINING_COMMANDS = {
    "new": "write a recipe for your own CSV file or image folder, and train it",
    "train": "train a recipe and publish the model",
    "list": "list the shipped recipes and their published versions",
    "import": "turn an ONNX model made elsewhere into a bundle",
    "evaluate": "measure a published model on a CSV file",
    "compare": "show the metrics of all versions in one table",
    "results": "measure all shipped models and their baselines",
}

# The libraries that the training extra installs and its commands import.
_LIBRARIES = (
    *("jinja2", "matplotlib", "onnx", "onnxscript", "polars"),
    *("rich", "skl2onnx", "sklearn", "torch"),
)
_USAGE_ERROR = 2


def run_training(arguments: Sequence[str]) -> int:
    """Run a training command; return 2, with a message, if the training extra is missing."""
    missing = [library for library in _LIBRARIES if find_spec(library) is None]
    if missing:
        sys.stderr.write(
            f"onward {arguments[0]} needs the training extra: pip install 'onward[training]' "
            f"(missing: {', '.join(missing)}).\n"
        )
        return _USAGE_ERROR
    # Imported when it runs, since the service must work without torch and never imports training.
    # This is the only call from one program to the other.
    status: int = import_module("training.__main__").main(arguments)
    return status
