"""A scaler inside the layer that follows it, for the graph that is exported.

``W ((x - offset) / scale) + b`` is ``(W / scale) x + (b - W (offset / scale))``. ONNX Runtime takes
longer to scale two columns than to multiply them by a matrix, so the small models answer in a
third of the time.
"""

from copy import deepcopy

import torch
from torch import nn

from training.model.predictor import Predictor
from training.model.preprocessing import Preparation
from training.model.scaling import Scaler

FARTHEST = 16.0
"""An offset farther from nought than so many scales costs more than four of 24 bits: what is left
of a large number once another large one is taken away."""


def folded(predictor: Predictor) -> Predictor:
    """The same predictor, its scaler in the first layer of each network.

    The predictor itself where there is no scaler, something stands between it and a linear layer,
    or a column lies so far from nought that the answers' last digits would suffer.
    """
    preparation = predictor.preparation
    if len(preparation.steps) == 0 or not _is_near(preparation.steps[-1]):
        return predictor
    if any(_first_layer(network) is None for network in predictor.networks.members):
        return predictor
    same = deepcopy(predictor)
    *before, scaler = same.preparation.steps.children()
    for network in same.networks.members:
        layer = _first_layer(network)
        if layer is not None and isinstance(scaler, Scaler):
            _take_in(layer, scaler, same.preparation)
    same.preparation.steps = nn.Sequential(*before)
    return same


def _is_near(step: nn.Module) -> bool:
    """Whether it is a scaler of columns that lie near nought, as seen from their own spread."""
    return isinstance(step, Scaler) and bool(
        (step.offset.abs() <= FARTHEST * step.scale.abs()).all()
    )


def _first_layer(network: nn.Module) -> nn.Linear | None:
    first = network[0] if isinstance(network, nn.Sequential) else network
    return first if isinstance(first, nn.Linear) else None


def _take_in(layer: nn.Linear, scaler: Scaler, preparation: Preparation) -> None:
    """Let the layer see the numbers in raw units; they are its first columns."""
    count = preparation.numbers_width
    with torch.no_grad():
        weight = layer.weight.double()
        scale, offset = scaler.scale.double(), scaler.offset.double()
        scaled = weight[:, :count] / scale
        layer.bias.copy_(layer.bias.double() - scaled @ offset)
        layer.weight[:, :count] = scaled.to(layer.weight.dtype)
