"""The shipped image models reach the targets of the results page."""

from pathlib import Path

import pytest

from service.bundle.versions import list_model_names
from training.data.sources import Folders
from training.evaluation.results import check_images, find_image_bundle

MODELS = Path(__file__).parents[3] / "models"
NAMES = [name for name in list_model_names(MODELS) if find_image_bundle(MODELS, name)]
# On all of their test images, they take half a minute; `onward results` measures them so.
_SLOW = ("fashion_cnn", "cats_dogs")


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_model_reaches_its_targets(name: str, folders: Folders) -> None:
    """Measured with the shipped graph on the test set; of slow models on every third image."""
    bundle = find_image_bundle(MODELS, name)
    assert bundle is not None

    figures = list(check_images(bundle, folders, every=3 if name in _SLOW else 1))

    assert figures
    assert [figure for figure in figures if not figure.is_reached] == []
