"""How a model was made: its recipe, data and the models it was compared with."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, JsonValue

from service.bundle.features import Finite, StrictModel, Text


class DataOrigin(StrictModel):
    """The source of the training data."""

    source: Text
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    rows: Annotated[int, Field(ge=1)]


class SplitSizes(StrictModel):
    """The number of rows of each set."""

    training: Annotated[int, Field(ge=1)]
    validation: Annotated[int, Field(ge=0)]
    test: Annotated[int, Field(ge=0)]


class Candidate(StrictModel):
    """A model family that was compared with others on the same folds."""

    family: Text
    metric: Literal["rmse", "log_loss"]
    mean: Finite = Field(description="over the folds")
    deviation: Annotated[Finite, Field(ge=0)] = Field(description="standard deviation of the folds")
    folds: Annotated[int, Field(ge=1)]
    seconds: Annotated[Finite, Field(ge=0)] = Field(description="to fit and measure all folds")
    bytes: Annotated[int, Field(ge=1)] | None = Field(default=None, description="of the graph")
    microseconds: Annotated[Finite, Field(ge=0)] | None = Field(
        default=None,
        description="to predict one row, on the machine of the training",
    )
    weights: dict[str, Finite] | None = Field(
        default=None, description="of an ensemble: the sum of the weights of each family"
    )


class Provenance(StrictModel):
    """How to train the same model again."""

    recipe: dict[str, JsonValue]
    seed: int
    data: DataOrigin
    split: SplitSizes
    versions: dict[str, str] = Field(description="versions of the libraries")
    commit: str | None = Field(default=None, description="of the training code, if known")
    created: AwareDatetime
    duration_seconds: Annotated[Finite, Field(ge=0)]
    candidates: list[Candidate] | None = Field(
        default=None, description="families that were compared before one was chosen, best first"
    )
