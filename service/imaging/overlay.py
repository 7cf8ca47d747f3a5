"""Image files of explanations: the input of a model, and the drops drawn over it in colors."""

from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image

# Pixels of the longer side of an overlay; the few pixels of a model's input are hard to see.
_OVERLAY_SIDE = 448
_MAX_OPACITY = 0.75
_BLUE = (40, 110, 255)
_RED = (255, 60, 30)


def draw_overlay(image: npt.NDArray[np.uint8], drops: npt.NDArray[np.float64]) -> bytes:
    """Draw a map of the drops over the image in gray, as a PNG file.

    Cells that lower the score when they are covered are red, and cells that raise it are blue.
    Opacity is proportional to the change; cells without a change are transparent.

    Args:
        image: ``[height, width, channels]``, as the model sees it.
        drops: ``[cells, cells]``, the decrease of the score when a cell is covered.
    """
    height, width = image.shape[:2]
    scale = _OVERLAY_SIDE / max(height, width)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    small = image[:, :, 0] if image.shape[2] == 1 else image
    base = Image.fromarray(small).convert("L").resize(size, Image.Resampling.NEAREST)
    greatest = float(np.abs(drops).max())
    share = (drops / greatest if greatest > 0 else drops).astype(np.float32)
    wide = np.asarray(Image.fromarray(share).resize(size, Image.Resampling.BILINEAR))
    opacity = np.abs(wide)[:, :, np.newaxis] * _MAX_OPACITY
    color = np.where(wide[:, :, np.newaxis] > 0, np.array(_RED), np.array(_BLUE))
    mixed = np.asarray(base)[:, :, np.newaxis] * (1 - opacity) + color * opacity
    return encode_png(np.round(mixed).astype(np.uint8))


def encode_png(image: npt.NDArray[np.uint8]) -> bytes:
    """Return an image ``[height, width, channels]`` of one or three channels as a PNG file."""
    file = BytesIO()
    Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(file, format="PNG")
    return file.getvalue()
