"""MNIST's digits after the preprocessing of the service."""

import gzip

import numpy as np

from service.imaging.preprocess import read_image
from tests.images import encoded, image_input
from training.data.sources import Folders

DIGIT = image_input(28, 28, channels=1, normalize="digit")


def test_mnist_images_are_not_changed(folders: Folders) -> None:
    """All ten thousand test images, saved as PNG, are preprocessed to the same pixels."""
    assert folders.data is not None
    packed = (folders.data / "mnist" / "t10k-images-idx3-ubyte.gz").read_bytes()
    digits = np.frombuffer(gzip.decompress(packed), np.uint8, offset=16).reshape(-1, 28, 28)

    same = sum(np.array_equal(read_image(encoded(d), DIGIT)[:, :, 0], d) for d in digits)

    assert same == len(digits) == 10_000
