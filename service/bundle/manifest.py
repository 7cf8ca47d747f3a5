"""The JSON documents of a bundle: its manifest and its examples.

The JSON Schema of these classes is published as ``models/manifest.schema.json``.
Adding optional fields keeps `FORMAT_VERSION`; all other changes increase it.
"""

from functools import cached_property
from itertools import pairwise
from math import prod
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from service.bundle.explanations import Additive, CategoryTerm
from service.bundle.features import (
    INPUT_NAME,
    TEXT_NAME,
    CategoryFeature,
    FeaturesInput,
    Finite,
    StrictModel,
    Text,
)
from service.bundle.provenance import Provenance
from service.spelling import format_count

Share = Annotated[Finite, Field(gt=0, lt=1)]
Margin = Annotated[Finite, Field(ge=0)]

IMAGE_NAME = "image"
"""The name of the graph's input tensor for images."""
MAX_SIDE = 1024
"""The largest height and width of a model's images, in pixels."""
Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]
FORMAT_VERSION = 1
BINARY = 2
"""The number of labels of a binary classifier."""
DEFAULT_THRESHOLD = 0.5
"""Of two labels, the second is predicted from this probability on, unless a model has its own."""
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$"
_SCORES = {
    "regression": ("value", "log1p"),
    "binary": ("log-odds", "hard-sigmoid"),
    "multiclass": ("log-probability",),
}
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
_BYTES = set(map(float, range(256)))


class IntervalLevel(StrictModel):
    """The margins of an interval that contains a share of the true values."""

    level: Share = Field(description="share of the true values within the interval")
    margins: Annotated[list[Margin], Field(min_length=1)] = Field(
        description="one for each bin of values"
    )
    coverage: Annotated[Finite, Field(ge=0, le=1)] | None = Field(
        default=None, description="share of the test set's true values within the interval"
    )
    mean_width: Margin | None = Field(
        default=None, description="mean width on the test set, in the output's unit"
    )


class Interval(StrictModel):
    """Split conformal prediction (Vovk and others, "Algorithmic Learning in a Random World", 2005).

    A margin is a quantile, corrected for the number of rows, of the errors on rows that the model
    was not fitted to. With the scale ``value`` the interval is ``value - margin`` to
    ``value + margin``; with ``log1p``, for which errors grow with the value, it is
    ``(1 + value) / exp(margin) - 1`` to ``(1 + value) * exp(margin) - 1``.

    Each bin of predicted values has its own margins, so that the level holds for low and for high
    values (Mondrian conformal prediction).
    """

    scale: Literal["value", "log1p"]
    source: Literal["validation", "cross-validation"] = Field(
        description="the rows that the margins are computed from: the validation set, or each fold "
        "of the rows outside the test set, predicted by a model fitted to the other folds"
    )
    rows: Annotated[int, Field(ge=1)]
    edges: list[Finite] = Field(
        description="the values between the bins, ascending; an edge belongs to the bin above"
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


class ImageInput(StrictModel):
    """An image: the graph's input ``image``, uint8 ``[batch, height, width, channels]``.

    `service.imaging.preprocess` reads image files as these pixels, in training and in serving.
    """

    kind: Literal["image"]
    height: Side = Field(description="pixels")
    width: Side = Field(description="pixels")
    channels: Literal[1, 3] = Field(description="1: gray; 3: red, green and blue")
    fit: Literal["stretch", "crop", "pad"] = Field(
        description="how an image of another shape is fitted: both sides scaled; its center, "
        "scaled to cover; or all of it, with background around"
    )
    background: Annotated[int, Field(ge=0, le=255)] = Field(
        default=255, description="the gray around a padded image and behind transparent pixels"
    )
    normalize: Literal["none", "digit"] = Field(
        default="none",
        description="digit: ink becomes light on dark, its bounding box 20 pixels and its center "
        "of mass the middle, as in MNIST",
    )
    decoder: Text = Field(description="decoder of the images in training, with its version")


Input = Annotated[FeaturesInput | ImageInput, Field(discriminator="kind")]


class InputTensor(NamedTuple):
    """An input of a graph: its datatype in the Open Inference Protocol, and the shape of a row."""

    name: str
    datatype: Literal["FP32", "FP64", "UINT8", "BYTES"]
    shape: tuple[int, ...]


def list_inputs(spec: Input) -> list[InputTensor]:
    """Return the inputs of the graph in their order: one, or two if it reads numbers and text."""
    if not isinstance(spec, FeaturesInput):
        return [InputTensor(IMAGE_NAME, "UINT8", (spec.height, spec.width, spec.channels))]
    found = []
    if spec.numerical:
        found.append(InputTensor(INPUT_NAME, spec.datatype, (len(spec.numerical),)))
    if spec.texts:
        found.append(InputTensor(TEXT_NAME, "BYTES", (len(spec.texts),)))
    return found


class ValueOutput(StrictModel):
    """A number in its own unit: the graph's output ``value``, float32 ``[batch, 1]``."""

    kind: Literal["value"]
    name: Text
    description: str = ""
    unit: str | None = None
    interval: Interval | None = None


class Calibration(StrictModel):
    """How the graph calibrates its probabilities.

    The scores are divided by ``temperature``, chosen on the validation set (Guo and others, "On
    Calibration of Modern Neural Networks", 2017). The errors are expected calibration errors on
    the test set.
    """

    temperature: Annotated[Finite, Field(gt=0)]
    error_before: Annotated[Finite, Field(ge=0, le=1)]
    error_after: Annotated[Finite, Field(ge=0, le=1)]


class ClassesOutput(StrictModel):
    """One of several class labels.

    With two labels, the graph's output is the ``probability`` of the second, float32
    ``[batch, 1]``; with more it is ``probabilities``, float32 ``[batch, labels]``, whose rows sum
    to one.
    """

    kind: Literal["classes"]
    name: Text
    description: str = ""
    labels: Annotated[list[Text], Field(min_length=2)]
    threshold: Annotated[Finite, Field(ge=0, le=1)] | None = Field(
        default=None,
        description="of two labels, the second is predicted from this probability on (default 0.5)",
    )
    unsure_below: Annotated[Finite, Field(ge=0, le=1)] | None = Field(
        default=None,
        description="a prediction with a lower probability is unsure; chosen on the validation set",
    )
    calibration: Calibration | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels repeat")
        if self.threshold is not None and not self.is_binary:
            raise ValueError("a threshold needs exactly two labels")
        return self

    @property
    def is_binary(self) -> bool:
        """Whether there are two labels."""
        return len(self.labels) == BINARY

    @cached_property
    def decision_threshold(self) -> float:
        """Of two labels, the second is predicted from this probability on."""
        return DEFAULT_THRESHOLD if self.threshold is None else self.threshold


Output = Annotated[ValueOutput | ClassesOutput, Field(discriminator="kind")]


def find_task(output: Output) -> Literal["regression", "binary", "multiclass"]:
    """Return the task of models with this output."""
    if isinstance(output, ValueOutput):
        return "regression"
    return "binary" if output.is_binary else "multiclass"


def output_name(output: Output) -> str:
    """Return the name of the graph's output tensor."""
    names = {"regression": "value", "binary": "probability", "multiclass": "probabilities"}
    return names[find_task(output)]


def output_width(output: Output) -> int:
    """Return the number of columns of the graph's output tensor."""
    return 1 if isinstance(output, ValueOutput) or output.is_binary else len(output.labels)


class ColumnScale(StrictModel):
    """The scaling of one column: ``(x - offset) / scale``, with both in the unit of the column."""

    offset: Finite
    scale: Finite


class Scaler(StrictModel):
    """The fitted scaler as plain numbers, for people; the graph contains a copy that it applies."""

    kind: Text
    columns: dict[str, ColumnScale]


class Baseline(StrictModel):
    """The metrics of a baseline on the same rows."""

    name: Text
    metrics: dict[str, Finite]


class SplitRule(StrictModel):
    """How the measured rows were held out, if not at random.

    By ``group``, no measured row has the group of a training row. By ``time``, the measured rows
    are newer than the training rows.
    """

    by: Literal["group", "time"]
    column: Text = Field(description="the column of the groups or times")


class Evaluation(StrictModel):
    """Metrics on held-out rows or, for an imported model, on the rows given with it.

    ``part`` is ``test`` for a test set, or ``cross-validation`` if there are too few rows for one:
    then ``folds`` models of the same recipe were each evaluated on the fold that they were not
    fitted to. It is ``given`` for rows that may include training rows, since nobody recorded which
    rows the model was fitted to.
    """

    part: Literal["test", "cross-validation", "given"]
    folds: Annotated[int, Field(ge=2)] | None = None
    rows: Annotated[int, Field(ge=1)]
    split: SplitRule | None = Field(default=None, description="None: the split is random")
    metrics: dict[str, Finite]
    baseline: Baseline


class FileDigest(StrictModel):
    """The digest and the size of a file of the bundle."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    bytes: Annotated[int, Field(ge=0)]


class Manifest(StrictModel):
    """The content of ``manifest.json``, the last file written into a bundle."""

    format_version: Literal[1]
    name: Name
    title: Text
    description: str = ""
    task: Literal["regression", "binary", "multiclass"]
    input: Input
    output: Output
    scaler: Scaler | None = None
    reasons: Additive | None = Field(
        default=None, description="of a linear or logistic model: the contribution of each feature"
    )
    evaluation: Evaluation | None = None
    provenance: Provenance | None = None
    files: dict[str, FileDigest]

    @model_validator(mode="after")
    def _task_matches_output(self) -> Self:
        if self.task != find_task(self.output):
            msg = f"task {self.task!r} does not fit the output, which is {find_task(self.output)}"
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
            raise ValueError("reasons: the terms do not match the features")
        if self.reasons.score not in _SCORES[self.task]:
            msg = f"reasons: a {self.task} model has no score {self.reasons.score!r}"
            raise ValueError(msg)
        if len(self.reasons.base) != output_width(self.output):
            raise ValueError(
                "reasons: the number of scores must be the number of the graph's outputs"
            )
        return self


class Tensor(StrictModel):
    """A named array; ``data`` is flat, in row-major order, and null is NaN; BYTES are strings."""

    name: Annotated[str, Field(min_length=1)]
    datatype: Literal["FP32", "FP64", "UINT8", "BYTES"] = "FP32"
    shape: list[Annotated[int, Field(ge=0)]]
    data: list[int | Finite | str | None]

    @model_validator(mode="after")
    def _sizes_agree(self) -> Self:
        if prod(self.shape) != len(self.data):
            holds = f"shape {self.shape} holds {format_count(prod(self.shape), 'value')}"
            raise ValueError(f"{self.name}: {holds}, data has {len(self.data)}")
        if self.datatype == "UINT8" and not set(self.data) <= _BYTES:
            msg = f"{self.name}: UINT8 holds whole numbers from 0 to 255"
            raise ValueError(msg)
        if any(isinstance(value, str) != (self.datatype == "BYTES") for value in self.data):
            msg = f"{self.name}: BYTES holds strings, and other types hold numbers"
            raise ValueError(msg)
        return self


class Tolerance(StrictModel):
    """How far outputs may deviate: ``|got - expected| <= absolute + relative * |expected|``."""

    absolute: Annotated[Finite, Field(ge=0, le=1e-2)]
    relative: Annotated[Finite, Field(ge=0, le=1e-2)]


class Examples(StrictModel):
    """The content of ``examples.json``."""

    input: Tensor = Field(description="the first input of the graph")
    text: Tensor | None = Field(
        default=None, description="its second input, if it reads numbers and text"
    )
    output: Tensor
    tolerance: Tolerance

    @property
    def inputs(self) -> list[Tensor]:
        """The inputs of the graph in their order."""
        return [self.input] if self.text is None else [self.input, self.text]

    def mismatch(self, manifest: Manifest) -> str | None:
        """Describe what does not match the manifest, or return None."""
        expected, output = list_inputs(manifest.input), manifest.output
        rows = self.input.shape[0] if self.input.shape else 0
        if rows == 0:
            return "there is no example row"
        if len(self.inputs) != len(expected):
            inputs = format_count(len(self.inputs), "input")
            return f"it has {inputs}, the manifest says {len(expected)}"
        pairs = list(zip(self.inputs, expected, strict=True))
        for tensor, spec in pairs:
            if tensor.datatype != spec.datatype:
                return f"input is {tensor.datatype}, not {spec.datatype}"
        for role, tensor, name, shape in (
            *(("input", tensor, spec.name, [rows, *spec.shape]) for tensor, spec in pairs),
            ("output", self.output, output_name(output), [rows, output_width(output)]),
        ):
            if tensor.name != name or tensor.shape != shape:
                return (
                    f"{role} is {tensor.name!r} {tensor.shape}, the manifest says {name!r} {shape}"
                )
        return None
