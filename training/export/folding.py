"""A scaler inside the layer that follows it, for the graph that is exported.

``W ((x - offset) / scale) + b`` is ``(W / scale) x + (b - W (offset / scale))``. ONNX Runtime takes
longer to scale two columns than to multiply them by a matrix, so the small models answer in a
third of the time.
"""

from copy import deepcopy

import torch
from torch import Tensor, nn

from training.images.networks import Classifier, Pixels
from training.model.predictor import Predictor
from training.model.preprocessing import Preprocessing, Scaler

FARTHEST = 16.0
"""An offset farther from nought than so many scales costs more than four of 24 bits: what is left
of a large number once another large one is taken away."""
_WHITE = 255


def folded(predictor: Predictor) -> Predictor:
    """The same predictor, its scaler in the first layer of each network.

    The predictor itself where there is no scaler, something stands between it and a linear layer,
    or a column lies so far from nought that the answers' last digits would suffer.
    """
    preprocessing = predictor.preprocessing
    if len(preprocessing.steps) == 0 or not _is_near(preprocessing.steps[-1]):
        return predictor
    if any(_first_layer(network) is None for network in predictor.networks.members):
        return predictor
    same = deepcopy(predictor)
    *before, scaler = same.preprocessing.steps.children()
    for network in same.networks.members:
        layer = _first_layer(network)
        if layer is not None and isinstance(scaler, Scaler):
            _take_in(layer, scaler, same.preprocessing)
    same.preprocessing.steps = nn.Sequential(*before)
    return same


def _is_near(step: nn.Module) -> bool:
    """Whether it is a scaler of columns that lie near nought, as seen from their own spread."""
    return isinstance(step, Scaler) and bool(
        (step.offset.abs() <= FARTHEST * step.scale.abs()).all()
    )


def _first_layer(network: nn.Module) -> nn.Linear | None:
    first = network[0] if isinstance(network, nn.Sequential) else network
    return first if isinstance(first, nn.Linear) else None


def _take_in(layer: nn.Linear, scaler: Scaler, preprocessing: Preprocessing) -> None:
    """Let the layer see the numbers in raw units; they are its first columns."""
    count = preprocessing.numbers_width
    with torch.no_grad():
        weight = layer.weight.double()
        scale, offset = scaler.scale.double(), scaler.offset.double()
        scaled = weight[:, :count] / scale
        layer.bias.copy_(layer.bias.double() - scaled @ offset)
        layer.weight[:, :count] = scaled.to(layer.weight.dtype)


class Unscaled(Pixels):
    """Bytes as the numbers that they are."""

    def __init__(self, channels: int) -> None:
        super().__init__(torch.zeros(channels), torch.full((channels,), 1 / _WHITE))

    def forward(self, image: Tensor) -> Tensor:
        """``[batch, height, width, channels]``, uint8, to ``[batch, channels, height, width]``."""
        _, height, width, channels = image.shape
        if channels == 1:  # nothing moves
            return image.reshape(-1, 1, height, width).float()
        return image.permute(0, 3, 1, 2).float()


def folded_classifier(classifier: Classifier) -> Classifier:
    """The same classifier, the scaling of its pixels in its first layer; itself where it cannot be.

    A convolution with a margin puts noughts around the scaled pixels, which no weights can do.
    """
    same = deepcopy(classifier)
    layer = _first_image_layer(same.network)
    if layer is None or not _pixels_near_zero(classifier.pixels):
        return classifier
    _fold_pixels(layer, classifier.pixels)
    same.pixels = Unscaled(classifier.pixels.mean.numel())
    return same


def _pixels_near_zero(pixels: Pixels) -> bool:
    """Whether pixels lie near nought, as seen from their own spread; as for columns of a table."""
    return bool((pixels.mean.abs() <= FARTHEST * pixels.deviation).all())


def _first_image_layer(network: nn.Module) -> nn.Conv2d | nn.Linear | None:
    if not isinstance(network, nn.Sequential):
        return None
    first, second = network[0], network[1]
    if isinstance(first, nn.Flatten) and isinstance(second, nn.Linear):
        return second
    is_plain = isinstance(first, nn.Conv2d) and first.padding == (0, 0) and first.bias is not None
    return first if isinstance(first, nn.Conv2d) and is_plain else None


def _fold_pixels(layer: nn.Conv2d | nn.Linear, pixels: Pixels) -> None:
    with torch.no_grad():
        mean, deviation = pixels.mean.double().flatten(), pixels.deviation.double().flatten()
        # By channel: those of a convolution, or as many dense weights for each.
        weight = layer.weight.double()
        by_channel = weight.reshape(len(weight), len(mean), -1) / deviation[:, None]
        if layer.bias is not None:
            layer.bias.copy_(layer.bias.double() - (by_channel * mean[:, None]).sum(dim=(1, 2)))
        layer.weight.copy_((by_channel / _WHITE).reshape(weight.shape))
