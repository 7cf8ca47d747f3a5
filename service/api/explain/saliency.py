"""Explain the predictions of image models: a grid of numbers, or an overlay on the image."""

from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.api.body import list_items
from service.api.explain.parameters import USUAL_CELLS
from service.api.explain.subject import Subject
from service.bundle.manifest import ImageInput, Input
from service.engine.model import ServedModel
from service.engine.tensors import Array
from service.errors import InvalidRequest
from service.explain.occlusion import predict_occluded

Reason = dict[str, object]

PNG = "image/png"

# The longer side of an overlay in pixels; a model's own few pixels would be too small to see.
_SIDE = 448
_MOST_OPAQUE = 0.75
_RISES = (40, 110, 255)
_FALLS = (255, 60, 30)

_OCCLUSION = (
    "Each number of drops is how much the explained number falls when a patch around that cell of "
    "the image is covered with the image's background; where it is negative, the number rises. The "
    "cells are in rows, from the top left."
)


async def explain_images(
    model: ServedModel, images: Array, answers: Array, subject: Subject, cells: int | None
) -> tuple[list[Reason], Reason]:
    """The explanation of each image, and what all of them have in common.

    Args:
        model: that made the predictions.
        images: uint8 ``[images, height, width, channels]``.
        answers: ``[images, width]``, the outputs of the graph.
        subject: what is explained.
        cells: the number of grid cells along each side; by default it depends on the image.

    Raises:
        InvalidRequest: the image has fewer pixels along a side than the grid has cells.
    """
    least = min(images.shape[1:3])
    if cells is not None and cells > least:
        raise InvalidRequest(
            f"Parameter 'resolution' must be at most {least} here, the image's shorter side, "
            f"got {cells}."
        )
    scores = await predict_occluded(model, images, cells or min(USUAL_CELLS, least))
    found: list[Reason] = []
    for row, grid in enumerate(scores):
        whole = float(subject.numbers(row, answers[row : row + 1])[0])
        drops = [(whole - subject.numbers(row, line)).tolist() for line in grid]
        found.append({"of": subject.of(row), "score": whole, "drops": drops})
    return found, {"method": "occlusion", "meaning": _OCCLUSION}


def wants_png(accept: str) -> bool:
    """Whether an Accept header requests an overlay rather than numbers."""
    offers = [offer.partition(";")[0].strip().lower() for offer in list_items(accept)]
    return PNG in offers and "application/json" not in offers


def require_one_image(taken: Input, rows: int) -> None:
    """Reject a request for an overlay on anything but one image.

    Raises:
        InvalidRequest: the input is a table, or there are several images.
    """
    if not isinstance(taken, ImageInput):
        raise InvalidRequest(
            "Accept requests an image, and the explanations of a table's rows are numbers; remove "
            f"{PNG} from it."
        )
    if rows != 1:
        raise InvalidRequest(
            f"The response is one image, and {rows} were sent; send one, or request JSON."
        )


def draw_overlay(image: npt.NDArray[np.uint8], drops: npt.NDArray[np.float64]) -> bytes:
    """The image in grey under a map of the drops, as a PNG file.

    Cells that lower the score when they are covered are red, and cells that raise it are blue.
    The greatest change is the most opaque; cells without a change are transparent.

    Args:
        image: ``[height, width, channels]``, as the model sees it.
        drops: ``[cells, cells]``, by how much the score falls without each cell.
    """
    height, width = image.shape[:2]
    scale = _SIDE / max(height, width)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    small = image[:, :, 0] if image.shape[2] == 1 else image
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
