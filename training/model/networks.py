"""Networks for tables, and the complete predictor from raw units to predictions."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from training.data.table import Float32s, Inputs
from training.model.preprocessing import Preprocessing, Scaler
from training.recipe.table import Activation, Network

_ROWS_PER_BATCH = 65_536
LARGEST_LOGARITHM = 80.0
"""Its exponential still fits float32, so outliers do not give infinity."""


class Maxout(nn.Module):
    """The maximum of two linear layers (Goodfellow et al., 2013)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, outputs)
        self.second = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[rows, inputs]`` to ``[rows, outputs]``."""
        return torch.maximum(self.first(x), self.second(x))


class PiecewiseLinear(nn.Module):
    """The position of each number within each of its quantile bins, 0 to 1.

    The piecewise linear encoding of Gorishniy et al., "On Embeddings for Numerical Features in
    Tabular Deep Learning" (2022).
    """

    start: Tensor
    width: Tensor

    def __init__(self, training: Tensor, bins: int) -> None:
        super().__init__()
        shares = torch.linspace(0, 1, bins + 1, dtype=torch.float64)
        edges = torch.stack([_compute_quantiles(column, shares) for column in training.double().T])
        self.register_buffer("start", edges[:, :-1].contiguous())
        width = edges[:, 1:] - edges[:, :-1]
        # A bin between equal quantiles is a step: one when the number is past it.
        self.register_buffer("width", torch.clamp(width, min=1e-6))
        self.outputs = training.shape[1] * bins

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map ``[rows, columns]`` to ``[rows, columns * bins]``."""
        passed = (x.unsqueeze(2) - self.start) / self.width
        return [torch.clamp(passed, 0.0, 1.0).flatten(1)]


class Periodic(nn.Module):
    """Sines and cosines of each number with learned frequencies.

    The periodic embedding of the same paper; initial frequencies are normal with this deviation.
    """

    def __init__(self, columns: int, bins: int, deviation: float = 0.5) -> None:
        super().__init__()
        self.frequency = nn.Parameter(torch.randn(columns, max(bins // 2, 1)) * deviation)
        self.outputs = 2 * self.frequency.numel()

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map ``[rows, columns]`` to the sines and the cosines, ``[rows, outputs / 2]`` each."""
        angles = (2 * math.pi * x.unsqueeze(2) * self.frequency).flatten(1)
        return [torch.sin(angles), torch.cos(angles)]


class Embedded(nn.Module):
    """Adds the embedding of the first columns, which are numbers, between them and the others."""

    def __init__(self, embedding: PiecewiseLinear | Periodic, numbers: int, width: int) -> None:
        super().__init__()
        self.embedding = embedding
        self.numbers = numbers
        self.outputs = width + embedding.outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[rows, width]`` to ``[rows, outputs]``."""
        numbers, others = x[:, : self.numbers], x[:, self.numbers :]
        return torch.cat([numbers, *self.embedding(numbers), others], dim=1)


class Ensemble(nn.Module):
    """The mean of its members' scores."""

    def __init__(self, members: list[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[rows, width]`` to ``[rows, outputs]``."""
        scores = [member(x) for member in self.members]
        return torch.stack(scores).mean(dim=0) if len(scores) > 1 else scores[0]

    def join(self, x: Tensor) -> Tensor:
        """Map the same rows to the scores of all members, ``[rows, members * outputs]``."""
        return torch.cat([member(x) for member in self.members], dim=1)


class Exponential(nn.Module):
    """From the logarithm of one plus a value to the value."""

    def forward(self, x: Tensor) -> Tensor:
        """Map any shape to the same shape."""
        return torch.exp(x.clamp(max=LARGEST_LOGARITHM)) - 1


class ValueHead(nn.Module):
    """From the fitted scale back to the unit of the target."""

    def __init__(self, scaler: Scaler, *, log: bool) -> None:
        super().__init__()
        self.scaler = scaler
        self.last = Exponential() if log else nn.Identity()

    def forward(self, scores: Tensor) -> Tensor:
        """Map ``[rows, 1]`` from the scale of the fit to the unit of the target."""
        value: Tensor = self.last(self.scaler.inverse(scores))
        return value


class Predictor(nn.Module):
    """Preprocessing, networks and the output function, in one graph."""

    source = "PyTorch"

    def __init__(self, preprocessing: Preprocessing, networks: Ensemble, head: nn.Module) -> None:
        super().__init__()
        self.preprocessing = preprocessing
        self.networks = networks
        self.head = head

    def forward(self, features: Tensor) -> Tensor:
        """Map ``[rows, columns]`` in raw units to predictions ``[rows, outputs]``."""
        prediction: Tensor = self.head(self.networks(self.preprocessing(features)))
        return prediction

    def predict(self, features: Inputs) -> Float32s:
        """Predict in float32, as the exported graph does."""
        return predict_in_batches(self, features, _ROWS_PER_BATCH)


class MixedPredictor(Predictor):
    """A predictor that returns the weighted mean of the predictions of its networks."""

    weights: Tensor

    def __init__(
        self,
        preprocessing: Preprocessing,
        networks: Ensemble,
        head: nn.Module,
        weights: Sequence[float],
    ) -> None:
        super().__init__(preprocessing, networks, head)
        self.register_buffer("weights", torch.tensor(weights).unsqueeze(1))

    def forward(self, features: Tensor) -> Tensor:
        """Map ``[rows, columns]`` in raw units to predictions ``[rows, outputs]``."""
        scores = self.networks.join(self.preprocessing(features))
        members = len(self.weights)
        predictions: Tensor
        if scores.shape[1] == members:
            predictions = self.head(scores)
            return predictions @ self.weights
        predictions = self.head(scores.reshape(-1, members, scores.shape[1] // members))
        return (predictions * self.weights).sum(dim=1)


def predict_in_batches(
    model: nn.Module, rows: Inputs | npt.NDArray[np.uint8], size: int
) -> Float32s:
    """Run a model on batches of at most ``size`` rows, without gradients."""
    with torch.no_grad():
        parts = [model(part) for part in torch.split(torch.from_numpy(rows), size)]
    return np.asarray(torch.cat(parts).numpy(), dtype=np.float32)


def build(plan: Network, training: Tensor, numbers: int, outputs: int) -> nn.Module:
    """Return an untrained network from preprocessed columns to scores.

    The first ``numbers`` columns of the preprocessed training set, ``[rows, width]``, are numbers;
    embeddings are fitted to them. There is one output, or one per label.
    """
    return BUILDERS[plan.family](plan, training, numbers, outputs).to(training.dtype)


def _build_linear(_: Network, training: Tensor, __: int, outputs: int) -> nn.Module:
    linear = nn.Linear(training.shape[1], outputs, dtype=training.dtype)
    # The losses are convex; starting from zero makes runs reproducible.
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


def _build_mlp(plan: Network, training: Tensor, numbers: int, outputs: int) -> nn.Module:
    width = training.shape[1]
    layers: list[nn.Module] = []
    if plan.embedding != "none" and numbers:
        embedded = Embedded(_create_embedding(plan, training[:, :numbers]), numbers, width)
        layers.append(embedded)
        width = embedded.outputs
    for units in plan.hidden_layer_sizes:
        layers += _create_hidden_layer(plan, width, units)
        width = units
    return nn.Sequential(*layers, nn.Linear(width, outputs))


def _create_embedding(plan: Network, numbers: Tensor) -> PiecewiseLinear | Periodic:
    if plan.embedding == "periodic":
        return Periodic(numbers.shape[1], plan.bins, plan.frequency_deviation)
    return PiecewiseLinear(numbers, plan.bins)


def _create_hidden_layer(plan: Network, inputs: int, units: int) -> list[nn.Module]:
    if plan.activation == "maxout":
        layer: list[nn.Module] = [Maxout(inputs, units)]
    else:
        layer = [nn.Linear(inputs, units), ACTIVATIONS[plan.activation]()]
    if plan.batch_norm:
        layer.insert(1, nn.BatchNorm1d(units))
    if plan.dropout:
        layer.append(nn.Dropout(plan.dropout))
    return layer


def _compute_quantiles(column: Tensor, shares: Tensor) -> Tensor:
    # torch.quantile is limited to 16 million values.
    ordered = column.sort().values
    return ordered[(shares * (len(ordered) - 1)).round().long()]


ACTIVATIONS: dict[Activation, Callable[[], nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky-relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
}

BUILDERS: Mapping[str, Callable[[Network, Tensor, int, int], nn.Module]] = {
    "linear": _build_linear,
    "logistic": _build_linear,
    "perceptron": _build_linear,
    "mlp": _build_mlp,
}
"""The families that PyTorch fits, with functions that take the arguments of `build`."""
