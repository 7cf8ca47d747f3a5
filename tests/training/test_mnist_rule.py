"""MNIST's own digits under the rule that the service applies to any image."""

import gzip

import numpy as np

from service.imaging.preprocess import read_image
from tests.images import encoded, image_input
from training.data.sources import Folders

DIGIT = image_input(28, 28, channels=1, normalize="digit")


def test_mnist_itself_stays_as_it_is(folders: Folders) -> None:
    """All ten thousand test digits, saved as PNG, come out bit for bit."""
    assert folders.data is not None
    packed = (folders.data / "mnist" / "t10k-images-idx3-ubyte.gz").read_bytes()
    digits = np.frombuffer(gzip.decompress(packed), np.uint8, offset=16).reshape(-1, 28, 28)

    same = sum(np.array_equal(read_image(encoded(d), DIGIT)[:, :, 0], d) for d in digits)

    assert same == len(digits) == 10_000
