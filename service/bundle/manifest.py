"""The manifest: what a model is, what it takes, what it answers and where it came from.

The schema of these classes is published as ``models/manifest.schema.json``.
Optional fields may be added within a format version; anything else raises `FORMAT_VERSION`.
"""

import math
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, model_validator

FORMAT_VERSION = 1
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$"

Finite = Annotated[float, Field(allow_inf_nan=False)]
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
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


class _Numeric(_Feature):
    """A measured or counted quantity."""

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
    unseen: Literal["refuse", "other"] = "refuse"
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


class FeaturesInput(Part):
    """A row of a table: the graph's input ``features``, float32 ``[batch, columns]``."""

    kind: Literal["features"]
    features: Annotated[list[Feature], Field(min_length=1)]

    @model_validator(mode="after")
    def _unique_names(self) -> Self:
        names = [feature.name for feature in self.features]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            msg = f"feature names repeat: {', '.join(repeated)}"
            raise ValueError(msg)
        return self


class ValueOutput(Part):
    """A number in raw units: the graph's output ``value``, float32 ``[batch, 1]``."""

    kind: Literal["value"]
    name: Text
    description: str = ""
    unit: str | None = None


class ClassesOutput(Part):
    """One of several labels.

    Two labels: the graph's output ``probability``, float32 ``[batch, 1]``, is that of the second.
    More: ``probabilities``, float32 ``[batch, labels]``, each row summing to one.
    """

    kind: Literal["classes"]
    name: Text
    description: str = ""
    labels: Annotated[list[Text], Field(min_length=2)]
    threshold: Annotated[Finite, Field(ge=0, le=1)] | None = Field(
        default=None,
        description="two labels: the second is answered from this probability on (default 0.5)",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels repeat")
        if self.threshold is not None and len(self.labels) != 2:  # noqa: PLR2004 - two is binary
            raise ValueError("a threshold needs exactly two labels")
        return self


Output = Annotated[ValueOutput | ClassesOutput, Field(discriminator="kind")]


class ColumnScale(Part):
    """One column's share of the scaler: ``(x - offset) / scale``, offset and scale in its unit."""

    offset: Finite
    scale: Finite


class Scaler(Part):
    """The fitted scaler in plain numbers, for people; the graph holds the one that is applied."""

    kind: Text
    columns: dict[str, ColumnScale]


class Baseline(Part):
    """A naive predictor's metrics on the same rows."""

    name: Text
    metrics: dict[str, Finite]


class Evaluation(Part):
    """Metrics on rows the model never saw.

    ``part`` is ``test`` for rows set aside before anything was fitted, or ``cross-validation``
    where there are too few rows to set any aside: ``folds`` models of the same recipe were each
    measured on the fold they had not seen.
    """

    part: Literal["test", "cross-validation"]
    folds: Annotated[int, Field(ge=2)] | None = None
    rows: Annotated[int, Field(ge=1)]
    metrics: dict[str, Finite]
    baseline: Baseline


class DataOrigin(Part):
    """Where the training table came from, exactly."""

    source: Text
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    rows: Annotated[int, Field(ge=1)]


class SplitSizes(Part):
    """Rows in each part."""

    training: Annotated[int, Field(ge=1)]
    validation: Annotated[int, Field(ge=0)]
    test: Annotated[int, Field(ge=0)]


class Provenance(Part):
    """How to make this model again."""

    recipe: dict[str, JsonValue]
    seed: int
    data: DataOrigin
    split: SplitSizes
    versions: dict[str, str] = Field(description="libraries that took part, with their versions")
    commit: str | None = Field(default=None, description="of the training code, where known")
    created: AwareDatetime
    duration_seconds: Annotated[Finite, Field(ge=0)]


class FileDigest(Part):
    """What a file of the bundle must be, to the bit."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    bytes: Annotated[int, Field(ge=0)]


class Manifest(Part):
    """The bundle's own account of itself; the last file written into it."""

    format_version: Literal[1]
    name: Name
    title: Text
    description: str = ""
    task: Literal["regression", "binary", "multiclass"]
    input: FeaturesInput
    output: Output
    scaler: Scaler | None = None
    evaluation: Evaluation | None = None
    provenance: Provenance | None = None
    files: dict[str, FileDigest]

    @model_validator(mode="after")
    def _task_matches_output(self) -> Self:
        if self.task != _task_of(self.output):
            msg = f"task {self.task!r} does not fit the output, which is {_task_of(self.output)}"
            raise ValueError(msg)
        return self


def _task_of(output: ValueOutput | ClassesOutput) -> str:
    if isinstance(output, ValueOutput):
        return "regression"
    return "binary" if len(output.labels) == 2 else "multiclass"  # noqa: PLR2004 - two is binary


INPUT_NAME = "features"


def output_name(output: ValueOutput | ClassesOutput) -> str:
    """The graph's output tensor for this kind of answer."""
    names = {"regression": "value", "binary": "probability", "multiclass": "probabilities"}
    return names[_task_of(output)]


def output_width(output: ValueOutput | ClassesOutput) -> int:
    """Columns of the graph's output tensor."""
    if isinstance(output, ClassesOutput) and len(output.labels) > 2:  # noqa: PLR2004 - as above
        return len(output.labels)
    return 1
