"""The weighted mean of the predictions of several models."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.data.table import Float32s, Inputs
from training.model.estimators import Estimator
from training.model.networks import Predictor


@dataclass(frozen=True)
class Blend:
    """An ensemble of models of different families, with the outputs of one."""

    source = "the members"
    members: Sequence[Predictor | Estimator]
    weights: Sequence[float]
    """Of each member; they sum to one."""

    def predict(self, features: Inputs) -> Float32s:
        """Map ``[rows, columns]`` in raw units to predictions ``[rows, outputs]``."""
        return mix([member.predict(features) for member in self.members], self.weights)


def mix(predictions: Sequence[Float32s], weights: Sequence[float]) -> Float32s:
    """Return the weighted mean of predictions ``[rows, outputs]``."""
    parts = [np.float32(weight) * one for weight, one in zip(weights, predictions, strict=True)]
    return np.asarray(np.sum(parts, axis=0), dtype=np.float32)
