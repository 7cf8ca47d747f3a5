"""What the service returns, as typed objects.

Each has ``json``, the object exactly as the service sent it, which may have more fields.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = Mapping[str, Any]

_PREDICTION_FIELDS = (
    *("label", "probability", "probabilities", "value", "unit", "interval", "unsure", "warnings"),
    *("model_version", "explanation", "method", "meaning"),
)
_FIELDS = frozenset(_PREDICTION_FIELDS)
_EMPTY: tuple[Any, ...] = (None, "", (), {})


class _ShortRepr:
    """Shows only the attributes that have a value."""

    def __repr__(self) -> str:
        values = ((name, value) for name, value in vars(self).items() if name != "json")
        shown = [f"{name}={value!r}" for name, value in values if value not in _EMPTY]
        return f"{type(self).__name__}({', '.join(shown)})"


@dataclass(frozen=True)
class Interval:
    """A prediction interval: ``level`` of the true values are between ``low`` and ``high``."""

    level: float
    low: float
    high: float


@dataclass(frozen=True, repr=False)
class Prediction(_ShortRepr):
    """The prediction for one row or one image.

    Attributes:
        label: the predicted class label; None for a regression model.
        probability: the probability of the label.
        probabilities: the probability of each class label, unless the request omitted them.
        value: the predicted number; None for a classifier.
        unit: the unit of the value.
        interval: the prediction interval, if the request has one.
        unsure: whether the model is often wrong at this probability; None if that is unknown.
        warnings: sentences about values that the model was not trained on.
        outputs: the outputs by name of a graph that has neither a label nor a value.
        model_version: the version that predicted.
    """

    label: str | None = None
    probability: float | None = None
    probabilities: Mapping[str, float] | None = None
    value: float | None = None
    unit: str | None = None
    interval: Interval | None = None
    unsure: bool | None = None
    warnings: Sequence[str] = ()
    outputs: Mapping[str, Any] = field(default_factory=dict)
    model_version: str = ""
    json: Json = field(default_factory=dict, repr=False)

    @property
    def result(self) -> str | float | None:
        """The label or the value."""
        return self.value if self.label is None else self.label

    def to_dict(self) -> dict[str, Any]:
        """Return the row of a DataFrame: `pandas.DataFrame([one.to_dict() for one in found])`."""
        return {**flatten(self.json, ranked=False), "warnings": join_warnings(self.json)}


@dataclass(frozen=True, repr=False)
class Explanation(_ShortRepr):
    """Why a model predicts what it predicts, for one row or one image.

    Attributes:
        prediction: the prediction.
        of: the number that is explained, such as ``value in US dollars``.
        base: what the model predicts for a typical row; None for an image.
        contributions: what each feature adds to ``base``; together they give ``score``.
        score: the explained number.
        drops: for an image, how much the number falls when a patch is covered, as a grid of rows.
        method: ``additive``, ``shapley`` or ``occlusion``.
        meaning: the method in a sentence.
    """

    prediction: Prediction
    of: str = ""
    base: float | None = None
    contributions: Mapping[str, float] = field(default_factory=dict)
    score: float | None = None
    drops: Sequence[Sequence[float]] | None = None
    method: str = ""
    meaning: str = ""
    json: Json = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Metric:
    """A metric on the held-out test set, and that of a baseline."""

    name: str
    value: float
    baseline: float | None = None


@dataclass(frozen=True, repr=False)
class Output(_ShortRepr):
    """What a model predicts: one of ``labels``, or a number in ``unit``.

    ``levels`` are those of its prediction intervals.
    """

    name: str
    labels: Sequence[str] = ()
    unit: str | None = None
    levels: Sequence[float] = ()


@dataclass(frozen=True, repr=False)
class Feature(_ShortRepr):
    """One input of a model of tables."""

    name: str
    type: str
    description: str = ""
    unit: str | None = None
    optional: bool = False
    categories: Sequence[str] = ()
    example: Any = None
    json: Json = field(default_factory=dict, repr=False)


@dataclass(frozen=True, repr=False)
class Model(_ShortRepr):
    """A model of the service.

    Attributes:
        name: its name in requests.
        version: the version that serves a request without one.
        ready: whether it serves; ``reason`` says why not.
        task: ``regression``, ``binary`` or ``multiclass``; None for a graph without a manifest.
        input: ``features`` or ``image``.
        output: what it predicts.
        metric: its main metric.
        features: the inputs; only `Client.model` returns them.
        image: how images are resized; only `Client.model` returns it.
    """

    name: str
    version: str | None = None
    ready: bool = False
    reason: str | None = None
    title: str = ""
    description: str = ""
    task: str | None = None
    input: str | None = None
    output: Output | None = None
    metric: Metric | None = None
    features: Sequence[Feature] = ()
    image: Json | None = None
    json: Json = field(default_factory=dict, repr=False)

    @property
    def example(self) -> dict[str, Any]:
        """A row that the model accepts."""
        return {feature.name: feature.example for feature in self.features}


@dataclass(frozen=True)
class ScoredTable:
    """What `Client.score` did: the version that predicted, and the bytes that it wrote."""

    model_version: str
    bytes: int


def read_prediction(document: Json, shared: Json) -> Prediction:
    """Return a prediction; ``shared`` are the fields of a response to several."""
    interval = document.get("interval")
    known = {key: document[key] for key in _PREDICTION_FIELDS[:5] if key in document}
    return Prediction(
        **known,
        interval=None if interval is None else Interval(**interval),
        unsure=document.get("unsure"),
        warnings=tuple(document.get("warnings", ())),
        outputs={k: v for k, v in document.items() if k not in _PREDICTION_FIELDS},
        model_version=shared.get("model_version", ""),
        json=document,
    )


def flatten(document: Json, *, ranked: bool) -> dict[str, Any]:
    """Return a prediction without its warnings as the cells of a table, by column.

    ``ranked`` names the class labels by their rank, as in a table of the service with ``top``.
    """
    row = {key: document[key] for key in ("label", "probability", "value") if key in document}
    probabilities = document.get("probabilities", {})
    if ranked:
        for rank, (label, probability) in enumerate(probabilities.items(), 1):
            row |= {f"label_{rank}": label, f"probability_{rank}": probability}
    else:
        for label, probability in probabilities.items():
            row[f"probability_{label}"] = probability
    if (interval := document.get("interval")) is not None:
        row |= {"interval_low": interval["low"], "interval_high": interval["high"]}
    if "unsure" in document:
        row["unsure"] = document["unsure"]
    if document.keys() <= _FIELDS:
        return row
    return row | {key: cell for key, cell in document.items() if key not in _FIELDS}


def join_warnings(document: Json) -> str | None:
    """Return the warnings of a prediction as one text; None without one."""
    return " ".join(document.get("warnings", ())) or None


def read_explanation(document: Json, shared: Json) -> Explanation:
    """Return the explanation of a prediction; ``shared`` as for `read_prediction`."""
    found = document.get("explanation", {})
    return Explanation(
        read_prediction(document, shared),
        of=found.get("of", ""),
        base=found.get("base"),
        contributions=found.get("contributions", {}),
        score=found.get("score"),
        drops=found.get("drops"),
        method=shared.get("method", ""),
        meaning=shared.get("meaning", ""),
        json=document,
    )


def read_model(document: Json) -> Model:
    """Return a model from its summary or its complete description."""
    metric = document.get("metric")
    return Model(
        document["name"],
        version=document.get("version"),
        ready=bool(document.get("ready")),
        reason=document.get("reason"),
        title=document.get("title", ""),
        description=document.get("description", ""),
        task=document.get("task"),
        input=document.get("input"),
        output=_read_output(document.get("output")),
        metric=None
        if metric is None
        else Metric(metric["name"], metric["value"], metric.get("baseline")),
        features=tuple(map(_read_feature, document.get("features", ()))),
        image=document.get("image"),
        json=document,
    )


def _read_output(document: Json | None) -> Output | None:
    if document is None:
        return None
    levels = document.get("interval", {}).get("levels", ())
    return Output(
        document.get("name", ""),
        tuple(document.get("labels", ())),
        document.get("unit"),
        tuple(level["level"] for level in levels),
    )


def _read_feature(document: Json) -> Feature:
    return Feature(
        document["name"],
        document.get("type", ""),
        description=document.get("description", ""),
        unit=document.get("unit"),
        optional=bool(document.get("optional")),
        categories=tuple(document.get("categories", ())),
        example=document.get("example"),
        json=document,
    )
