"""Pictures inside a report: the ones answered worst, some of each class, and changed ones."""

import base64
import io
import math
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.image import imsave
from torch import Generator

from training.data.table import Float32s
from training.evaluation.metrics import decide, probabilities
from training.images.augment import augment
from training.images.dataset import Bytes, PictureSet, Rows
from training.recipe.image import Augmentation

_MOST_WORST = 24
_MOST_EXAMPLES = 24
_MOST_SMALL_EXAMPLES = 60
_MOST_EACH = 6
_MOST_CHANGED = 4
_CHANGES = 4
EXACT_SIDE = 48
"""Of no longer a side, a picture is shown to the very pixel."""
_LONGEST_SIDE = 128
_QUALITY = 80
_HALF = 0.5


@dataclass(frozen=True)
class Shown:
    """A picture of the test part with what is said of it."""

    url: str
    name: str
    true: str
    answered: str
    probability: float
    """Of the label answered."""
    believed: float
    """The probability of the true label."""


@dataclass(frozen=True)
class Strip:
    """Some pictures in a row."""

    name: str
    urls: list[str]


def worst(pictures: PictureSet, answers: Float32s) -> list[Shown]:
    """The pictures whose true label the model believed least, the worst first.

    Args:
        pictures: that were not learned from.
        answers: ``[pictures, outputs]``.
    """
    shares, chosen = probabilities(answers), decide(answers, _HALF)
    believed = shares[np.arange(len(shares)), pictures.target]
    return [
        Shown(
            url=data_url(pictures.pixels(np.array([row]))[0]),
            name=pictures.names[row],
            true=pictures.labels[pictures.target[row]],
            answered=pictures.labels[chosen[row]],
            probability=float(shares[row, chosen[row]]),
            believed=float(believed[row]),
        )
        for row in np.argsort(believed, kind="stable")[:_MOST_WORST]
    ]


def examples(pictures: PictureSet) -> list[Strip]:
    """Some pictures of each class, taken at even distances; of many classes, the first ones."""
    small = max(pictures.store.shape[1:3]) <= EXACT_SIDE
    most = _MOST_SMALL_EXAMPLES if small else _MOST_EXAMPLES
    each = min(_MOST_EACH, max(1, most // pictures.classes))
    return [
        Strip(label, [data_url(picture) for picture in pictures.pixels(rows)])
        for label, rows in zip(pictures.labels, _spread(pictures, each), strict=True)
        if len(rows)
    ][:most]


def changed(pictures: PictureSet, plan: Augmentation, seed: int) -> list[Strip]:
    """A picture of each of some classes, and how it might have come before the network."""
    rows = np.concatenate(_spread(pictures, 1))[:_MOST_CHANGED]
    before = pictures.pixels(rows)
    image = torch.from_numpy(before).permute(0, 3, 1, 2).float() / 255
    chances = Generator().manual_seed(seed)
    after = [augment(image, plan, chances) for _ in range(_CHANGES)]
    looks = [before, *(_bytes_of(one) for one in after)]
    return [
        Strip(pictures.labels[pictures.target[row]], [data_url(look[k]) for look in looks])
        for k, row in enumerate(rows)
    ]


def data_url(pixels: Bytes) -> str:
    """A picture as an address that holds it whole: small ones exactly, photographs as JPEG.

    Args:
        pixels: ``[height, width, channels]``.
    """
    height, width, _ = pixels.shape
    coloured = np.broadcast_to(pixels, (height, width, 3))
    file = io.BytesIO()
    if max(height, width) <= EXACT_SIDE:
        imsave(file, coloured, format="png", metadata={"Software": ""})
        return _address("png", file)
    imsave(file, _smaller(coloured), format="jpeg", pil_kwargs={"quality": _QUALITY})
    return _address("jpeg", file)


def _address(kind: str, file: io.BytesIO) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def _smaller(pixels: Bytes) -> Bytes:
    """Averaged in whole blocks until it is small enough for a page."""
    height, width, channels = pixels.shape
    step = math.ceil(max(height, width) / _LONGEST_SIDE)
    tall, wide = min(step, height), min(step, width)
    rows, columns = height // tall, width // wide
    whole = pixels[: rows * tall, : columns * wide]
    blocks = whole.reshape(rows, tall, columns, wide, channels)
    return np.asarray(blocks.mean(axis=(1, 3)).round(), dtype=np.uint8)


def _bytes_of(pictures: torch.Tensor) -> Bytes:
    """``[batch, channels, height, width]``, 0 to 1, as pixels are stored."""
    levels = (pictures.clamp(0, 1) * 255).round().byte()
    return np.asarray(levels.permute(0, 2, 3, 1).numpy(), dtype=np.uint8)


def _spread(pictures: PictureSet, count: int) -> list[Rows]:
    """Rows of each class, at most so many, at even distances."""
    found = []
    for label in range(pictures.classes):
        rows = np.flatnonzero(pictures.target == label)
        places = np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(np.intp)
        found.append(rows[places])
    return found
