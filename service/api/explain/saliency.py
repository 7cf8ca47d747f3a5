"""What each place of a picture does for the answer."""

import numpy as np

from service.api.body import list_items
from service.api.explain.overlays import overlay
from service.api.explain.parameters import USUAL_CELLS
from service.api.explain.subject import Subject
from service.bundle.inputs import ImageInput, Input
from service.engine.dtypes import Array
from service.engine.model import ServedModel
from service.errors import InvalidRequest
from service.explain.occlusion import occluded

Reason = dict[str, object]

PNG = "image/png"

_OCCLUSION = (
    "Each number of drops is how much the explained number falls when a patch around that cell of "
    "the picture is painted with the picture's background; below zero, it rises. The cells are "
    "in rows, from the top left."
)


async def explain_pictures(
    model: ServedModel, pictures: Array, answers: Array, subject: Subject, cells: int | None
) -> tuple[list[Reason], Reason]:
    """The reason of each picture, and what holds for all of them.

    Args:
        model: that answered.
        pictures: uint8 ``[pictures, height, width, channels]``.
        answers: ``[pictures, width]``, what the graph answered.
        subject: what is explained.
        cells: of the grid along either side; None leaves it to the picture.

    Raises:
        InvalidRequest: the picture has fewer pixels than the grid cells.
    """
    least = min(pictures.shape[1:3])
    if cells is not None and cells > least:
        raise InvalidRequest(
            f"Parameter 'resolution' must be at most {least} here, the picture's shorter side, "
            f"got {cells}."
        )
    grids = await occluded(model, pictures, cells or min(USUAL_CELLS, least))
    found: list[Reason] = []
    for row, grid in enumerate(grids):
        whole = float(subject.numbers(row, answers[row : row + 1])[0])
        drops = [(whole - subject.numbers(row, line)).tolist() for line in grid]
        found.append({"of": subject.of(row), "score": whole, "drops": drops})
    return found, {"method": "occlusion", "meaning": _OCCLUSION}


def wants_png(accept: str) -> bool:
    """Whether an Accept header asks for a picture of the reasons rather than for their numbers."""
    offers = [offer.partition(";")[0].strip().lower() for offer in list_items(accept)]
    return PNG in offers and "application/json" not in offers


def require_one_picture(taken: Input, rows: int) -> None:
    """Refuse to draw what is no picture, or several.

    Raises:
        InvalidRequest: with what to send instead.
    """
    if not isinstance(taken, ImageInput):
        raise InvalidRequest(
            "Accept asks for a picture, and the reasons of a table's rows are numbers; leave "
            f"{PNG} out of it."
        )
    if rows != 1:
        raise InvalidRequest(
            f"An answer is one picture, and {rows} were sent; send one, or ask for JSON."
        )


def overlaid(picture: Array, reason: Reason) -> bytes:
    """The picture with its reason laid over, as a PNG file.

    Args:
        picture: uint8 ``[height, width, channels]``, as the model sees it.
        reason: of `explain_pictures`.
    """
    return overlay(picture, np.array(reason["drops"]))
