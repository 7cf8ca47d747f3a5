"""What can go wrong between a recipe and a published bundle, as sentences.

TrainingError
├── RecipeError   the recipe cannot be followed
├── DataError     the table cannot be used
│   └── DataSetNotFound a public data set is nowhere to be had
├── FitError      the fit gave no usable model
├── ExportError   the exported graph does not compute what was trained
├── PublishError  the folder of models cannot be written to
└── ImportRefused a model made elsewhere cannot be made a bundle
"""

from collections.abc import Sequence


class TrainingError(Exception):
    """Ends a run; the message says what is wrong and what to do about it."""


class RecipeError(TrainingError):
    """Everything that is wrong with a recipe, said at once."""

    def __init__(self, recipe: str, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n  - ".join([f"The recipe {recipe} cannot be followed:", *problems]))


class DataError(TrainingError):
    """A table that cannot be read, found or trained on."""


class DataSetNotFound(DataError):
    """A public data set that is not on this machine and cannot be downloaded."""


class FitError(TrainingError):
    """A fit that diverged or could not begin."""


class ExportError(TrainingError):
    """An exported graph that PyTorch and ONNX Runtime do not agree on."""


class PublishError(TrainingError):
    """A folder of models that no bundle can be written into."""


class ImportRefused(TrainingError):
    """A model made elsewhere that cannot keep the contract."""
