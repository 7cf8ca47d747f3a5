"""Folding: scaling becomes part of the next or the last layer in the exported graph.

``W ((x - offset) / scale) + b`` is ``(W / scale) x + (b - W (offset / scale))``. ONNX Runtime needs
more time to scale two columns than to multiply them by a matrix, so small models need a third of
the time. For images, ``(x / 255 - mean) / deviation`` is folded into a dense layer, or into a
convolution without padding. The last layers of several networks become one.
"""

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from training.images.networks import Classifier, Pixels
from training.model.networks import Ensemble, MixedPredictor, Predictor, ValueHead
from training.model.preprocessing import Preprocessing, Scaler

MAX_OFFSET_RATIO = 16.0
"""The maximum of offset divided by scale; with more, cancellation costs more than 4 of 24 bits."""
_WHITE = 255


def fold_scaler(predictor: Predictor) -> Predictor:
    """Fold the scaler of a predictor into the first layer of each network.

    Returns the predictor itself if there is no scaler, if a linear layer does not directly follow
    it, or if the offset of a column is so large that predictions would lose precision.
    """
    preprocessing = predictor.preprocessing
    if len(preprocessing.steps) == 0 or not _is_near(preprocessing.steps[-1]):
        return predictor
    if any(_find_first_layer(network) is None for network in predictor.networks.members):
        return predictor
    same = deepcopy(predictor)
    *before, scaler = same.preprocessing.steps.children()
    for network in same.networks.members:
        layer = _find_first_layer(network)
        if layer is not None and isinstance(scaler, Scaler):
            _fold_into_layer(layer, scaler, same.preprocessing)
    same.preprocessing.steps = nn.Sequential(*before)
    return same


def fold_head(predictor: Predictor) -> Predictor:
    """Fold the scale of a value into the last layers, and join those of mixed networks.

    Returns the predictor itself if a network does not end with a linear layer.
    """
    same = deepcopy(predictor)
    networks = [_split(network) for network in _list_networks(same.networks)]
    parts = [network for network in networks if network is not None]
    if len(parts) < len(networks):
        return predictor
    if isinstance(same.head, ValueHead):
        for _, layer in parts:
            _fold_into_last_layer(layer, same.head.scaler)
        same.head = same.head.last
    # Of several outputs, most weights of the joined layer would be zero.
    has_one = all(layer.out_features == 1 for _, layer in parts)
    if isinstance(same, MixedPredictor) and len(parts) == len(same.weights) and has_one:
        same.networks = _JoinedNetworks(parts)
    return same


class _JoinedNetworks(Ensemble):
    """Networks whose last layers are one layer."""

    def __init__(self, networks: Sequence[tuple[nn.Module, nn.Linear]]) -> None:
        super().__init__([hidden for hidden, _ in networks])
        weight: Tensor = torch.block_diag(*(layer.weight for _, layer in networks))  # type: ignore[no-untyped-call]
        self.last = nn.Linear(weight.shape[1], weight.shape[0])
        with torch.no_grad():
            self.last.weight.copy_(weight)
            self.last.bias.copy_(torch.cat([layer.bias for _, layer in networks]))

    def join(self, x: Tensor) -> Tensor:
        """Map ``[rows, width]`` to the scores of all networks, ``[rows, networks]``."""
        scores: Tensor = self.last(super().join(x))
        return scores


def _list_networks(network: nn.Module) -> list[nn.Module]:
    """Return the networks of an ensemble, whose members may be ensembles."""
    if not isinstance(network, Ensemble):
        return [network]
    return [one for member in network.members for one in _list_networks(member)]


def _split(network: nn.Module) -> tuple[nn.Sequential, nn.Linear] | None:
    """Return the hidden layers of a network, and its last one if that is linear."""
    layers = list(network) if isinstance(network, nn.Sequential) else [network]
    last = layers.pop()
    return (nn.Sequential(*layers), last) if isinstance(last, nn.Linear) else None


def _fold_into_last_layer(layer: nn.Linear, scaler: Scaler) -> None:
    """Let a layer return values in the unit of the target."""
    with torch.no_grad():
        scale, offset = scaler.scale.double(), scaler.offset.double()
        layer.weight.copy_(layer.weight.double() * scale)
        layer.bias.copy_(layer.bias.double() * scale + offset)


def _is_near(step: nn.Module) -> bool:
    """Return whether it is a scaler whose offsets are small relative to their scales."""
    return isinstance(step, Scaler) and bool(
        (step.offset.abs() <= MAX_OFFSET_RATIO * step.scale.abs()).all()
    )


def _find_first_layer(network: nn.Module) -> nn.Linear | None:
    first = network[0] if isinstance(network, nn.Sequential) else network
    return first if isinstance(first, nn.Linear) else None


def _fold_into_layer(layer: nn.Linear, scaler: Scaler, preprocessing: Preprocessing) -> None:
    """Change the weights of the numbers, which are the first columns, to raw units."""
    count = preprocessing.numbers_width
    with torch.no_grad():
        weight = layer.weight.double()
        scale, offset = scaler.scale.double(), scaler.offset.double()
        scaled = weight[:, :count] / scale
        layer.bias.copy_(layer.bias.double() - scaled @ offset)
        layer.weight[:, :count] = scaled.to(layer.weight.dtype)


class UnscaledPixels(Pixels):
    """Converts uint8 pixels to float32 without scaling."""

    def __init__(self, channels: int) -> None:
        super().__init__(torch.zeros(channels), torch.full((channels,), 1 / _WHITE))

    def forward(self, image: Tensor) -> Tensor:
        """Map ``[batch, height, width, channels]`` to ``[batch, channels, height, width]``."""
        _, height, width, channels = image.shape
        if channels == 1:  # without a transpose
            return image.reshape(-1, 1, height, width).float()
        return image.permute(0, 3, 1, 2).float()


def fold_pixel_scaling(classifier: Classifier) -> Classifier:
    """Fold the pixel scaling of a classifier into its first layer if possible.

    A convolution with padding adds zeros to the scaled pixels, which weights cannot express.
    """
    same, pixels = deepcopy(classifier), classifier.pixels
    layer = _find_first_image_layer(same.network)
    is_near_zero = (pixels.mean.abs() <= MAX_OFFSET_RATIO * pixels.deviation).all()
    if layer is None or not is_near_zero:
        return classifier
    _fold_pixels(layer, pixels)
    same.pixels = UnscaledPixels(pixels.mean.numel())
    return same


def _find_first_image_layer(network: nn.Module) -> nn.Conv2d | nn.Linear | None:
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
        # Grouped by channel, for convolutions and for dense layers.
        weight = layer.weight.double()
        by_channel = weight.reshape(len(weight), len(mean), -1) / deviation[:, None]
        if layer.bias is not None:
            layer.bias.copy_(layer.bias.double() - (by_channel * mean[:, None]).sum(dim=(1, 2)))
        layer.weight.copy_((by_channel / _WHITE).reshape(weight.shape))
