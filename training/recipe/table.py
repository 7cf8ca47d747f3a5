"""The recipe of a model: everything that decides what it becomes, as one checked value."""

from functools import partial
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from service.bundle.features import Finite, Text
from service.bundle.manifest import Name
from training.recipe.families import TABLE_FAMILIES, TableFamily, Task, known_family

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
]
Schedule = Literal["constant", "step", "exponential", "cosine", "one-cycle", "inverse-time"]

Share = Annotated[Finite, Field(ge=0, lt=1)]
NotNegative = Annotated[Finite, Field(ge=0)]


class Section(BaseModel):
    """A part of the recipe: immutable, and a key it does not know is a problem."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(Section):
    """Where the table comes from: exactly one of `source`, `file` and `rows`."""

    source: str | None = Field(default=None, description="a public data set, by its name")
    file: str | None = Field(default=None, description="a CSV file")
    rows: list[list[Finite | str]] | None = Field(default=None, description="the table itself")
    columns: list[Text] | None = Field(
        default=None, description="names of the columns, for a file without a header and for rows"
    )
    header: bool | None = Field(
        default=None, description="whether the first line names the columns; else found out"
    )
    separator: str | None = Field(default=None, min_length=1, max_length=1)
    quote: str | None = Field(default=None, min_length=1, max_length=1)
    decimal: Literal[".", ","] = "."
    thousands: Literal["", ",", ".", " ", "'"] = Field(
        default="", description="what parts groups of three digits, where numbers have such a mark"
    )
    encoding: str | None = None
    missing: list[str] = Field(
        default=["", "?", "NA", "N/A", "n/a", "nan", "NaN", "null", "NULL", "None"],
        description="cells that mean: no value",
    )


class Target(Section):
    """The column to predict: a quantity, or with `labels` a class."""

    column: Text
    name: str | None = Field(default=None, description="what the answer is called; as the column")
    description: str = ""
    unit: str | None = None
    affix: str | None = Field(
        default=None, description="what the file writes beside each number: $, kg, %"
    )
    log: bool = Field(default=False, description="fit the logarithm of (1 + target)")
    labels: list[Text] = Field(default=[], description="what each class is called")
    values: list[str] = Field(default=[], description="how the file writes each label; as labels")
    ignore_case: bool = Field(default=False, description="Yes, yes and YES are one label")
    missing: list[str] = Field(default=[], description="words in this column for: no value")
    others: Literal["reject", "drop"] = Field(
        default="reject", description="rows whose class is not among the values"
    )
    threshold: Literal["half", "f1", "youden"] | Share = Field(
        default="half",
        description="the second label's least probability, or how the validation part sets it",
    )


class Feature(Section):
    """A column that the model sees."""

    name: Text
    type: Literal["number", "integer", "boolean", "category"]
    unit: str | None = None
    affix: str | None = Field(
        default=None, description="what the file writes beside each number: $, kg, %"
    )
    description: str = ""
    minimum: Finite | None = Field(default=None, description="the service refuses values below")
    maximum: Finite | None = Field(default=None, description="the service refuses values above")
    categories: list[Text] = Field(
        default=[], description="the words; empty: those of the training part"
    )
    unseen: Literal["reject", "other"] = Field(
        default="reject", description="`other` lets an unknown word in as no category"
    )
    optional: bool = Field(default=False, description="whether the value may be missing")
    missing: list[str] = Field(default=[], description="this column's own words for: no value")
    example: bool | Finite | str | None = Field(
        default=None, description="a typical value; else the training part's median or mode"
    )


class Split(Section):
    """How the rows are divided, by the recipe's seed, before anything is learned."""

    test: Share = Field(default=0.2, description="share of the rows set aside")
    validation: Share = Field(
        default=0.0, description="share of the rows that decides when to stop"
    )
    folds: Annotated[int, Field(ge=0)] = Field(
        default=0, description="cross-validate with so many folds; as many as rows: leave one out"
    )
    interval_folds: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="fit the recipe so many times more, each time without one fold of the rows "
        "outside the test part, to learn prediction intervals from answers to unseen rows",
    )
    unmeasured: bool = Field(
        default=False, description="publish without any measurement, for a table that is complete"
    )


class Preprocessing(Section):
    """What happens to the columns inside the graph, before the network."""

    scaler: ScalerKind = "standard"
    impute: Literal["median", "mean"] = Field(default="median", description="for missing numbers")
    add_indicator: bool = Field(
        default=True, description="a column telling the network which values were missing"
    )
    clip: Annotated[Finite, Field(ge=0, lt=0.5)] = Field(
        default=0.0, description="share of extreme training values at each end to clip at"
    )
    rotated: list[tuple[str, str]] = Field(
        default=[], description="pairs of numbers, such as coordinates, to see at angles as well"
    )


class Network(Section):
    """The learned part."""

    family: Annotated[str, AfterValidator(partial(known_family, TABLE_FAMILIES))]
    hidden_layer_sizes: list[Annotated[int, Field(ge=1, le=16_384)]] = []
    activation: Activation = "relu"
    dropout: Share = 0.0
    batch_norm: bool = False
    embedding: Literal["none", "piecewise-linear", "periodic"] = Field(
        default="none", description="how an MLP sees each number: itself, or many views of it"
    )
    bins: Annotated[int, Field(ge=2, le=1024)] = Field(
        default=32, description="views of each embedded number"
    )
    members: Annotated[int, Field(ge=1, le=64)] = Field(
        default=1, description="networks fitted from different starts and averaged"
    )


class Descent(Section):
    """How a network goes downhill."""

    optimizer: Optimizer
    learning_rate: Annotated[Finite, Field(gt=0)]
    momentum: Share = 0.0
    nesterov: bool = False
    weight_decay: NotNegative = 0.0
    schedule: Schedule = "constant"
    gamma: Annotated[Finite, Field(gt=0, le=1)] = Field(
        default=0.1, description="what the step, exponential and inverse-time schedules decay by"
    )
    epochs: Annotated[int, Field(ge=1, le=1_000_000)]
    batch_size: Annotated[int, Field(ge=0)] = Field(default=0, description="rows; 0: all at once")
    patience: Annotated[int, Field(ge=1)] = Field(
        default=10, description="epochs without improvement after which the fit ends"
    )


class Training(Descent):
    """How the network is fitted."""

    loss: Loss | None = Field(default=None, description="else mse, or cross-entropy for classes")
    l1: NotNegative = Field(default=0.0, description="penalty on the weights' absolute values")
    l2: NotNegative = Field(default=0.0, description="penalty on the weights' squares")
    class_weight: Literal["none", "balanced"] = "none"
    precision: Literal[32, 64] = Field(default=32, description="bits of a number while fitting")


class Purpose(Section):
    """What a model is for."""

    name: Name
    title: Text
    description: str = ""


class Seeded(Purpose):
    """What a model is for, and where all its chances begin."""

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1


class Card(Purpose):
    """What a model is for: the questions it takes and the answer it gives."""

    target: Target
    features: Annotated[list[Feature], Field(min_length=1)]

    @property
    def task(self) -> Task:
        """What kind of answer the target asks for."""
        if not self.target.labels:
            return "regression"
        return "binary" if len(self.target.labels) == 2 else "multiclass"  # noqa: PLR2004 - two

    @property
    def target_values(self) -> list[str]:
        """The cells that mean each label, in the labels' order."""
        return self.target.values or self.target.labels


class Recipe(Card, Seeded):
    """Everything that decides what a model becomes."""

    data: Data
    split: Split = Split()
    preprocessing: Preprocessing = Preprocessing()
    network: Network
    training: Training | None = Field(
        default=None, description="required, but for a family that scikit-learn fits"
    )

    @property
    def family(self) -> TableFamily:
        """The facts of the model's family."""
        return TABLE_FAMILIES[self.network.family]
