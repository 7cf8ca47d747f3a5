"""Feature contributions of models whose score is a sum over the features."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from service.bundle.features import Finite, Part

Scores = Annotated[list[Finite], Field(min_length=1)]
"""One number, or one for each of more than two labels."""

_MANTISSA_BITS = 52


class NumberTerm(Part):
    """A number adds ``coefficient * (x - reference)``."""

    kind: Literal["number"]
    coefficients: Scores = Field(description="of the score for each unit of the feature")
    reference: Finite = Field(description="the training set's mean, which adds nothing")
    minimum: Finite | None = Field(default=None, description="lesser values count as this one")
    maximum: Finite | None = Field(default=None, description="greater values count as this one")
    missing: Scores | None = Field(default=None, description="what a missing value adds")

    def added(self, x: float) -> Sequence[float]:
        """What the value adds to each score; NaN is a missing one."""
        if math.isnan(x):
            return self.missing or [0.0] * len(self.coefficients)
        if self.minimum is not None:
            x = max(x, self.minimum)
        if self.maximum is not None:
            x = min(x, self.maximum)
        return [coefficient * (x - self.reference) for coefficient in self.coefficients]

    @property
    def groups(self) -> Sequence[Sequence[float]]:
        """Each list that has a number for each score."""
        return [self.coefficients, *([self.missing] if self.missing else [])]


class CategoryTerm(Part):
    """Each category adds its own number; their mean over the training set is zero."""

    kind: Literal["category"]
    words: Annotated[list[Scores], Field(min_length=1)] = Field(
        description="what each category adds, in the feature's order"
    )
    other: Scores = Field(description="what a word outside the list adds")
    missing: Scores | None = Field(default=None, description="what a missing word adds")

    def added(self, x: float) -> Sequence[float]:
        """What the word at this position adds to each score; NaN is missing, -1 another word."""
        if math.isnan(x):
            return self.missing or self.other
        return self.words[int(x)] if x >= 0 else self.other

    @property
    def groups(self) -> Sequence[Sequence[float]]:
        """Each list that has a number for each score."""
        return [*self.words, self.other, *([self.missing] if self.missing else [])]


Term = Annotated[NumberTerm | CategoryTerm, Field(discriminator="kind")]


@dataclass(frozen=True)
class Sum:
    """A score and what it is made of: ``base`` and all ``contributions`` add up to it exactly.

    They are rounded to one power of two, so that adding them in 64 bits never rounds, in whatever
    order.
    """

    base: float
    contributions: Sequence[float]
    score: float


class Additive(Part):
    """The reasons of a linear or logistic model: its score is ``base`` and one term a feature.

    The score is the value itself; its ``log1p``, where that is what was fitted; the log-odds of
    the second of two labels; ``hard-sigmoid``, where that label's probability is
    ``score / 6 + 1/2`` held within 0 and 1; or, of more labels, each label's log-probability less
    the mean of all.
    """

    score: Literal["value", "log1p", "log-odds", "hard-sigmoid", "log-probability"]
    base: Scores = Field(description="the score where no feature adds anything")
    terms: Annotated[list[Term], Field(min_length=1)] = Field(description="one for each feature")

    @model_validator(mode="after")
    def _widths_agree(self) -> Self:
        width = len(self.base)
        for index, term in enumerate(self.terms):
            if any(len(group) != width for group in term.groups):
                msg = f"base has {width} scores, and term {index} has others"
                raise ValueError(msg)
        return self

    def of(self, row: Sequence[float], index: int = 0) -> Sum:
        """What each feature of a row adds to a score.

        Args:
            row: the graph's own numbers, in the features' order.
            index: of the score; the label's where there are more than two.
        """
        added = [term.added(x)[index] for term, x in zip(self.terms, row, strict=True)]
        return exact_sum(self.base[index], added)


def exact_sum(base: float, added: Sequence[float]) -> Sum:
    """The parts on one grid of powers of two, so that their sum in 64 bits is exact."""
    most = abs(base) + math.fsum(map(abs, added))
    step = math.ldexp(1.0, math.frexp(most)[1] - _MANTISSA_BITS)
    base, *added = [round(part / step) * step for part in (base, *added)]
    return Sum(base, added, math.fsum([base, *added]))
