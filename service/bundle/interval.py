"""How far the truth may lie from a value: prediction intervals that were measured, not assumed."""

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from service.bundle.features import Finite, Part

Share = Annotated[Finite, Field(gt=0, lt=1)]
Margin = Annotated[Finite, Field(ge=0)]


class IntervalLevel(Part):
    """The margins that hold so much of the truth."""

    level: Share = Field(description="share of the truths that lie within the interval")
    margins: Annotated[list[Margin], Field(min_length=1)] = Field(
        description="one for each bin of values"
    )
    coverage: Annotated[Finite, Field(ge=0, le=1)] | None = Field(
        default=None, description="share of the test part's truths that did lie within"
    )
    mean_width: Margin | None = Field(
        default=None, description="from end to end, on the test part, in the output's unit"
    )


class Interval(Part):
    """Split conformal prediction (Vovk and others, "Algorithmic Learning in a Random World", 2005).

    A margin is the quantile, corrected for the number of rows, of how far rows that were not
    fitted on lay from their values: with the scale ``value`` the interval is ``value - margin`` to
    ``value + margin``; with ``log1p``, for which errors grow with the value, it is
    ``(1 + value) / exp(margin) - 1`` to ``(1 + value) * exp(margin) - 1``.

    Each bin of values has margins of its own, so that the level holds for cheap and dear alike
    (Mondrian conformal prediction).
    """

    scale: Literal["value", "log1p"]
    source: Literal["validation", "cross-validation"] = Field(
        description="the rows that the margins are from: the validation part, or each fold of the "
        "rows outside the test part, answered by a model fitted on the others"
    )
    rows: Annotated[int, Field(ge=1)]
    edges: list[Finite] = Field(
        description="the values that part the bins, ascending; an edge belongs to the bin above"
    )
    levels: Annotated[list[IntervalLevel], Field(min_length=1)] = Field(description="ascending")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if any(low >= high for low, high in pairwise(self.edges)):
            raise ValueError("edges do not ascend")
        bins = len(self.edges) + 1
        if any(len(one.margins) != bins for one in self.levels):
            msg = f"{len(self.edges)} edges make {bins} bins, and a level has other margins"
            raise ValueError(msg)
        for low, high in pairwise(self.levels):
            if low.level >= high.level:
                raise ValueError("levels do not ascend")
            if any(less > more for less, more in zip(low.margins, high.margins, strict=True)):
                msg = f"a margin of level {high.level} is below that of level {low.level}"
                raise ValueError(msg)
        return self
