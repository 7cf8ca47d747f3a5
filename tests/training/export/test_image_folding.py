"""Folding the scaling of pixels into the first layer does not change the predictions."""

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from training.export.folding import fold_pixel_scaling
from training.export.onnx_export import export_module
from training.images.networks import Classifier, Pixels
from training.onnx_files import Graph

_SIDE = 6


def _classifier(first: str, channels: int) -> Classifier:
    torch.manual_seed(1)
    after = (_SIDE - 2) ** 2 * 4
    layers: dict[str, list[nn.Module]] = {
        "convolution": [nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(after, 3)],
        "convolution with a margin": [
            nn.Conv2d(channels, 4, 3, padding=1),
            nn.Flatten(),
            nn.Linear(_SIDE**2 * 4, 3),
        ],
        "nearly white": [nn.Flatten(), nn.Linear(_SIDE**2 * channels, 3)],
        "dense": [nn.Flatten(), nn.Linear(_SIDE**2 * channels, 8), nn.ReLU(), nn.Linear(8, 3)],
    }
    mean, deviation = torch.linspace(0.1, 0.6, channels), torch.linspace(0.2, 0.3, channels)
    if first == "nearly white":
        mean, deviation = torch.full((channels,), 0.99), torch.full((channels,), 0.005)
    network = nn.Sequential(*layers[first])
    return Classifier(Pixels(mean, deviation), network, binary=False).eval()


@pytest.mark.parametrize(
    ("first", "channels"),
    [
        ("convolution", 1),
        ("convolution", 3),
        ("convolution with a margin", 3),
        ("dense", 3),
        ("nearly white", 1),
    ],
)
def test_folding_does_not_change_predictions(first: str, channels: int) -> None:
    """Up to rounding; padding or pixels far from zero prevent folding."""
    classifier = _classifier(first, channels)
    images = np.random.default_rng(1).integers(0, 256, (7, _SIDE, _SIDE, channels), np.uint8)
    with torch.no_grad():
        before = classifier(torch.from_numpy(images)).numpy()
        expected = classifier.double()(torch.from_numpy(images)).numpy()
        classifier.float()

    same = fold_pixel_scaling(classifier)
    model = export_module(same, torch.from_numpy(images[:3]), "image", "probabilities")

    operators = [node.op_type for node in onnx.load_model_from_string(model).graph.node]
    can_be = first in ("convolution", "dense")
    assert ("Sub" not in operators) == can_be
    assert (same is not classifier) == can_be
    np.testing.assert_allclose(Graph(model).predict(images), expected, atol=2e-6)
    with torch.no_grad():
        assert classifier(torch.from_numpy(images)).numpy().tobytes() == before.tobytes()
