"""What a model takes where it takes rows of a table, feature by feature."""

import math
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Finite = Annotated[float, Field(allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1)]


class Part(BaseModel):
    """A piece of the manifest: immutable, and a key it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Range(Part):
    """A closed interval in the feature's own unit; a missing end is open."""

    minimum: Finite | None = None
    maximum: Finite | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if None not in (self.minimum, self.maximum) and self.low > self.high:
            msg = f"minimum {self.minimum} is above maximum {self.maximum}"
            raise ValueError(msg)
        return self

    @property
    def low(self) -> float:
        """The lower end, minus infinity where open."""
        return -math.inf if self.minimum is None else self.minimum

    @property
    def high(self) -> float:
        """The upper end, infinity where open."""
        return math.inf if self.maximum is None else self.maximum


class Statistics(Part):
    """A numeric column of the training part, in its unit: the reference for drift."""

    mean: Finite
    standard_deviation: Annotated[Finite, Field(ge=0)]
    deciles: Annotated[list[Finite], Field(min_length=11, max_length=11)] = Field(
        description="minimum, the nine inner deciles, maximum"
    )
    missing: Annotated[Finite, Field(ge=0, le=1)] = Field(
        default=0.0, description="share of rows without a value"
    )


class _Feature(Part):
    """What every kind of feature says of itself."""

    name: Text
    description: str = ""
    unit: str | None = None
    optional: bool = Field(
        default=False, description="whether the value may be missing (null in JSON, NaN in arrays)"
    )
    missing: list[str] | None = Field(
        default=None,
        description="cells of a table that mean a missing value; null: the usual words",
    )


class _Numeric(_Feature):
    """A measured or counted quantity."""

    affix: Text | None = Field(
        default=None, description="what the training table writes beside each number: $, kg, %"
    )
    decimal: Literal[".", ","] | None = Field(
        default=None, description="the decimal mark of the training table"
    )
    thousands: Literal[",", ".", " ", "'"] | None = Field(
        default=None, description="what separates groups of three digits in the training table"
    )

    allowed: Range | None = Field(default=None, description="values outside it are refused")
    trained: Range | None = Field(default=None, description="what the training part spanned")
    example: Finite
    statistics: Statistics | None = None


class NumberFeature(_Numeric):
    """A real number."""

    type: Literal["number"]


class IntegerFeature(_Numeric):
    """A whole number."""

    type: Literal["integer"]


class BooleanFeature(_Feature):
    """True or false; 1 and 0 in the graph's input."""

    type: Literal["boolean"]
    example: bool


class CategoryFeature(_Feature):
    """One of a list of words; in the graph's input its position in that list.

    An unseen word is refused, or, where ``unseen`` is ``other``, enters the graph as -1.
    """

    type: Literal["category"]
    categories: Annotated[list[str], Field(min_length=1)]
    counts: list[int] | None = Field(default=None, description="rows of the training part, each")
    unseen: Literal["reject", "other"] = "reject"
    example: str

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.categories)) != len(self.categories):
            raise ValueError("categories repeat")
        if self.example not in self.categories:
            msg = f"example {self.example!r} is not among the categories"
            raise ValueError(msg)
        if self.counts is not None and len(self.counts) != len(self.categories):
            raise ValueError("counts and categories differ in length")
        return self


Feature = Annotated[
    NumberFeature | IntegerFeature | BooleanFeature | CategoryFeature, Field(discriminator="type")
]


class TableFormat(Part):
    """How the training table is written, where another table of its kind may not show it."""

    separator: Annotated[str, Field(min_length=1, max_length=1)] | None = Field(
        default=None, description="of cells, where it is none of: comma, semicolon, tab, |"
    )
    quote: Annotated[str, Field(min_length=1, max_length=1)] | None = Field(
        default=None, description="around cells, where it is not the double quote"
    )
    encoding: Text | None = Field(
        default=None, description="where it is not Unicode; rows in UTF-8 are read as well"
    )
    columns: list[str] | None = Field(
        default=None, description="names of all columns, where no line of the table names them"
    )


class FeaturesInput(Part):
    """A row of a table: the graph's input ``features``, float32 ``[batch, columns]``."""

    kind: Literal["features"]
    features: Annotated[list[Feature], Field(min_length=1)]
    table: TableFormat | None = None

    @model_validator(mode="after")
    def _unique_names(self) -> Self:
        names = [feature.name for feature in self.features]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            msg = f"feature names repeat: {', '.join(repeated)}"
            raise ValueError(msg)
        return self


INPUT_NAME = "features"
"""The graph's input tensor."""
