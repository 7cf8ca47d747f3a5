"""The sections of a manifest, from the results of a run."""

import importlib.metadata
import platform
import shutil
import subprocess
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from service.bundle import manifest as contract
from service.bundle.features import (
    BooleanFeature,
    CategoryFeature,
    FeaturesInput,
    FeatureStatistics,
    IntegerFeature,
    NumberFeature,
    Range,
)
from service.bundle.manifest import ClassesOutput, Interval, ValueOutput
from training.data.split import RowSplit
from training.data.table import Column, Dataset, Float32s, Floats, Table
from training.evaluation.metrics import round_number
from training.model.estimators import Estimator
from training.model.networks import Predictor
from training.recipe.table import Feature, ModelCard, Recipe, SeededRecipe

_LIBRARIES = ("torch", "onnx", "onnxscript", "numpy", "scikit-learn", "skl2onnx", "polars")


def input_of(data: Dataset, training: Float32s) -> FeaturesInput:
    """Describe the features with their ranges and training statistics."""
    return FeaturesInput(
        kind="features",
        features=[
            _feature(column, training[:, k].astype(np.float64))
            for k, column in enumerate(data.columns)
        ],
        table=data.format,
    )


def output_of(
    card: ModelCard,
    threshold: float,
    *,
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


def scaler_of(
    recipe: Recipe, data: Dataset, predictor: Predictor | Estimator
) -> contract.Scaler | None:
    """Return the fitted scaler as plain numbers, if there is one."""
    if isinstance(predictor, Estimator):
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


def provenance_of(
    recipe: Recipe, table: Table, rows: int, parts: RowSplit, started: float
) -> contract.Provenance:
    """Return the provenance of a table model; `started` is `time.perf_counter()` at the start."""
    sizes = contract.SplitSizes(
        training=len(parts.training), validation=len(parts.validation), test=len(parts.test)
    )
    origin = contract.DataOrigin(source=table.name, sha256=table.sha256, rows=rows)
    return provenance(_portable(recipe), origin, sizes, started)


def provenance(
    recipe: SeededRecipe, origin: contract.DataOrigin, sizes: contract.SplitSizes, started: float
) -> contract.Provenance:
    """Return the provenance of any model; `started` is `time.perf_counter()` at the start."""
    return contract.Provenance(
        recipe=recipe.model_dump(mode="json", exclude_defaults=True),
        seed=recipe.seed,
        data=origin,
        split=sizes,
        versions=_versions(),
        commit=_commit(),
        created=datetime.now(UTC).replace(microsecond=0),
        duration_seconds=round(time.perf_counter() - started, 2),
    )


def _portable(recipe: Recipe) -> Recipe:
    """Return the recipe without the local path of the CSV file."""
    if recipe.data.file is None:
        return recipe
    data = recipe.data.model_copy(update={"file": Path(recipe.data.file).name})
    return recipe.model_copy(update={"data": data})


def _feature(
    column: Column, cells: Floats
) -> NumberFeature | IntegerFeature | BooleanFeature | CategoryFeature:
    feature = column.feature
    known = cells[~np.isnan(cells)]
    if feature.type == "category":
        return _category(column, known)
    if feature.type == "boolean":
        return BooleanFeature(
            type="boolean",
            name=feature.name,
            description=feature.description,
            optional=feature.optional,
            missing=_missing(column),
            example=bool(np.median(known) if feature.example is None else feature.example),
        )
    trained = Range(minimum=round_number(known.min()), maximum=round_number(known.max()))
    statistics = FeatureStatistics(
        mean=round_number(known.mean()),
        standard_deviation=round_number(known.std()),
        deciles=[round_number(d) for d in np.quantile(known, np.linspace(0, 1, 11))],
        missing=round_number(np.isnan(cells).mean()),
    )
    kind = NumberFeature if feature.type == "number" else IntegerFeature
    return kind.model_validate(
        {
            "type": feature.type,
            "name": feature.name,
            "unit": feature.unit,
            "description": feature.description,
            "optional": feature.optional,
            "missing": _missing(column),
            "affix": feature.affix,
            "decimal": column.numerals.decimal if column.numerals else None,
            "thousands": (column.numerals.thousands or None) if column.numerals else None,
            "allowed": _allowed(feature),
            "trained": trained,
            "example": _typical(feature, known),
            "statistics": statistics,
        }
    )


def _category(column: Column, known: Floats) -> CategoryFeature:
    feature = column.feature
    counts = np.bincount(known[known >= 0].astype(int), minlength=len(column.categories))
    example = feature.example or column.categories[int(counts.argmax())]
    return CategoryFeature(
        type="category",
        name=feature.name,
        unit=feature.unit,
        description=feature.description,
        optional=feature.optional,
        missing=_missing(column),
        categories=list(column.categories),
        counts=counts.tolist(),
        unseen=feature.unseen,
        example=str(example),
    )


def _missing(column: Column) -> list[str] | None:
    return None if column.missing is None else list(column.missing)


def _allowed(feature: Feature) -> Range | None:
    if feature.minimum is None and feature.maximum is None:
        return None
    return Range(minimum=feature.minimum, maximum=feature.maximum)


def _typical(feature: Feature, known: Floats) -> float:
    if isinstance(feature.example, int | float):
        return float(feature.example)
    middle = float(np.quantile(known, 0.5, method="nearest"))
    return round(middle) if feature.type == "integer" else round_number(middle)


def _versions() -> dict[str, str]:
    libraries = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    runtime = _runtime_version(("onnxruntime", "onnxruntime-gpu"))
    return {"python": platform.python_version(), **libraries, **runtime}


def _runtime_version(distributions: Sequence[str]) -> dict[str, str]:
    """Return the version of the installed ONNX Runtime package, CPU or GPU."""
    for name in distributions:
        try:
            return {"onnxruntime": importlib.metadata.version(name)}
        except importlib.metadata.PackageNotFoundError:
            continue
    return {}


def _commit() -> str | None:
    """Return the commit of the training code, with ``-dirty`` after local changes."""
    commit = _git("rev-parse", "HEAD")
    return f"{commit}-dirty" if commit and _git("status", "--porcelain", "--", ".") else commit


def _git(*words: str) -> str | None:
    git = shutil.which("git")
    if git is None:
        return None
    found = subprocess.run(  # noqa: S603 - fixed commands
        [git, *words], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or None
