"""Explain the predictions of image models: a grid of numbers, or an overlay on the image."""

from service.api.explain.target import DEFAULT_CELLS, Explanation, Target
from service.bundle.manifest import ImageInput, Input
from service.engine.model import ServedModel
from service.engine.tensors import Array
from service.errors import InvalidRequest
from service.explain import predict_occluded

PNG = "image/png"

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
