"""How outputs of an imported graph become the prediction of a bundle."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from service.bundle.manifest import DEFAULT_THRESHOLD
from service.predictions import Ints, expand_binary_scores, predict_labels
from training.data.table import Float32s, Floats
from training.export.node_attributes import ClassNames
from training.onnx_files import Array
from training.recipe.families import output_width

Activation = Literal["softmax", "sigmoid"]

TIE = 1e-6
"""The largest difference of two probabilities that count as equal."""
BELOW = 1 - 2**-23
"""The factor that gives a smaller float32, by one or two units in the last place."""


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
    is_table: bool = False
    """Whether the output has rows and columns, and no other axes."""
    label_output: str | None = None
    """The graph's own label, which the predicted labels equal, if it has one.

    Graphs choose it by scores that are more exact than the probabilities that they return, so it
    decides where two of these are equal.
    """
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
    def chosen_threshold(self) -> float:
        """The probability from which the second of two labels is predicted."""
        return DEFAULT_THRESHOLD if self.threshold is None else self.threshold

    @property
    def remark(self) -> str:
        """Notes on the meaning of the prediction."""
        label = "The model returns only a label, so its probabilities are 1 and 0."
        return " ".join([*([label] if self.form == "label" else []), *self.notes])

    def apply(self, outputs: Mapping[str, Array]) -> Float32s:
        """Return the prediction of the bundle, ``[rows, width]``, from the outputs of the graph."""
        positions = self.read_positions(outputs)
        scores = self.convert(outputs)
        if positions is None or self.form == "label":
            return scores
        return self._break_ties(scores, positions)

    def convert(self, outputs: Mapping[str, Array]) -> Float32s:
        """Return the prediction, ``[rows, width]``, without regard to the graph's own label."""
        found = outputs[self.output].reshape(len(outputs[self.output]), self.count)
        if self.form == "label":
            found = _equals(found, self.classes)
        elif self.activation is not None:
            found = activate(found, self.activation)
        if self.form in ("label", "probabilities") and self.width == 1:
            found = found[:, 1:]
        found = found.reshape(len(found), self.width).astype(np.float32)
        return found.clip(0, 1) if self.form in ("probability", "probabilities") else found

    def _break_ties(self, scores: Float32s, positions: Ints) -> Float32s:
        """Return probabilities, ``[rows, width]``, that give these labels where they are equal."""
        if self.width == 1:
            limit = np.float32(self.chosen_threshold)
            below = np.nextafter(limit, np.float32(0))
            second = positions[:, None] == 1
            chosen = np.where(second, np.maximum(scores, limit), np.minimum(scores, below))
            return np.where(np.abs(scores - limit) <= np.float32(TIE), chosen, scores)
        own = positions[:, None] == np.arange(self.width)
        highest = np.where(own, scores, np.float32(0)).max(axis=1, keepdims=True)
        free = own | (scores > highest + np.float32(TIE))
        return np.where(free, scores, np.minimum(scores, highest * np.float32(BELOW)))

    def rename(self, names: Mapping[str, str]) -> "OutputMapping":
        """Return the mapping of a graph in which tensors have these new names."""
        label = self.label_output
        return replace(
            self,
            output=names.get(self.output, self.output),
            label_output=None if label is None else names.get(label, label),
        )

    def spread(self, outputs: Mapping[str, Array]) -> Float32s:
        """Return the probabilities with a column for each label, ``[rows, labels]``."""
        if self.form == "probabilities" and self.activation is None:
            return outputs[self.output].reshape(-1, self.count).astype(np.float32)
        return expand_binary_scores(self.apply(outputs))

    def predict_positions(self, outputs: Mapping[str, Array]) -> Ints:
        """Return the position of the label that the bundle predicts for each row."""
        return predict_labels(self.apply(outputs), self.chosen_threshold)

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
