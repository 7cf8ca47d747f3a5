"""The manifest of a model whose input is a table: features, their types and their ranges."""

import math
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from service.timetext import ISO, DatetimeFormat, describe_format, format_datetime, parse_datetime

UNSEEN = -1.0
"""In the graph's input, a category that is not one of the feature's."""
WHOLE_MAX = 2**53 - 1
"""Larger whole numbers are not exact in every JSON parser (RFC 8259)."""

Datatype = Literal["FP32", "FP64"]
"""The types of a table in the graph's input, as the Open Inference Protocol names them."""
Finite = Annotated[float, Field(allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1)]


class StrictModel(BaseModel):
    """An immutable part of a document; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Range(StrictModel):
    """A closed interval in the unit of the feature; a missing end is open."""

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
        """The lower end; minus infinity if open."""
        return -math.inf if self.minimum is None else self.minimum

    @property
    def high(self) -> float:
        """The upper end; infinity if open."""
        return math.inf if self.maximum is None else self.maximum


class FeatureStatistics(StrictModel):
    """Statistics of a numeric column of the training set, in its unit: the reference for drift."""

    mean: Finite
    standard_deviation: Annotated[Finite, Field(ge=0)]
    deciles: Annotated[list[Finite], Field(min_length=11, max_length=11)] = Field(
        description="minimum, the nine inner deciles, maximum"
    )
    missing: Annotated[Finite, Field(ge=0, le=1)] = Field(
        default=0.0, description="share of rows without a value"
    )


class _Feature(StrictModel):
    """The fields of all types of features."""

    name: Text
    description: str = ""
    unit: str | None = None
    optional: bool = Field(
        default=False, description="whether the value may be missing (null in JSON, NaN in arrays)"
    )
    complete: bool = Field(
        default=False,
        description="whether no value is missing in the training set; a row without one gets a "
        "warning if the feature is optional",
    )
    missing: list[str] | None = Field(
        default=None,
        description="cells of a table that mean a missing value; null: the usual words",
    )


def _without_fraction(number: float) -> float:
    return int(number) if number.is_integer() else number


class NumericFeature(_Feature):
    """The fields of numeric features."""

    affix: Text | None = Field(
        default=None, description="text before or after each number in the training table: $, kg, %"
    )
    decimal: Literal[".", ","] | None = Field(
        default=None, description="the decimal mark of the training table"
    )
    thousands: Literal[",", ".", " ", "'"] | None = Field(
        default=None, description="what separates groups of three digits in the training table"
    )

    allowed: Range | None = Field(default=None, description="values outside it are rejected")
    trained: Range | None = Field(default=None, description="the range of the training set")
    example: Finite
    statistics: FeatureStatistics | None = None


class NumberFeature(NumericFeature):
    """A real number."""

    type: Literal["number"]


class IntegerFeature(NumericFeature):
    """A whole number."""

    type: Literal["integer"]
    # Messages and documents show it as they describe the values: without a fraction.
    example: Annotated[Finite, AfterValidator(_without_fraction)]


class BooleanFeature(_Feature):
    """True or false; 1 and 0 in the graph's input."""

    type: Literal["boolean"]
    example: bool


class CategoryFeature(_Feature):
    """One of a list of words, encoded as its position in the list in the graph's input.

    Other words are rejected or, if ``unseen`` is ``other``, encoded as -1.
    """

    type: Literal["category"]
    categories: Annotated[list[str], Field(min_length=1)]
    counts: list[int] | None = Field(
        default=None, description="rows of the training set, by category"
    )
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


class DatetimeFeature(_Feature):
    """A date, with or without a time, or a time of day alone.

    In the graph's input it is the number of days since 1970-01-01, or a fraction of a day.
    """

    type: Literal["datetime"]
    format: DatetimeFormat = Field(
        default=ISO,
        description="of the training table; a time may follow a date, and ISO 8601 is read too",
    )
    trained: Range | None = Field(
        default=None, description="the range of the training set, in days since 1970-01-01"
    )
    example: str
    statistics: FeatureStatistics | None = Field(
        default=None, description="in days since 1970-01-01"
    )

    @model_validator(mode="after")
    def _valid_example(self) -> Self:
        if math.isnan(self.example_days):
            msg = f"example {self.example!r} is not {describe_format(self.format)}"
            raise ValueError(msg)
        return self

    @property
    def example_days(self) -> float:
        """The number of the example in the graph's input."""
        number = parse_datetime(self.example, self.format)
        return math.nan if number is None else number


class TextFeature(_Feature):
    """Free text, such as a message: a string in the graph's input ``text``.

    `service.freetext` normalizes it; a missing value is the empty string.
    """

    type: Literal["text"]
    example: str


NumericalFeature = (
    NumberFeature | IntegerFeature | BooleanFeature | CategoryFeature | DatetimeFeature
)
"""A feature that is a number in the graph's input."""
Feature = Annotated[NumericalFeature | TextFeature, Field(discriminator="type")]


class TableFormat(StrictModel):
    """The format of the training table, where it cannot be detected in another table like it."""

    separator: Annotated[str, Field(min_length=1, max_length=1)] | None = Field(
        default=None, description="between cells, if it is none of: comma, semicolon, tab, |"
    )
    quote: Annotated[str, Field(min_length=1, max_length=1)] | None = Field(
        default=None, description="around cells, if it is not the double quote"
    )
    escape: Literal["\\"] | None = Field(
        default=None, description="before a quote inside a cell, if that is not doubled"
    )
    encoding: Text | None = Field(
        default=None, description="if it is not Unicode; rows in UTF-8 are read as well"
    )
    columns: list[str] | None = Field(
        default=None, description="names of all columns, if the table has no header"
    )
    repeated: list[str] | None = Field(
        default=None,
        description="names that several columns have; those after the first are name_2 and so on",
    )


class FeaturesInput(StrictModel):
    """Rows of a table: the graph's input ``features``, ``[batch, columns]``.

    Free text is in another input, ``text``, ``[batch, columns of text]``. A graph has only the
    inputs that have columns.
    """

    kind: Literal["features"]
    datatype: Datatype = Field(
        default="FP32",
        description="of the graph's input; FP64 if the model needs more than the 24 bits that "
        "float32 keeps of a number",
    )
    features: Annotated[list[Feature], Field(min_length=1)]
    table: TableFormat | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [feature.name for feature in self.features]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            msg = f"feature names repeat: {', '.join(repeated)}"
            raise ValueError(msg)
        dates = [feature.name for feature in self.features if feature.type == "datetime"]
        if dates and self.datatype != "FP64":
            msg = f"datatype must be FP64, since float32 has no exact times: {', '.join(dates)}"
            raise ValueError(msg)
        return self

    @property
    def numerical(self) -> list[NumericalFeature]:
        """The columns of the graph's input ``features``."""
        return [feature for feature in self.features if not isinstance(feature, TextFeature)]

    @property
    def texts(self) -> list[TextFeature]:
        """The columns of the graph's input ``text``."""
        return [feature for feature in self.features if isinstance(feature, TextFeature)]


INPUT_NAME = "features"
"""The name of the graph's input tensor."""
TEXT_NAME = "text"
"""The name of the graph's input of free text."""


def client_value(feature: NumericalFeature, number: float) -> object:
    """Return the value that a client sends for a number of the graph's input.

    A missing value is None, and a category that is not one of the feature's "(other category)".
    """
    if math.isnan(number):
        return None
    if isinstance(feature, DatetimeFeature):
        return format_datetime(number, feature.format)
    if isinstance(feature, CategoryFeature):
        return "(other category)" if number == UNSEEN else feature.categories[int(number)]
    return bool(number) if isinstance(feature, BooleanFeature) else number
