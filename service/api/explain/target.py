"""The target of an explanation: a value, or the probability of one class label.

The query string may name the class label, and how fine an image's grid is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from service.bundle.manifest import ClassesOutput, Output
from service.codecs.parameters import TRUE_OR_FALSE, parse_query, read_choice
from service.engine.tensors import Array
from service.errors import InvalidRequest
from service.predictions import predict_labels, scores_by_label
from service.values import format_value, parse_integer, suggestion

MIN_CELLS = 2
MAX_CELLS = 32
DEFAULT_CELLS = 10

_PARAMETERS = ("label", "resolution", "image")

Floats = npt.NDArray[np.float64]
Explanation = dict[str, object]
"""An explanation as JSON."""


class ExplanationOptions(NamedTuple):
    """What to explain, and of an image, how.

    ``label`` is the class label to explain; None is the predicted one. ``cells`` is the number of
    grid cells along each side of an image; None is the default. ``shows_image`` is whether the
    explanation contains the image as the model receives it.
    """

    label: str | None
    cells: int | None
    shows_image: bool


def read_explanation_options(query: bytes) -> ExplanationOptions:
    """Read the query string of an explanation.

    Raises:
        InvalidRequest: a parameter is misspelled, or its value is invalid.
    """
    given = parse_query(query, _PARAMETERS)
    cells = None
    if (text := given.get("resolution")) is not None:
        cells = parse_integer(text)
        if cells is None or not MIN_CELLS <= cells <= MAX_CELLS:
            raise InvalidRequest(
                f"Parameter 'resolution' must be a whole number from {MIN_CELLS} to {MAX_CELLS}, "
                f"got {format_value(text)}."
            )
    shows_image = read_choice(given, "image", TRUE_OR_FALSE) is True
    return ExplanationOptions(given.get("label"), cells, shows_image)


@dataclass(frozen=True)
class Target:
    """The explained quantity of each row.

    Args:
        output: of the model.
        classes: the index of the explained class by row; zeros if the model predicts values.
    """

    output: Output
    classes: Sequence[int]

    def description(self, row: int) -> str:
        """Name the explained quantity of a row."""
        if not isinstance(self.output, ClassesOutput):
            return f"value in {self.output.unit}" if self.output.unit else "value"
        return f"probability of {self.label(row)!r}"

    def label(self, row: int) -> str:
        """Return the explained class label of a row; an empty one if the model predicts values."""
        if not isinstance(self.output, ClassesOutput):
            return ""
        return self.output.labels[self.classes[row]]

    def select(self, row: int, outputs: Array) -> Floats:
        """Select the explained quantity from outputs of the graph.

        Args:
            row: whose target is selected.
            outputs: ``[n, width]``.

        Returns:
            ``[n]``.
        """
        wide = outputs.astype(np.float64)
        if not isinstance(self.output, ClassesOutput):
            return np.asarray(wide[:, 0])
        return np.asarray(scores_by_label(wide, self.output.labels)[:, self.classes[row]])


def choose_target(output: Output, predictions: Array, label: str | None) -> Target:
    """Choose the requested class label, else the predicted one of each row.

    Args:
        output: of the model.
        predictions: ``[rows, width]``, the outputs of the graph.
        label: to be explained in every row; `InvalidRequest` is raised if the model lacks it.
    """
    if not isinstance(output, ClassesOutput):
        if label is not None:
            find_label(output, label)
        return Target(output, [0] * len(predictions))
    if label is None:
        return Target(output, predict_labels(predictions, output.decision_threshold).tolist())
    return Target(output, [find_label(output, label)] * len(predictions))


def find_label(output: Output | None, label: str) -> int:
    """Return the position of a class label; raise `InvalidRequest` if the output lacks it."""
    if not isinstance(output, ClassesOutput):
        raise InvalidRequest(
            "Parameter 'label' chooses among class labels; this model predicts a value."
        )
    if label not in output.labels:
        raise InvalidRequest(
            f"Unknown label {format_value(label)}; {suggestion(label, output.labels)}"
        )
    return output.labels.index(label)
