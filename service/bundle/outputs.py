"""What a model answers: a quantity in its unit, or one of several labels."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from service.bundle.features import Finite, Part, Text
from service.bundle.interval import Interval


class ValueOutput(Part):
    """A number in raw units: the graph's output ``value``, float32 ``[batch, 1]``."""

    kind: Literal["value"]
    name: Text
    description: str = ""
    unit: str | None = None
    interval: Interval | None = None


class Calibration(Part):
    """How the probabilities were made to say how often they are right, inside the graph.

    The scores are divided by ``temperature``, chosen on the validation part (Guo and others, "On
    Calibration of Modern Neural Networks", 2017). The errors are expected calibration errors on
    the test part.
    """

    temperature: Annotated[Finite, Field(gt=0)]
    error_before: Annotated[Finite, Field(ge=0, le=1)]
    error_after: Annotated[Finite, Field(ge=0, le=1)]


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
    unsure_below: Annotated[Finite, Field(ge=0, le=1)] | None = Field(
        default=None,
        description="an answer of a lesser probability is unsure; chosen on the validation part",
    )
    calibration: Calibration | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels repeat")
        if self.threshold is not None and len(self.labels) != 2:  # noqa: PLR2004 - two is binary
            raise ValueError("a threshold needs exactly two labels")
        return self


Output = Annotated[ValueOutput | ClassesOutput, Field(discriminator="kind")]


def task_of(output: Output) -> Literal["regression", "binary", "multiclass"]:
    """What kind of answer this is."""
    if isinstance(output, ValueOutput):
        return "regression"
    return "binary" if len(output.labels) == 2 else "multiclass"  # noqa: PLR2004 - two is binary


def output_name(output: Output) -> str:
    """The graph's output tensor for this kind of answer."""
    names = {"regression": "value", "binary": "probability", "multiclass": "probabilities"}
    return names[task_of(output)]


def output_width(output: Output) -> int:
    """Columns of the graph's output tensor."""
    if isinstance(output, ClassesOutput) and len(output.labels) > 2:  # noqa: PLR2004 - as above
        return len(output.labels)
    return 1
