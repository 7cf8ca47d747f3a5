"""The sections of a manifest, from the results of a run."""

import importlib.metadata
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence, Sized
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from service.bundle import manifest as contract
from service.bundle import provenance
from service.bundle.features import (
    BooleanFeature,
    CategoryFeature,
    DatetimeFeature,
    FeaturesInput,
    FeatureStatistics,
    IntegerFeature,
    NumberFeature,
    NumericalFeature,
    Range,
    TextFeature,
)
from service.bundle.features import Feature as AnyFeature
from service.bundle.manifest import ClassesOutput, Interval, ValueOutput
from service.timetext import format_datetime
from training.data.table import Column, Dataset, Floats, Inputs
from training.evaluation.metrics import round_number
from training.model.networks import Predictor
from training.model.text import TableModel
from training.recipe.image import ImageRecipe
from training.recipe.table import Feature, ModelCard, Recipe

_LIBRARIES = ("torch", "onnx", "onnxscript", "numpy", "scikit-learn", "skl2onnx", "polars")


def describe_input(data: Dataset, training: Inputs) -> FeaturesInput:
    """Describe the features with their ranges and training statistics.

    The type of the training rows is that of the graph's input. Rows in 64 bits keep all digits of
    the numbers in them: a range with seven digits would exclude timestamps of the training set.
    """
    is_wide, record = training.dtype == np.float64, _choose_record(training)
    return FeaturesInput(
        kind="features",
        datatype="FP64" if is_wide else "FP32",
        features=[
            _describe_feature(column, training[:, k].astype(np.float64), record)
            for k, column in enumerate(data.columns)
        ],
        table=data.format,
    )


def with_training_values(
    described: FeaturesInput, data: Dataset, training: Inputs
) -> FeaturesInput:
    """Replace the typical values in the examples by values of training rows.

    So the example differs from the typical row, which explanations compare with. Each feature has
    the value of another row, since anyone can read the example, and a row may be a person. Values
    that the recipe states, and texts, remain. Booleans remain too, since a manifest has the usual
    one nowhere else.

    Args:
        described: the features of the same data set.
        data: the data set.
        training: ``[rows, columns]``, the rows that the model was fitted to.
    """
    features: list[AnyFeature] = []
    for k, (column, feature) in enumerate(zip(data.columns, described.features, strict=True)):
        (usable,) = np.nonzero(_find_usable(column, training[:, k].astype(np.float64)))
        if len(usable) and column.feature.example is None:
            cell = float(training[usable[k % len(usable)], k])
            example = _read_cell(feature, cell, _choose_record(training))
            features.append(feature.model_copy(update={"example": example}))
        else:
            features.append(feature)
    return described.model_copy(update={"features": features})


def _find_usable(column: Column, cells: Floats) -> npt.NDArray[np.bool_]:
    """Return which cells the service accepts as a value of the feature, ``[rows]``."""
    feature = column.feature
    if feature.type == "category":
        return cells >= 0
    usable = ~np.isnan(cells)
    if feature.minimum is not None:
        usable &= cells >= feature.minimum
    if feature.maximum is not None:
        usable &= cells <= feature.maximum
    return usable


def _read_cell(
    feature: AnyFeature, cell: float, record: Callable[[float], float]
) -> bool | float | str:
    """Return the value of a cell as a client sends it; booleans and texts are the usual ones."""
    match feature:
        case BooleanFeature() | TextFeature():
            return feature.example
        case CategoryFeature():
            return feature.categories[int(cell)]
        case DatetimeFeature():
            return format_datetime(cell, feature.format)
        case IntegerFeature():
            return float(round(cell))
        case _:
            return record(cell)


def _choose_record(training: Inputs) -> Callable[[float], float]:
    """Return how numbers of these rows are written: with the digits that they have."""
    return float if training.dtype == np.float64 else round_number


def describe_output(
    card: ModelCard,
    threshold: float,
    unsure_below: float | None = None,
    interval: Interval | None = None,
) -> ValueOutput | ClassesOutput:
    """Describe the output: a value with its unit, or labels, with intervals or thresholds."""
    target = card.target
    name = target.name or target.column
    if not card.is_classification:
        return ValueOutput(
            kind="value",
            name=name,
            description=target.description,
            unit=target.unit,
            interval=interval,
        )
    return ClassesOutput(
        kind="classes",
        name=name,
        description=target.description,
        labels=target.labels,
        threshold=threshold if card.task == "binary" else None,
        unsure_below=unsure_below,
    )


def describe_scaler(recipe: Recipe, data: Dataset, predictor: TableModel) -> contract.Scaler | None:
    """Return the fitted scaler as plain numbers, if there is one."""
    if not isinstance(predictor, Predictor):
        return None
    preprocessing = predictor.preprocessing
    if preprocessing.scaler is None:
        return None
    offset, scale = preprocessing.scaler.offset.tolist(), preprocessing.scaler.scale.tolist()
    columns = {
        data.columns[position].feature.name: contract.ColumnScale(
            offset=round_number(offset[k]), scale=round_number(scale[k])
        )
        for k, position in enumerate(preprocessing.numeric)
    }
    return contract.Scaler(kind=recipe.preprocessing.scaler, columns=columns)


def describe_provenance(
    recipe: Recipe | ImageRecipe,
    origin: provenance.DataOrigin,
    parts: tuple[Sized, Sized, Sized],
    started: float,
    candidates: Sequence[provenance.Candidate] = (),
) -> provenance.Provenance:
    """Describe how a model was trained.

    Args:
        recipe: as it was run; local paths are shortened to their last name.
        origin: of the data.
        parts: the training, validation and test set.
        started: ``time.perf_counter()`` at the start of the run.
        candidates: families that were compared before.
    """
    document = recipe.model_dump(mode="json", exclude_defaults=True)
    data = document["data"]
    if "file" in data:
        data["file"] = Path(data["file"]).name
    if "folder" in data:
        data["folder"] = Path(data["folder"]).resolve().name
    training, validation, test = map(len, parts)
    return provenance.Provenance(
        recipe=document,
        seed=recipe.seed,
        data=origin,
        split=provenance.SplitSizes(training=training, validation=validation, test=test),
        versions=_read_versions(),
        commit=_read_commit(),
        created=datetime.now(UTC).replace(microsecond=0),
        duration_seconds=round(time.perf_counter() - started, 2),
        candidates=list(candidates) or None,
    )


def _describe_feature(
    column: Column, cells: Floats, record: Callable[[float], float]
) -> NumericalFeature | TextFeature:
    feature, number_format = column.feature, column.number_format
    known = cells[~np.isnan(cells)]
    shared: dict[str, Any] = {
        "type": feature.type,
        "name": feature.name,
        "description": feature.description,
        "optional": feature.optional,
        "complete": feature.optional and len(known) == len(cells),
        "missing": None if column.missing is None else list(column.missing),
    }
    if feature.type == "text":
        return TextFeature(**shared, example=str(feature.example or column.example))
    if feature.type == "boolean":
        example = np.median(known) if feature.example is None else feature.example
        return BooleanFeature(**shared, example=bool(example))
    if feature.type == "category":
        counts = np.bincount(known[known >= 0].astype(int), minlength=len(column.categories))
        return CategoryFeature(
            **shared,
            unit=feature.unit,
            categories=list(column.categories),
            counts=counts.tolist(),
            unseen=feature.unseen,
            example=str(feature.example or column.categories[int(counts.argmax())]),
        )
    ends = Range(minimum=record(known.min()), maximum=record(known.max()))
    statistics = FeatureStatistics(
        mean=record(known.mean()),
        standard_deviation=round_number(known.std()),
        deciles=[record(d) for d in np.quantile(known, np.linspace(0, 1, 11))],
        missing=round_number(np.isnan(cells).mean()),
    )
    if feature.type == "datetime":
        return _describe_dates(feature, known, shared | {"trained": ends, "statistics": statistics})
    kind = NumberFeature if feature.type == "number" else IntegerFeature
    return kind.model_validate(
        shared
        | {
            "unit": feature.unit,
            "affix": feature.affix,
            "decimal": number_format.decimal if number_format else None,
            "thousands": (number_format.thousands or None) if number_format else None,
            "allowed": _get_allowed_range(feature),
            "trained": ends,
            "example": _compute_typical_value(feature, known, record),
            "statistics": statistics,
        }
    )


def _describe_dates(feature: Feature, known: Floats, shared: dict[str, Any]) -> DatetimeFeature:
    middle = float(np.quantile(known, 0.5, method="nearest"))
    typical = format_datetime(middle, feature.text_format)
    return DatetimeFeature.model_validate(
        shared | {"format": feature.text_format, "example": str(feature.example or typical)}
    )


def _get_allowed_range(feature: Feature) -> Range | None:
    if feature.minimum is None and feature.maximum is None:
        return None
    return Range(minimum=feature.minimum, maximum=feature.maximum)


def _compute_typical_value(
    feature: Feature, known: Floats, record: Callable[[float], float]
) -> float:
    if isinstance(feature.example, int | float):
        return float(feature.example)
    middle = float(np.quantile(known, 0.5, method="nearest"))
    return round(middle) if feature.type == "integer" else record(middle)


def _read_versions() -> dict[str, str]:
    libraries = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    runtime = _read_runtime_version(("onnxruntime", "onnxruntime-gpu"))
    return {"python": platform.python_version(), **libraries, **runtime}


def _read_runtime_version(distributions: Sequence[str]) -> dict[str, str]:
    """Return the version of the installed ONNX Runtime package, CPU or GPU."""
    for name in distributions:
        try:
            return {"onnxruntime": importlib.metadata.version(name)}
        except importlib.metadata.PackageNotFoundError:
            continue
    return {}


def _read_commit() -> str | None:
    """Return the commit of the training code, with ``-dirty`` after local changes."""
    commit = _run_git("rev-parse", "HEAD")
    return f"{commit}-dirty" if commit and _run_git("status", "--porcelain", "--", ".") else commit


def _run_git(*words: str) -> str | None:
    git = shutil.which("git")
    if git is None:
        return None
    found = subprocess.run(  # noqa: S603 - fixed commands
        [git, *words], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or None
