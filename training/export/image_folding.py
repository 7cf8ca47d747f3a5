"""The scaling of pixels inside the first layer, for the graph that is exported.

As `training.export.folding` does for tables: ``(x / 255 - mean) / deviation`` before a dense layer,
or before a convolution without padding, is the same as other weights.
"""

from copy import deepcopy

import torch
from torch import Tensor, nn

from training.export.folding import FARTHEST
from training.images.networks import Classifier, Pixels

_WHITE = 255


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


def folded(classifier: Classifier) -> Classifier:
    """The same classifier, the scaling of its pixels in its first layer; itself where it cannot be.

    A convolution with a margin puts noughts around the scaled pixels, which no weights can do.
    """
    same = deepcopy(classifier)
    layer = _first_layer(same.network)
    if layer is None or not _is_near(classifier.pixels):
        return classifier
    _take_in(layer, classifier.pixels)
    same.pixels = Unscaled(classifier.pixels.mean.numel())
    return same


def _is_near(pixels: Pixels) -> bool:
    """Whether pixels lie near nought, as seen from their own spread; as for columns of a table."""
    return bool((pixels.mean.abs() <= FARTHEST * pixels.deviation).all())


def _first_layer(network: nn.Module) -> nn.Conv2d | nn.Linear | None:
    if not isinstance(network, nn.Sequential):
        return None
    first, second = network[0], network[1]
    if isinstance(first, nn.Flatten) and isinstance(second, nn.Linear):
        return second
    is_plain = isinstance(first, nn.Conv2d) and first.padding == (0, 0) and first.bias is not None
    return first if isinstance(first, nn.Conv2d) and is_plain else None


def _take_in(layer: nn.Conv2d | nn.Linear, pixels: Pixels) -> None:
    with torch.no_grad():
        mean, deviation = pixels.mean.double().flatten(), pixels.deviation.double().flatten()
        # By channel: those of a convolution, or as many dense weights for each.
        weight = layer.weight.double()
        by_channel = weight.reshape(len(weight), len(mean), -1) / deviation[:, None]
        if layer.bias is not None:
            layer.bias.copy_(layer.bias.double() - (by_channel * mean[:, None]).sum(dim=(1, 2)))
        layer.weight.copy_((by_channel / _WHITE).reshape(weight.shape))
