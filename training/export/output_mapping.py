"""How outputs of an imported graph become the prediction of a bundle."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from service.bundle.manifest import DEFAULT_THRESHOLD
from service.predictions import Ints, expand_binary_scores, predict_labels
from training.data.table import Float32s, Floats
from training.export.node_attributes import ClassNames
from training.onnx_files import Array
from training.recipe.families import output_width

Activation = Literal["softmax", "sigmoid"]


@dataclass(frozen=True)
class OutputMapping:
    """The output that becomes the prediction of the bundle, and how."""

    output: str
    form: Literal["value", "probability", "probabilities", "label"]
    labels: list[str] = field(default_factory=list)
    classes: ClassNames = field(default_factory=list)
    """The graph's own names of the labels, in their order; empty if it has none."""
    activation: Activation | None = None
    """What converts the output, logits, to probabilities."""
    label_output: str | None = None
    """The graph's own label, which the predicted labels equal, if it has one."""
    threshold: float | None = None
    """Of two labels, the second is predicted from this probability on; None for the default."""
    notes: list[str] = field(default_factory=list)

    @property
    def width(self) -> int:
        """The number of output columns of the bundle."""
        return output_width(len(self.labels))

    @property
    def count(self) -> int:
        """The number of columns of the graph's output."""
        return len(self.labels) if self.form == "probabilities" else 1

    @property
    def remark(self) -> str:
        """Notes on the meaning of the prediction."""
        label = "The model returns only a label, so its probabilities are 1 and 0."
        return " ".join([*([label] if self.form == "label" else []), *self.notes])

    def apply(self, outputs: Mapping[str, Array]) -> Float32s:
        """Return the prediction of the bundle, ``[rows, width]``, from the outputs of the graph."""
        found = outputs[self.output].reshape(len(outputs[self.output]), self.count)
        if self.form == "label":
            found = _equals(found, self.classes)
        elif self.activation is not None:
            found = activate(found, self.activation)
        if self.form in ("label", "probabilities") and self.width == 1:
            found = found[:, 1:]
        found = found.reshape(len(found), self.width).astype(np.float32)
        return found.clip(0, 1) if self.form in ("probability", "probabilities") else found

    def spread(self, outputs: Mapping[str, Array]) -> Float32s:
        """Return the probabilities with a column for each label, ``[rows, labels]``."""
        if self.form == "probabilities" and self.activation is None:
            return outputs[self.output].reshape(-1, self.count).astype(np.float32)
        return expand_binary_scores(self.apply(outputs))

    def predict_positions(self, outputs: Mapping[str, Array]) -> Ints:
        """Return the position of the label that the bundle predicts for each row."""
        chosen = DEFAULT_THRESHOLD if self.threshold is None else self.threshold
        return predict_labels(self.apply(outputs), chosen)

    def read_positions(self, outputs: Mapping[str, Array]) -> Ints | None:
        """Return the position of the graph's own label for each row, or None if it has none.

        A label that is none of the classes has the position -1.
        """
        if self.label_output is None:
            return None
        return find_positions(outputs[self.label_output], self.classes)


def activate(scores: Array, activation: Activation) -> Floats:
    """Return the probabilities of logits ``[rows, columns]``."""
    scores = scores.astype(np.float64)
    if activation == "sigmoid":
        with np.errstate(over="ignore"):  # of a large negative logit, whose probability is 0
            return np.asarray(1 / (1 + np.exp(-scores)))
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def find_positions(values: Array, classes: ClassNames) -> Ints:
    """Return the positions of labels among the classes, -1 for those that are none of them."""
    equal = _equals(values.reshape(-1, 1), classes)
    return np.where(equal.any(axis=1), equal.argmax(axis=1), -1)


def _equals(values: Array, classes: ClassNames) -> Array:
    """Compare labels ``[rows, 1]`` with each class, ``[rows, classes]``."""
    if values.dtype.kind not in "OU":
        return np.asarray(values == np.array(classes, dtype=np.float64))
    return np.asarray(values.astype(object) == np.array(classes, dtype=object))
