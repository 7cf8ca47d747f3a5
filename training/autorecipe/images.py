"""Writing the recipe of an unknown folder of pictures: everything inferred, and nothing unsaid."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from service.bundle.manifest import ImageInput
from service.imaging.preprocess import DECODER
from training.data.sources import Folders
from training.errors import DataError
from training.images.sources import Found, idx_files, load_pictures, read_idx
from training.recipe.image import ImageRecipe, Pictures
from training.recipe.loader import parse_image_recipe

_LEAST_SIDE = 16
_MOST_SIDE = 512
_USUAL_SIDE = 112
_SMALL_SIDE = 48
_LOOKS = 150_000
"""Pictures seen in all by default: on two cores some ten minutes at 112 pixels."""
_EPOCHS = (20, 120)
_GREY = 2
_SHOWN = 20
_NAMED = 4
_SMALL_SET = 1000
_LARGE_SET = 10_000
_UNEVEN = 3


@dataclass(frozen=True)
class ImageDraft:
    """A recipe, and what was seen while writing it."""

    recipe: ImageRecipe
    remarks: list[str]


def draft_pictures(folder: Path, name: str, side: int | None) -> ImageDraft:
    """Infer a complete recipe for a folder of pictures.

    Args:
        folder: of class folders, or of parts with class folders.
        name: what the model will be called.
        side: pixels of the square that a picture becomes; None: by default.

    Raises:
        DataError: there is nothing to learn from, or the side is out of bounds.
    """
    if side is not None and not _LEAST_SIDE <= side <= _MOST_SIDE:
        raise DataError(f"--size {side}: choose from {_LEAST_SIDE} to {_MOST_SIDE} pixels.")
    height, width, channels = _shape(folder, side)
    shape = {"height": height, "width": width, "fit": "crop"}
    image = ImageInput.model_validate(
        shape | {"kind": "image", "channels": channels, "decoder": DECODER}
    )
    parts = load_pictures(Pictures(folder=str(folder)), [], image, Folders(None, folder))
    if channels > 1 and _is_grey(parts):
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
        "augmentation": _augmentation(channels),
        "network": _network(max(height, width)),
        "training": _training(count),
    }
    return ImageDraft(parse_image_recipe(document, name), _remarks(parts, channels))


def _shape(folder: Path, side: int | None) -> tuple[int, int, int]:
    """Height, width and channels; idx files have theirs, photographs are given one."""
    if files := idx_files(folder):
        _, height, width = read_idx(files["training"][0]).shape
        return height, width, 1
    return side or _USUAL_SIDE, side or _USUAL_SIDE, 3


def _is_grey(parts: Found) -> bool:
    some = np.linspace(0, len(parts.training) - 1, min(len(parts.training), 100)).astype(int)
    pixels = parts.training.pixels(np.unique(some)).astype(int)
    return int(np.abs(pixels[..., :1] - pixels[..., 1:]).max()) <= _GREY


def _augmentation(channels: int) -> dict[str, Any]:
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


def _network(side: int) -> dict[str, Any]:
    """The shipped cats and dogs', with a stage less for small pictures."""
    if side <= _SMALL_SIDE:
        return {"family": "residual", "widths": [32, 64, 128], "blocks": [0, 1, 1], "dropout": 0.3}
    return {
        "family": "residual",
        "stem": 2 if side <= 2 * _USUAL_SIDE else 4,
        "widths": [32, 64, 128, 192],
        "blocks": [0, 1, 1, 0],
        "dropout": 0.3,
    }


def _training(count: int) -> dict[str, Any]:
    epochs = int(np.clip(_LOOKS // count, *_EPOCHS))
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


def _remarks(parts: Found, channels: int) -> list[str]:
    training = parts.training
    counts = np.bincount(training.target, minlength=training.classes)
    each = ", ".join(f"{k} {label}" for k, label in zip(counts, training.labels, strict=True))
    lines = [f"{len(training)} pictures to learn from: {each}."]
    if parts.test is None:
        lines.append("A fifth is set aside for the test, before anything is learned.")
    else:
        lines.append(f"The test part is a folder of its own: {len(parts.test)} pictures.")
    if counts.max() > _UNEVEN * counts.min():
        lines.append("The classes differ much in size; look at each one's recall in the report.")
    lines.append("All are grey: one channel." if channels == 1 else "They have colours.")
    lines.append(
        "Left and right may change places in training; set augmentation.flip = false where that "
        "makes another thing of the picture, as with letters."
    )
    if parts.left_out:
        lines.append(f"{len(parts.left_out)} files were left out:")
        lines += [f"  {one.file}: {one.reason}" for one in parts.left_out[:_SHOWN]]
        if len(parts.left_out) > _SHOWN:
            lines.append(f"  and {len(parts.left_out) - _SHOWN} more; the report names them")
    return lines
