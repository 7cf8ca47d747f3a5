"""Images inside a report: the largest errors, examples of each class, and augmented ones."""

import base64
import io
import math
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.image import imsave
from torch import Generator
from torch.nn import functional

from service.predictions import label_probabilities, predicted_labels
from training.data.table import Float32s, Rows
from training.images.augment import augment
from training.images.dataset import Bytes, ImageSet, choose_evenly_spaced
from training.images.networks import to_unit_range
from training.model.thresholds import compute_probabilities
from training.recipe.image import Augmentation

_MAX_WORST = 24
_MAX_EXAMPLES = 24
_MAX_SMALL_EXAMPLES = 60
_MAX_EACH = 6
_MAX_CHANGED = 4
_AUGMENTED_COPIES = 4
MAX_UNSCALED_SIDE = 48
"""Images with sides up to this are shown pixel by pixel."""
_LONGEST_SIDE = 128
_QUALITY = 80


@dataclass(frozen=True)
class MisclassifiedImage:
    """A test image with its prediction."""

    url: str
    name: str
    true: str
    predicted: str
    probability: float
    """Of the predicted label."""
    true_probability: float
    """The probability of the true label."""


@dataclass(frozen=True)
class ImageRow:
    """Several images in a row."""

    name: str
    urls: list[str]


def find_worst(images: ImageSet, predictions: Float32s) -> list[MisclassifiedImage]:
    """Return the test images with the lowest probability of their true label, lowest first."""
    probabilities, chosen = compute_probabilities(predictions), predicted_labels(predictions)
    true_probability = label_probabilities(probabilities, images.target)
    return [
        MisclassifiedImage(
            url=encode_data_url(images.pixels(np.array([row]))[0]),
            name=images.names[row],
            true=images.labels[images.target[row]],
            predicted=images.labels[chosen[row]],
            probability=float(probabilities[row, chosen[row]]),
            true_probability=float(true_probability[row]),
        )
        for row in np.argsort(true_probability, kind="stable")[:_MAX_WORST]
    ]


def choose_examples(images: ImageSet) -> list[ImageRow]:
    """Show evenly spaced images of each class; of many classes, the first ones."""
    small = max(images.store.shape[1:3]) <= MAX_UNSCALED_SIDE
    most = _MAX_SMALL_EXAMPLES if small else _MAX_EXAMPLES
    each = min(_MAX_EACH, max(1, most // images.classes))
    return [
        ImageRow(label, [encode_data_url(image) for image in images.pixels(rows)])
        for label, rows in zip(images.labels, _choose_rows(images, each), strict=True)
        if len(rows)
    ][:most]


def create_augmented_examples(images: ImageSet, plan: Augmentation, seed: int) -> list[ImageRow]:
    """Show one image of each of some classes, followed by augmented copies."""
    rows = np.concatenate(_choose_rows(images, 1))[:_MAX_CHANGED]
    before = images.pixels(rows)
    image = to_unit_range(torch.from_numpy(before))
    generator = Generator().manual_seed(seed)
    variants = [before]
    for _ in range(_AUGMENTED_COPIES):
        levels = (augment(image, plan, generator).clamp(0, 1) * 255).round().byte()
        variants.append(levels.permute(0, 2, 3, 1).numpy())
    return [
        ImageRow(
            images.labels[images.target[row]], [encode_data_url(variant[k]) for variant in variants]
        )
        for k, row in enumerate(rows)
    ]


def encode_data_url(pixels: Bytes) -> str:
    """Encode ``[height, width, channels]`` as a data URL: small images exactly, others as JPEG."""
    height, width, _ = pixels.shape
    colored = np.broadcast_to(pixels, (height, width, 3))
    file = io.BytesIO()
    if max(height, width) <= MAX_UNSCALED_SIDE:
        imsave(file, colored, format="png", metadata={"Software": ""})
        return _format_data_url("png", file)
    imsave(file, _downsample(colored), format="jpeg", pil_kwargs={"quality": _QUALITY})
    return _format_data_url("jpeg", file)


def _format_data_url(kind: str, file: io.BytesIO) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def _downsample(pixels: Bytes) -> Bytes:
    """Downsample an image by block averages until it is small enough for a page."""
    height, width, _ = pixels.shape
    step = math.ceil(max(height, width) / _LONGEST_SIDE)
    block = (min(step, height), min(step, width))
    averages = functional.avg_pool2d(torch.tensor(pixels).permute(2, 0, 1).double(), block)
    return np.asarray(averages.round().byte().permute(1, 2, 0).numpy())


def _choose_rows(images: ImageSet, count: int) -> list[Rows]:
    """Return up to ``count`` evenly spaced rows of each class."""
    found = []
    for label in range(images.classes):
        rows = np.flatnonzero(images.target == label)
        found.append(rows[choose_evenly_spaced(len(rows), count)])
    return found
