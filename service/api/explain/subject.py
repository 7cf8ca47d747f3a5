"""What an explanation speaks of: a value, or the probability of one label."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.bundle.manifest import ClassesOutput, Output
from service.codecs.outputs import chosen_labels, scores_by_label
from service.engine.tensors import Array
from service.errors import InvalidRequest
from service.values import nearest_of, shown

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Subject:
    """The label that is explained in each row; none where the model answers values."""

    output: Output
    places: Sequence[int]
    """Of the labels; nought where there are none."""

    def of(self, row: int) -> str:
        """What the numbers of a row are of, in words."""
        if not isinstance(self.output, ClassesOutput):
            return f"value in {self.output.unit}" if self.output.unit else "value"
        return f"probability of {self.label(row)!r}"

    def label(self, row: int) -> str:
        """The label that is explained in a row."""
        if not isinstance(self.output, ClassesOutput):
            return ""
        return self.output.labels[self.places[row]]

    def numbers(self, row: int, answers: Array) -> Floats:
        """What answers say of it, in 64 bits.

        Args:
            row: whose label it is.
            answers: ``[answers, width]`` of the graph.

        Returns:
            ``[answers]``.
        """
        wide = answers.astype(np.float64)
        if not isinstance(self.output, ClassesOutput):
            return np.asarray(wide[:, 0])
        return np.asarray(scores_by_label(wide, self.output.labels)[:, self.places[row]])


def subject_of(output: Output, answers: Array, label: str | None) -> Subject:
    """The requested class label, else the predicted one of each row.

    Args:
        output: of the model.
        answers: ``[rows, width]`` of the graph.
        label: that every row shall be explained by.

    Raises:
        InvalidRequest: the model has no such label.
    """
    if not isinstance(output, ClassesOutput):
        if label is not None:
            raise InvalidRequest(
                "Parameter 'label' chooses among labels; this model answers a value."
            )
        return Subject(output, [0] * len(answers))
    if label is None:
        return Subject(output, chosen_labels(output, scores_by_label(answers, output.labels)))
    if label not in output.labels:
        raise InvalidRequest(f"Unknown label {shown(label)}; {nearest_of(label, output.labels)}")
    return Subject(output, [output.labels.index(label)] * len(answers))
