"""Explain the predictions of image models: a grid of numbers, or an overlay on the image."""

from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.api.explain.target import DEFAULT_CELLS, Explanation, Target
from service.bundle.manifest import ImageInput, Input
from service.engine.model import ServedModel
from service.engine.tensors import Array
from service.errors import InvalidRequest
from service.explain.occlusion import predict_occluded

PNG = "image/png"

# Pixels of the longer side of an overlay; the few pixels of a model's input are hard to see.
_OVERLAY_SIDE = 448
_MAX_OPACITY = 0.75
_BLUE = (40, 110, 255)
_RED = (255, 60, 30)

_OCCLUSION = (
    "Each number of drops is how much the explained number falls when a patch around that cell of "
    "the image is covered with the image's background; where it is negative, the number rises. The "
    "cells are in rows, from the top left."
)


async def explain_images(
    model: ServedModel, images: Array, predictions: Array, target: Target, cells: int | None
) -> tuple[list[Explanation], Explanation]:
    """Explain each image; also return the fields that all images share.

    Args:
        model: that made the predictions.
        images: uint8 ``[images, height, width, channels]``.
        predictions: ``[images, width]``, the outputs of the graph.
        target: the explained quantity.
        cells: the number of grid cells along each side; by default it depends on the image.

    Raises:
        InvalidRequest: the image has fewer pixels along a side than the grid has cells.
    """
    shorter_side = min(images.shape[1:3])
    if cells is not None and cells > shorter_side:
        raise InvalidRequest(
            f"Parameter 'resolution' must be at most {shorter_side} here, the image's shorter "
            f"side, got {cells}."
        )
    scores = await predict_occluded(model, images, cells or min(DEFAULT_CELLS, shorter_side))
    explanations: list[Explanation] = []
    for row, grid in enumerate(scores):
        score = float(target.select(row, predictions[row : row + 1])[0])
        drops = [(score - target.select(row, line)).tolist() for line in grid]
        explanations.append({"of": target.description(row), "score": score, "drops": drops})
    return explanations, {"method": "occlusion", "meaning": _OCCLUSION}


def require_one_image(model_input: Input, rows: int) -> None:
    """Raise `InvalidRequest` if an overlay is requested for anything but one image."""
    if not isinstance(model_input, ImageInput):
        raise InvalidRequest(
            "Accept requests an image, and the explanations of a table's rows are numbers; remove "
            f"{PNG} from it."
        )
    if rows != 1:
        raise InvalidRequest(
            f"The response is one image, and {rows} were sent; send one, or request JSON."
        )


def draw_overlay(image: npt.NDArray[np.uint8], drops: npt.NDArray[np.float64]) -> bytes:
    """Draw a map of the drops over the image in grey, as a PNG file.

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
    colour = np.where(wide[:, :, np.newaxis] > 0, np.array(_RED), np.array(_BLUE))
    mixed = np.asarray(base)[:, :, np.newaxis] * (1 - opacity) + colour * opacity
    file = BytesIO()
    Image.fromarray(np.round(mixed).astype(np.uint8)).save(file, format="PNG")
    return file.getvalue()
