"""Feature contributions of models whose score is a sum over the features."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from service.bundle.features import Finite, StrictModel

Scores = Annotated[list[Finite], Field(min_length=1)]
"""One number, or one for each of more than two class labels."""

_MANTISSA_BITS = 52


class NumberTerm(StrictModel):
    """A number adds ``coefficient * (x - reference)``."""

    kind: Literal["number"]
    coefficients: Scores = Field(description="of the score for each unit of the feature")
    reference: Finite = Field(
        description="the mean of the training set, whose contribution is zero"
    )
    minimum: Finite | None = Field(default=None, description="lower values count as this one")
    maximum: Finite | None = Field(default=None, description="higher values count as this one")
    missing: Scores | None = Field(default=None, description="the contribution of a missing value")

    def contributions(self, x: float) -> Sequence[float]:
        """Return what the value adds to each score; NaN is a missing value."""
        if math.isnan(x):
            return self.missing or [0.0] * len(self.coefficients)
        if self.minimum is not None:
            x = max(x, self.minimum)
        if self.maximum is not None:
            x = min(x, self.maximum)
        return [coefficient * (x - self.reference) for coefficient in self.coefficients]

    @property
    def groups(self) -> Sequence[Sequence[float]]:
        """All lists that have one number for each score."""
        return [self.coefficients, *([self.missing] if self.missing else [])]


class CategoryTerm(StrictModel):
    """Each category adds its own number; their mean over the training set is zero."""

    kind: Literal["category"]
    words: Annotated[list[Scores], Field(min_length=1)] = Field(
        description="the contribution of each category, in the feature's order"
    )
    other: Scores = Field(description="the contribution of a word outside the list")
    missing: Scores | None = Field(default=None, description="the contribution of a missing word")

    def contributions(self, x: float) -> Sequence[float]:
        """Return what the category at a position adds; NaN is missing, -1 is another word."""
        if math.isnan(x):
            return self.missing or self.other
        return self.words[int(x)] if x >= 0 else self.other

    @property
    def groups(self) -> Sequence[Sequence[float]]:
        """All lists that have one number for each score."""
        return [*self.words, self.other, *([self.missing] if self.missing else [])]


Term = Annotated[NumberTerm | CategoryTerm, Field(discriminator="kind")]


@dataclass(frozen=True)
class ScoreSum:
    """A score, which is exactly the sum of ``base`` and all ``contributions``.

    All are multiples of one power of two, so adding them as 64-bit numbers never rounds, in any
    order.
    """

    base: float
    contributions: Sequence[float]
    score: float


class Additive(StrictModel):
    """The explanation of a linear or logistic model: its score is ``base`` plus a term per feature.

    The score is the value itself; its ``log1p``, if the model was fitted to that; the log-odds of
    the second of two class labels; ``hard-sigmoid``, if the probability of that label is
    ``score / 6 + 1/2`` clipped to 0 and 1; or, with more labels, the log-probability of each label
    minus the mean of all.
    """

    score: Literal["value", "log1p", "log-odds", "hard-sigmoid", "log-probability"]
    base: Scores = Field(description="the score without contributions")
    terms: Annotated[list[Term], Field(min_length=1)] = Field(description="one for each feature")

    @model_validator(mode="after")
    def _widths_agree(self) -> Self:
        width = len(self.base)
        for index, term in enumerate(self.terms):
            if any(len(group) != width for group in term.groups):
                msg = f"base has {width} scores, and term {index} has others"
                raise ValueError(msg)
        return self

    def explain(self, row: Sequence[float], index: int = 0) -> ScoreSum:
        """Return the contribution of each feature of a row to a score.

        Args:
            row: the numbers of the graph's input, in the order of the features.
            index: of the score; that of the class label if there are more than two.
        """
        terms = zip(self.terms, row, strict=True)
        return sum_exactly(self.base[index], [term.contributions(x)[index] for term, x in terms])


def sum_exactly(base: float, contributions: Sequence[float]) -> ScoreSum:
    """Round all parts to multiples of one power of two, so that their sum is exact."""
    bound = abs(base) + math.fsum(map(abs, contributions))
    step = math.ldexp(1.0, math.frexp(bound)[1] - _MANTISSA_BITS)
    base, *rounded = [round(part / step) * step for part in (base, *contributions)]
    return ScoreSum(base, rounded, math.fsum([base, *rounded]))
