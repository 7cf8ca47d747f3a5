"""Draft a complete recipe for an image folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from service.bundle.manifest import ImageInput
from service.imaging.preprocess import DECODER
from service.spelling import format_count
from training.data.sources import Folders
from training.errors import DataError
from training.images.dataset import choose_evenly_spaced
from training.images.folder import LoadedImages
from training.images.sources import IMAGES_AXES, find_idx_files, load_images, read_idx
from training.recipe.image import ImageData, ImageRecipe
from training.recipe.loader import parse_image_recipe

_MIN_SIDE = 16
_MAX_SIDE = 512
_USUAL_SIDE = 112
_SMALL_SIDE = 48
# Training images over all epochs: on two cores about ten minutes at 112 pixels.
_IMAGES_SEEN = 150_000
_EPOCHS = (20, 120)
_GRAY_SAMPLE = 100
_GRAY = 2
_SHOWN = 20
_NAMED = 4
_SMALL_SET = 1000
_LARGE_SET = 10_000
_UNEVEN = 3


@dataclass(frozen=True)
class ImageDraft:
    """A recipe, with remarks on what was inferred."""

    recipe: ImageRecipe
    remarks: list[str]


def draft_images(folder: Path, name: str, side: int | None) -> ImageDraft:
    """Infer a complete recipe for a folder of images.

    Args:
        folder: with class folders, or with train/ and others that have class folders.
        name: of the model.
        side: height and width in pixels; None: the default.

    Raises:
        DataError: the folder has no usable images, or the side is out of range.
    """
    if side is not None and not _MIN_SIDE <= side <= _MAX_SIDE:
        raise DataError(f"--size {side}: choose from {_MIN_SIDE} to {_MAX_SIDE} pixels.")
    height, width, channels = _choose_shape(folder, side)
    shape = {"height": height, "width": width, "fit": "crop"}
    image = ImageInput.model_validate(
        shape | {"kind": "image", "channels": channels, "decoder": DECODER}
    )
    parts = load_images(ImageData(folder=str(folder)), [], image, Folders(None, folder))
    if channels > 1 and _is_gray(parts):
        channels = 1
    count = len(parts.training)
    document: dict[str, Any] = {
        "name": name,
        "title": " or ".join(parts.training.labels[:_NAMED]),
        "description": f"Drafted from {folder.name} by `onward new --images`.",
        "data": {"folder": str(folder)},
        "target": {"name": "label", "labels": list(parts.training.labels)},
        "split": {"validation": 0.15 if count < _SMALL_SET else 0.1},
        "image": shape | {"channels": channels},
        "augmentation": _choose_augmentation(channels),
        "network": _choose_network(max(height, width)),
        "training": _choose_training(count),
    }
    return ImageDraft(parse_image_recipe(document, name), _describe_images(parts, channels))


def _choose_shape(folder: Path, side: int | None) -> tuple[int, int, int]:
    """Return height, width and channels: those of idx files, else the chosen or default size."""
    if files := find_idx_files(folder):
        _, height, width = read_idx(files["training"][0], IMAGES_AXES).shape
        return height, width, 1
    return side or _USUAL_SIDE, side or _USUAL_SIDE, 3


def _is_gray(parts: LoadedImages) -> bool:
    training = parts.training
    pixels = training.pixels(choose_evenly_spaced(len(training), _GRAY_SAMPLE)).astype(int)
    return int(np.abs(pixels[..., :1] - pixels[..., 1:]).max()) <= _GRAY


def _choose_augmentation(channels: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "shift": 0.1,
        "rotation": 15,
        "scale": 0.25,
        "stretch": 0.15,
        "shear": 8,
        "flip": True,
        "brightness": 0.3,
        "contrast": 0.3,
        "erasing": 0.5,
        "edges": "reflect",
    }
    return found | ({"saturation": 0.4} if channels > 1 else {})


def _choose_network(side: int) -> dict[str, Any]:
    """Return the network of the recipe cats_dogs, with a stage less for small images."""
    if side <= _SMALL_SIDE:
        return {"family": "residual", "widths": [32, 64, 128], "blocks": [0, 1, 1], "dropout": 0.3}
    return {
        "family": "residual",
        "stem": 2 if side <= 2 * _USUAL_SIDE else 4,
        "widths": [32, 64, 128, 192],
        "blocks": [0, 1, 1, 0],
        "dropout": 0.3,
    }


def _choose_training(count: int) -> dict[str, Any]:
    epochs = int(np.clip(_IMAGES_SEEN // count, *_EPOCHS))
    return {
        "optimizer": "AdamW",
        "learning_rate": 0.003,
        "weight_decay": 0.05,
        "schedule": "one-cycle",
        "epochs": epochs,
        "batch_size": 32 if count < _LARGE_SET else 128,
        "patience": epochs,
        "label_smoothing": 0.05,
        "mixup": 0.2,
        "ema_momentum": 0.998 if count >= _SMALL_SET else 0.98,
    }


def _describe_images(parts: LoadedImages, channels: int) -> list[str]:
    training = parts.training
    counts = np.bincount(training.target, minlength=training.classes)
    each = ", ".join(f"{k} {label}" for k, label in zip(counts, training.labels, strict=True))
    lines = [f"{len(training)} training images: {each}."]
    if parts.test is None:
        lines.append("A fifth of the images is the test set.")
    else:
        lines.append(f"The test set has its own folder: {format_count(len(parts.test), 'image')}.")
    if counts.max() > _UNEVEN * counts.min():
        lines.append("The classes are imbalanced; see the recall of each class in the report.")
    lines.append(
        "All images are grayscale, so the model has one channel."
        if channels == 1
        else "The images are in color."
    )
    lines.append(
        "Training images are flipped horizontally at random; set augmentation.flip = false if that "
        "changes their meaning, as for letters."
    )
    if parts.skipped:
        lines.append(f"{format_count(len(parts.skipped), 'skipped file')}:")
        lines += [f"  {one.file}: {one.reason}" for one in parts.skipped[:_SHOWN]]
        if len(parts.skipped) > _SHOWN:
            lines.append(f"  and {len(parts.skipped) - _SHOWN} more; the report names them")
    return lines
