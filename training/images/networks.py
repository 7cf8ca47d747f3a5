"""Networks for images: sequential layers, and a small residual network."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from training.data.table import Float32s
from training.images.dataset import Bytes
from training.model.networks import ACTIVATIONS, predict_in_batches
from training.recipe.families import output_width
from training.recipe.image import Image, ImageRecipe, Network

_BATCH_SIZE = 256


def to_unit_range(image: Tensor) -> Tensor:
    """Map uint8 ``[batch, height, width, channels]`` to 0 to 1, with the channels second."""
    return image.permute(0, 3, 1, 2).float() / 255


class Pixels(nn.Module):
    """Scales uint8 pixels to mean zero and deviation one."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: Tensor, deviation: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean.view(1, -1, 1, 1))
        self.register_buffer("deviation", deviation.view(1, -1, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """Map ``[batch, height, width, channels]`` to ``[batch, channels, height, width]``."""
        return self.standardize(to_unit_range(image))

    def standardize(self, images: Tensor) -> Tensor:
        """Map ``[batch, channels, height, width]``, 0 to 1, to the same shape, standardized."""
        return (images - self.mean) / self.deviation


class Block(nn.Module):
    """A residual block of two convolutions (He et al., 2015)."""

    def __init__(self, width: int, activation: nn.Module) -> None:
        super().__init__()
        self.first = _create_normed_convolution(width, width, activation)
        norm = nn.BatchNorm2d(width)
        # Each block starts as the identity.
        nn.init.zeros_(norm.weight)
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), norm)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[batch, width, rows, columns]`` to the same shape."""
        passed: Tensor = self.activation(x + self.second(self.first(x)))
        return passed


class Classifier(nn.Module):
    """The exported module, from pixels to probabilities."""

    source = "PyTorch"
    temperature: Tensor

    def __init__(self, pixels: Pixels, network: nn.Module, *, binary: bool) -> None:
        super().__init__()
        self.pixels = pixels
        self.network = network
        self.binary = binary
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, image: Tensor) -> Tensor:
        """Map uint8 ``[batch, height, width, channels]`` to ``[batch, classes]`` or ``[batch, 1]``.

        For two classes, the only column is the probability of the second.
        """
        scores: Tensor = self.network(self.pixels(image)) / self.temperature
        return torch.sigmoid(scores) if self.binary else torch.softmax(scores, 1)

    def predict(self, pixels: Bytes) -> Float32s:
        """Predict ``[images, height, width, channels]``, as the exported graph does."""
        return predict_in_batches(self, pixels, _BATCH_SIZE)


def build(recipe: ImageRecipe, classes: int) -> nn.Module:
    """Return an untrained network from normalized pixels to a score per class.

    For two classes there is one score, that of the second.
    """
    plan, image = recipe.network, recipe.image
    network = BUILDERS[plan.family](plan, image, output_width(classes))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return network


def _build_layers(plan: Network, image: Image, outputs: int) -> nn.Module:
    modules: list[nn.Module] = []
    width: int = image.channels
    rows, columns = image.height, image.width
    flat = False
    for layer in plan.layers:
        kind, _, number = layer.partition(" ")
        if kind in ("flatten", "dense") and not flat:
            modules.append(nn.Flatten())
            width, flat = width * rows * columns, True
        if kind == "conv":
            pad = plan.kernel_size // 2 if plan.padding == "same" else 0
            lost = 0 if plan.padding == "same" else plan.kernel_size - 1
            modules.append(nn.Conv2d(width, int(number), plan.kernel_size, padding=pad))
            width, rows, columns = int(number), rows - lost, columns - lost
            modules += _create_activation(plan, nn.BatchNorm2d(width))
        elif kind == "pool":
            modules.append(nn.MaxPool2d(2))
            rows, columns = rows // 2, columns // 2
        elif kind == "dropout":
            modules.append(nn.Dropout(float(number)))
        elif kind == "dense":
            modules.append(nn.Linear(width, int(number)))
            width = int(number)
            modules += _create_activation(plan, nn.BatchNorm1d(width))
    if not flat:
        modules.append(nn.Flatten())
        width *= rows * columns
    return nn.Sequential(*modules, nn.Dropout(plan.dropout), nn.Linear(width, outputs))


def _create_activation(plan: Network, norm: nn.Module) -> list[nn.Module]:
    activation = ACTIVATIONS[plan.activation]()
    return [norm, activation] if plan.batch_norm else [activation]


def _build_residual(plan: Network, image: Image, outputs: int) -> nn.Module:
    blocks = plan.blocks or [1] * len(plan.widths)
    modules: list[nn.Module] = []
    before: int = image.channels
    for stage, (width, count) in enumerate(zip(plan.widths, blocks, strict=True)):
        if stage:
            modules.append(nn.MaxPool2d(2))
        if stage == 0 and plan.stem > 1:
            stem = nn.Conv2d(before, width, plan.stem + 1, plan.stem, plan.stem // 2, bias=False)
            modules += [stem, nn.BatchNorm2d(width), ACTIVATIONS[plan.activation]()]
        else:
            modules.append(
                _create_normed_convolution(before, width, ACTIVATIONS[plan.activation]())
            )
        modules += [Block(width, ACTIVATIONS[plan.activation]()) for _ in range(count)]
        before = width
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(plan.dropout)]
    return nn.Sequential(*modules, *head, nn.Linear(before, outputs))


def _create_normed_convolution(inputs: int, outputs: int, activation: nn.Module) -> nn.Module:
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), activation)


BUILDERS: Mapping[str, Callable[[Network, Image, int], nn.Module]] = {
    "layers": _build_layers,
    "residual": _build_residual,
}
"""The families of image models, with functions that build their networks."""
