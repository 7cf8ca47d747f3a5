"""The schema of a recipe for tables."""

from functools import partial
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from service.bundle.features import Finite, Text
from service.bundle.manifest import BINARY, Name
from service.tabletext import MISSING, Decimal, Thousands
from service.timetext import ISO, DatetimeFormat
from training.recipe.families import (
    TABLE_FAMILIES,
    TableFamily,
    Task,
    output_width,
    require_family,
)

ScalerKind = Literal["min-max", "standard", "mean", "robust", "none"]
Activation = Literal["sigmoid", "tanh", "relu", "leaky-relu", "elu", "gelu", "maxout"]
Loss = Literal["mse", "mae", "huber", "cross-entropy", "hinge", "perceptron"]
Optimizer = Literal[
    "SGD",
    "RMSprop",
    "Adagrad",
    "Adadelta",
    "Adam",
    "AdamW",
    "Adamax",
    "NAdam",
    "Adafactor",
    "LBFGS",
    "scikit-learn",
]
Schedule = Literal["constant", "step", "exponential", "cosine", "one-cycle", "inverse-time"]

Share = Annotated[Finite, Field(ge=0, lt=1)]
NotNegative = Annotated[Finite, Field(ge=0)]


class Section(BaseModel):
    """A section of a recipe: immutable, without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(Section):
    """The table source: exactly one of ``source``, ``file`` and ``rows``."""

    source: str | None = Field(default=None, description="name of a public data set")
    file: str | None = Field(default=None, description="a CSV, Parquet, Arrow or Excel file")
    sheet: str | None = Field(default=None, description="of an Excel file; by default the first")
    rows: list[list[Finite | str]] | None = Field(default=None, description="the table itself")
    columns: list[Text] | None = Field(
        default=None, description="names of the columns, for rows and for files without a header"
    )
    header: bool | None = Field(
        default=None, description="whether the first line names the columns; detected by default"
    )
    separator: str | None = Field(default=None, min_length=1, max_length=1)
    quote: str | None = Field(default=None, min_length=1, max_length=1)
    decimal: Decimal = "."
    thousands: Thousands = Field(default="", description="thousands separator")
    encoding: str | None = None
    missing: list[str] = Field(
        default=list(MISSING),
        description="cells that are missing values",
    )


class Target(Section):
    """The column to predict: a number or, with ``labels``, a class."""

    column: Text
    name: str | None = Field(
        default=None, description="name of the prediction; by default that of the column"
    )
    description: str = ""
    unit: str | None = None
    affix: str | None = Field(
        default=None, description="text before or after each number in the file: $, kg, %"
    )
    log: bool = Field(default=False, description="fit the logarithm of (1 + target)")
    labels: list[Text] = Field(default=[], description="names of the classes")
    values: list[str] = Field(
        default=[], description="how the file writes each label; by default as in labels"
    )
    ignore_case: bool = Field(default=False, description="Yes, yes and YES are one label")
    missing: list[str] = Field(default=[], description="missing values in this column")
    others: Literal["reject", "drop"] = Field(
        default="reject", description="what to do with rows of other classes"
    )
    threshold: Literal["half", "f1", "youden"] | Share = Field(
        default="half",
        description="decision threshold of the second label, or the rule that chooses it",
    )


class Feature(Section):
    """An input column of the model."""

    name: Text
    type: Literal["number", "integer", "boolean", "category", "datetime", "text"]
    format: DatetimeFormat | None = Field(
        default=None, description="of dates; by default YYYY-MM-DD, and a time may follow"
    )
    trend: bool = Field(
        default=True,
        description="whether the days since the first date are a number of the model",
    )
    unit: str | None = None
    affix: str | None = Field(
        default=None, description="text before or after each number in the file: $, kg, %"
    )
    description: str = ""
    minimum: Finite | None = Field(default=None, description="the service rejects values below")
    maximum: Finite | None = Field(default=None, description="the service rejects values above")
    categories: list[Text] = Field(default=[], description="by default those of the training set")
    unseen: Literal["reject", "other"] = Field(
        default="reject",
        description="what to do with unknown categories; `other` encodes them as none",
    )
    optional: bool = Field(default=False, description="whether the value may be missing")
    missing: list[str] = Field(default=[], description="missing values in this column")
    example: bool | Finite | str | None = Field(
        default=None,
        description="by default that of the first training row without missing values",
    )

    @property
    def text_format(self) -> DatetimeFormat:
        """The format of dates."""
        return self.format or ISO


class Split(Section):
    """The split into training, validation and test set.

    At random, stratified for classes, by the seed of the recipe; or in groups; or by time.
    """

    test: Share = Field(default=0.2, description="size of the test set, as a share of the rows")
    validation: Share = Field(
        default=0.0, description="size of the validation set, for early stopping"
    )
    folds: Annotated[int, Field(ge=0)] = Field(
        default=0, description="folds of cross-validation; the number of rows: leave-one-out"
    )
    interval_folds: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="folds outside the test set, whose out-of-fold predictions determine the "
        "prediction intervals",
    )
    refit: bool = Field(
        default=False,
        description="after measuring on the test set, fit the published model to all rows; the "
        "validation set then only chooses thresholds and intervals",
    )
    unmeasured: bool = Field(
        default=False, description="publish without metrics, for a table with every possible row"
    )
    group: Text | None = Field(
        default=None,
        description="a column, such as a patient; rows with the same cell stay in one set and fold",
    )
    group_until: Annotated[str, Field(min_length=1)] | None = Field(
        default=None,
        description="a group is the text of the cell before the last of these marks: with _ the "
        "cells m7_1 and m7_2 are of one group",
    )
    time: Text | None = Field(
        default=None,
        description="a column of dates, times or numbers; the newest rows are the test set, and "
        "folds are measured by models of the rows before them",
    )

    def find_key_problem(self, target: str) -> str | None:
        """Return what is wrong with the columns that decide the split, if anything is."""
        if self.group is not None and self.time is not None:
            return "split: group and time exclude each other; remove one of them"
        if self.group_until is not None and self.group is None:
            return "split.group_until: it shortens the cells of split.group, which is not set"
        if target in (self.group, self.time):
            key = "group" if self.group else "time"
            return f"split.{key}: {target} is the target; rows cannot be split by it"
        return None


class Preprocessing(Section):
    """The preprocessing of columns inside the graph."""

    scaler: ScalerKind = "standard"
    impute: Literal["median", "mean"] = Field(
        default="median", description="imputation of missing numbers"
    )
    add_indicator: bool = Field(
        default=True, description="add indicator columns for missing values"
    )
    clip: Annotated[Finite, Field(ge=0, lt=0.5)] = Field(
        default=0.0, description="quantile at each end to clip to"
    )
    rotated: list[tuple[str, str]] = Field(
        default=[],
        description="pairs of numbers, such as coordinates, of which rotated copies are added",
    )


class Network(Section):
    """The model family and its layers."""

    family: Annotated[str, AfterValidator(partial(require_family, TABLE_FAMILIES))]
    hidden_layer_sizes: list[Annotated[int, Field(ge=1, le=16_384)]] = []
    activation: Activation = "relu"
    dropout: Share = 0.0
    batch_norm: bool = False
    embedding: Literal["none", "piecewise-linear", "periodic"] = Field(
        default="none", description="embedding of numbers in an MLP"
    )
    bins: Annotated[int, Field(ge=2, le=1024)] = Field(
        default=32, description="bins or frequencies per embedded number"
    )
    frequency_deviation: Annotated[Finite, Field(gt=0)] = Field(
        default=0.5, description="of the initial frequencies of a periodic embedding"
    )
    members: Annotated[int, Field(ge=1, le=64)] = Field(
        default=1, description="size of the ensemble"
    )
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = Field(
        default=None, description="of the initial weights; by default that of the recipe"
    )


class OptimizerSettings(Section):
    """The optimizer and its schedule."""

    optimizer: Optimizer
    learning_rate: Annotated[Finite, Field(gt=0)]
    momentum: Share = 0.0
    nesterov: bool = False
    weight_decay: NotNegative = 0.0
    schedule: Schedule = "constant"
    gamma: Annotated[Finite, Field(gt=0, le=1)] = Field(
        default=0.1, description="decay factor of the schedules step, exponential and inverse-time"
    )
    epochs: Annotated[int, Field(ge=1, le=1_000_000)]
    batch_size: Annotated[int, Field(ge=0)] = Field(
        default=0, description="rows per batch; 0: full batch"
    )
    patience: Annotated[int, Field(ge=1)] = Field(
        default=10, description="early stopping: epochs without improvement"
    )


class Training(OptimizerSettings):
    """The training loop."""

    loss: Loss | None = Field(
        default=None, description="by default mse, or cross-entropy for classes"
    )
    l1: NotNegative = Field(default=0.0, description="penalty on the weights' absolute values")
    l2: NotNegative = Field(default=0.0, description="penalty on the weights' squares")
    class_weight: Literal["none", "balanced"] = "none"
    precision: Literal[32, 64] = Field(
        default=32, description="bits of floating-point numbers during training"
    )


class Boosting(Section):
    """The trees of gradient boosting; the keys are those of scikit-learn."""

    learning_rate: Annotated[Finite, Field(gt=0, le=1)] = 0.1
    max_iter: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=500, description="the most trees, for each label if there are more than two"
    )
    max_leaf_nodes: Annotated[int, Field(ge=2, le=1024)] = 16
    min_samples_leaf: Annotated[int, Field(ge=1)] = 20
    l2_regularization: NotNegative = 1.0
    max_features: Annotated[Finite, Field(gt=0, le=1)] = Field(
        default=0.5, description="share of the columns that each split chooses from"
    )
    members: Annotated[int, Field(ge=1, le=16)] = Field(
        default=1, description="fits with other seeds, whose scores are averaged"
    )
    patience: Annotated[int, Field(ge=0)] = Field(
        default=30,
        description="early stopping: trees without improvement on the validation set; 0: none",
    )


class Member(Section):
    """A model of an ensemble."""

    weight: Annotated[Finite, Field(gt=0, le=1)] = Field(
        description="share of its prediction in that of the ensemble"
    )
    log: bool = Field(default=False, description="fit the logarithm of (1 + target)")
    network: Network
    preprocessing: Preprocessing = Preprocessing()
    training: Training | None = None
    boosting: Boosting = Boosting()


class ModelDescription(Section):
    """Name and description of a model."""

    name: Name
    title: Text
    description: str = ""


class SeededRecipe(ModelDescription):
    """Name, description and random seed of a model."""

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1


class ModelCard(ModelDescription):
    """The description of a model with its features and target."""

    target: Target
    features: Annotated[list[Feature], Field(min_length=1)]

    @property
    def task(self) -> Task:
        """The task that the target defines."""
        if not self.target.labels:
            return "regression"
        return "binary" if len(self.target.labels) == BINARY else "multiclass"

    @property
    def is_classification(self) -> bool:
        """Whether the target is a label."""
        return bool(self.target.labels)

    @property
    def output_width(self) -> int:
        """The number of outputs of the graph."""
        return output_width(len(self.target.labels))


class Recipe(ModelCard, SeededRecipe):
    """The complete recipe of a table model."""

    data: Data
    split: Split = Split()
    preprocessing: Preprocessing = Preprocessing()
    network: Network
    training: Training | None = Field(
        default=None, description="required for families that PyTorch fits"
    )
    boosting: Boosting = Boosting()
    members: list[Member] = Field(default=[], description="the models of an ensemble")

    def list_member_recipes(self) -> "list[Recipe]":
        """Return a recipe for each member of an ensemble, to be fitted to the same rows."""
        return [
            self.model_copy(
                update={
                    "target": self.target.model_copy(update={"log": member.log}),
                    "network": member.network,
                    "preprocessing": member.preprocessing,
                    "training": member.training,
                    "boosting": member.boosting,
                    "members": [],
                }
            )
            for member in self.members
        ]

    @property
    def family(self) -> TableFamily:
        """The properties of the model family."""
        return TABLE_FAMILIES[self.network.family]
