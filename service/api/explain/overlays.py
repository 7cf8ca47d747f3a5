"""A picture with what matters in it laid over, as a PNG file."""

from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image

# The longer side; a model's own few pixels would be too small to look at.
_SIDE = 448
_MOST_OPAQUE = 0.75
_RISES = (40, 110, 255)
_FALLS = (255, 60, 30)


def overlay(picture: npt.NDArray[np.uint8], drops: npt.NDArray[np.float64]) -> bytes:
    """The picture in grey, with red where painting it over lowers the answer and blue where raises.

    The greatest change is the most opaque; nothing is laid over where nothing changes.

    Args:
        picture: ``[height, width, channels]``, as the model sees it.
        drops: ``[cells, cells]``, by how much the answer falls without each cell.
    """
    height, width = picture.shape[:2]
    scale = _SIDE / max(height, width)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    small = picture[:, :, 0] if picture.shape[2] == 1 else picture
    base = Image.fromarray(small).convert("L").resize(size, Image.Resampling.NEAREST)
    greatest = float(np.abs(drops).max())
    share = (drops / greatest if greatest > 0 else drops).astype(np.float32)
    wide = np.asarray(Image.fromarray(share).resize(size, Image.Resampling.BILINEAR))
    opacity = np.abs(wide)[:, :, np.newaxis] * _MOST_OPAQUE
    colour = np.where(wide[:, :, np.newaxis] > 0, np.array(_FALLS), np.array(_RISES))
    mixed = np.asarray(base)[:, :, np.newaxis] * (1 - opacity) + colour * opacity
    file = BytesIO()
    Image.fromarray(np.round(mixed).astype(np.uint8)).save(file, format="PNG")
    return file.getvalue()
