"""Networks for images."""

import pytest
import torch
from pydantic import ValidationError

from training.images.networks import Classifier, Pixels, build
from training.recipe.image import Image, ImageRecipe, Network
from training.recipe.loader import read_any


def _recipe(name: str) -> ImageRecipe:
    recipe = read_any(name)
    assert isinstance(recipe, ImageRecipe)
    return recipe


@pytest.mark.parametrize(
    ("name", "classes", "parameters"),
    [
        # 784-128-10, 784-512-10 and 784-1024-1024-1024-10, weights and biases.
        ("digits_sigmoid", 10, 784 * 128 + 128 + 128 * 10 + 10),
        ("digits_small", 10, 784 * 512 + 512 + 512 * 10 + 10),
        ("digits_mlp", 10, 2_913_290),
        # 28 - 2 = 26, pooled 13, - 2 = 11, pooled 5: 25 positions of 32 filters.
        ("digits_conv", 10, 320 + 9248 + (25 * 32 * 128 + 128) + 1290),
        # Chollet's: 150, 148, 74, 72, 36, 34, 17, 15, 7: 49 positions of 128 filters.
        ("cats_dogs_course", 2, 896 + 18_496 + 73_856 + 147_584 + 49 * 128 * 512 + 512 + 513),
    ],
)
def test_networks_have_the_expected_number_of_parameters(
    name: str, classes: int, parameters: int
) -> None:
    """The number of parameters equals the sum of all layers, computed by hand."""
    network = build(_recipe(name), classes)

    assert sum(weight.numel() for weight in network.parameters()) == parameters


@pytest.mark.parametrize("name", ["digits_cnn", "fashion_cnn", "cats_dogs"])
def test_a_classifier_turns_bytes_into_probabilities(name: str) -> None:
    """Rows sum to one, or have one column for two classes."""
    recipe = _recipe(name)
    classes = 2 if name == "cats_dogs" else 10
    shape = (recipe.image.height, recipe.image.width, recipe.image.channels)
    mean = torch.full((recipe.image.channels,), 0.5)
    classifier = Classifier(
        Pixels(mean, mean), build(recipe, classes), binary=name == "cats_dogs"
    ).eval()

    predictions = classifier(torch.randint(0, 256, (3, *shape), dtype=torch.uint8))

    assert predictions.shape == (3, 1 if name == "cats_dogs" else 10)
    if name != "cats_dogs":
        assert torch.allclose(predictions.sum(1), torch.ones(3))


def test_pixels_are_standardized() -> None:
    """A byte becomes ``(byte / 255 - mean) / deviation`` of its channel."""
    pixels = Pixels(torch.tensor([0.2, 0.4, 0.6]), torch.tensor([0.1, 0.2, 0.3]))
    image = torch.tensor([[[[51, 102, 153]]]], dtype=torch.uint8)

    assert torch.allclose(pixels(image), torch.zeros(1, 3, 1, 1), atol=1e-6)


@pytest.mark.parametrize(
    ("plan", "sentence"),
    [
        ({"family": "layers"}, "layers: required by the family layers"),
        ({"family": "layers", "layers": ["conv"]}, "unknown layer 'conv'"),
        ({"family": "residual"}, "widths: required by the family residual"),
        ({"family": "residual", "widths": [8], "blocks": [1, 1]}, "must have the same length"),
    ],
)
def test_an_invalid_network_is_rejected(plan: dict[str, object], sentence: str) -> None:
    """The error message gives the reason."""
    with pytest.raises(ValidationError, match=sentence):
        Network.model_validate(plan)


def test_pools_that_leave_nothing_are_rejected() -> None:
    """An image of four pixels cannot be halved three times."""
    with pytest.raises(ValidationError, match="to nothing"):
        ImageRecipe.model_validate(
            _recipe("digits_conv").model_dump()
            | {
                "image": Image(height=4, width=4, channels=1).model_dump(),
                "network": {"family": "layers", "layers": ["pool", "pool", "pool"]},
            }
        )
