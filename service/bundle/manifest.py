"""The manifest: what a model is, what it takes, what it answers and where it came from.

The schema of these classes is published as ``models/manifest.schema.json``.
Optional fields may be added within a format version; anything else raises `FORMAT_VERSION`.
"""

from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, Field, JsonValue, model_validator

from service.bundle.explanations import Additive, CategoryTerm
from service.bundle.features import CategoryFeature, FeaturesInput, Finite, Part, Text
from service.bundle.inputs import Input
from service.bundle.outputs import Output, output_width, task_of

FORMAT_VERSION = 1
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$"

_SCORES = {
    "regression": ("value", "log1p"),
    "binary": ("log-odds", "hard-sigmoid"),
    "multiclass": ("log-probability",),
}

Name = Annotated[str, Field(pattern=NAME_PATTERN)]


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
    input: Input
    output: Output
    scaler: Scaler | None = None
    reasons: Additive | None = Field(
        default=None, description="of a linear or logistic model: what each feature adds"
    )
    evaluation: Evaluation | None = None
    provenance: Provenance | None = None
    files: dict[str, FileDigest]

    @model_validator(mode="after")
    def _task_matches_output(self) -> Self:
        if self.task != task_of(self.output):
            msg = f"task {self.task!r} does not fit the output, which is {task_of(self.output)}"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _reasons_fit(self) -> Self:
        if self.reasons is None:
            return self
        features = self.input.features if isinstance(self.input, FeaturesInput) else []
        words = [
            len(feature.categories) if isinstance(feature, CategoryFeature) else None
            for feature in features
        ]
        terms = self.reasons.terms
        if [len(t.words) if isinstance(t, CategoryTerm) else None for t in terms] != words:
            raise ValueError("reasons: the terms are not those of the features")
        if self.reasons.score not in _SCORES[self.task]:
            msg = f"reasons: a {self.task} model has no score {self.reasons.score!r}"
            raise ValueError(msg)
        if len(self.reasons.base) != output_width(self.output):
            raise ValueError("reasons: there must be as many scores as the graph has outputs")
        return self
