"""What each place of a picture does for the answer."""

from service.api.explain.parameters import USUAL_CELLS
from service.api.explain.subject import Subject
from service.engine.datatypes import Array
from service.engine.model import ServedModel
from service.engine.occlusion import occluded
from service.errors import InvalidRequest

Reason = dict[str, object]

_OCCLUSION = (
    "Each number of drops is how much the explained number falls when a patch around that cell of "
    "the picture is painted with the picture's background; below nought, it rises. The cells are "
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
    asked = await occluded(model, pictures, cells or min(USUAL_CELLS, least))
    found: list[Reason] = []
    for row, grid in enumerate(asked):
        whole = float(subject.numbers(row, answers[row : row + 1])[0])
        drops = [(whole - subject.numbers(row, line)).tolist() for line in grid]
        found.append({"of": subject.of(row), "score": whole, "drops": drops})
    return found, {"method": "occlusion", "meaning": _OCCLUSION}
