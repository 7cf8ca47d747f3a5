"""The complete model as one module, from raw units to predictions, as it is exported."""

import numpy as np
import torch
from torch import Tensor, nn

from training.data.table import Float32s
from training.model.networks import Ensemble
from training.model.preprocessing import Preprocessing, Scaler

_CHUNK = 65_536
_LARGEST_LOGARITHM = 80.0
"""Its exponential still fits float32, so outliers do not give infinity."""


class ValueHead(nn.Module):
    """From the fitted scale back to the unit of the target."""

    def __init__(self, scaler: Scaler, *, log: bool) -> None:
        super().__init__()
        self.scaler = scaler
        self.log = log

    def forward(self, scores: Tensor) -> Tensor:
        """``[rows, 1]``."""
        value = self.scaler.inverse(scores)
        return torch.exp(value.clamp(max=_LARGEST_LOGARITHM)) - 1 if self.log else value


class Predictor(nn.Module):
    """Preprocessing, networks and the output function, in one graph."""

    source = "PyTorch"

    def __init__(self, preprocessing: Preprocessing, networks: Ensemble, head: nn.Module) -> None:
        super().__init__()
        self.preprocessing = preprocessing
        self.networks = networks
        self.head = head

    def forward(self, features: Tensor) -> Tensor:
        """``[rows, columns]`` in raw units to predictions ``[rows, outputs]``."""
        prediction: Tensor = self.head(self.networks(self.preprocessing(features)))
        return prediction

    def predict(self, features: Float32s) -> Float32s:
        """Predictions in float32, as the exported graph computes them."""
        with torch.no_grad():
            parts = [self(part) for part in torch.split(torch.from_numpy(features), _CHUNK)]
        return np.asarray(torch.cat(parts).numpy(), dtype=np.float32)
