"""Errors between a recipe and a published bundle; each message is a sentence for users.

TrainingError
├── RecipeError    the recipe is invalid
├── DataError      the data cannot be used
│   └── DataSetNotFound  a public data set is not available
├── FitError       the fit diverged
├── ExportError    the exported graph differs from the trained model
├── PublishError   the folder of models cannot be written to
└── ImportRejected an ONNX file cannot become a bundle
"""

from collections.abc import Sequence


class TrainingError(Exception):
    """Ends a run; the message says what is wrong and how to fix it."""


class RecipeError(TrainingError):
    """All problems of a recipe at once."""

    def __init__(self, recipe: str, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n  - ".join([f"The recipe {recipe} is invalid:", *problems]))


class DataError(TrainingError):
    """Data that cannot be found, read or trained on."""


class DataSetNotFound(DataError):
    """A public data set that is not on this machine and cannot be downloaded."""


class FitError(TrainingError):
    """A fit that diverged."""


class ExportError(TrainingError):
    """An exported graph whose predictions differ between PyTorch and ONNX Runtime."""


class PublishError(TrainingError):
    """A folder of models that cannot be written to."""


class ImportRejected(TrainingError):
    """An ONNX file that cannot become a bundle."""
