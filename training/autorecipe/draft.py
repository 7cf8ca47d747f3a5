"""Draft a complete recipe for a table; the defaults were measured on the public data sets."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from service.bundle.manifest import BINARY
from service.spelling import join_names
from service.tabletext import MISSING
from training.autorecipe.columns import InferredColumn
from training.autorecipe.corrections import (
    NONE,
    Corrections,
    choose_positive,
    choose_tasks,
    correct_column,
    find_column,
)
from training.autorecipe.quality import (
    describe_format,
    describe_leaks,
    describe_missing,
    describe_rarity,
    describe_rows,
    find_leaky_columns,
)
from training.autorecipe.splits import (
    GROUP_NOTE,
    GUESSED,
    ChosenSplit,
    RequestedSplit,
    choose_split_columns,
)
from training.autorecipe.targets import find_missing_words, infer_target
from training.data.sources import public_data
from training.data.table import Floats, Table, clean_cells, encode_target, with_target
from training.errors import DataError
from training.recipe.families import TABLE_FAMILIES
from training.recipe.loader import parse_recipe
from training.recipe.table import Feature, Recipe

_SHOWN = 10
_FEW_ROWS = 30
_SMALL_TABLE = 200
_MLP_FROM_ROWS = 1000
_INTERVAL_FOLDS = 5
_MEDIUM_TABLE = 10_000
_LARGE_TABLE = 100_000
_FOLDS = 10
_FOLDS_OF_MLP = 5
_FEW_GROUPS = 100
_ROWS_SEEN = 2_000_000
_WIDE_TABLE = 30
_VERY_WIDE_TABLE = 100
_MIN_PENALTY = 1e-4
# A date has its days, and its positions in the year and in the day.
_NUMBERS_OF_TYPES = {"number": 1, "integer": 1, "datetime": 3}
# Of all labels together; more would not fit into a bundle of 4 MB.
_TREES = 1500
# Times columns per row; had the lowest log loss on tables with 30 to 199 columns.
_PENALTY = 0.005


@dataclass(frozen=True)
class Draft:
    """A recipe, with remarks on what was inferred."""

    recipe: Recipe
    columns: list[InferredColumn]
    remarks: list[str]


def draft(  # noqa: PLR0913 - what the user may choose
    table: Table,
    file: str,
    target: str,
    name: str,
    family: str | None,
    *,
    requested: RequestedSplit = GUESSED,
    corrections: Corrections = NONE,
) -> Draft:
    """Infer a complete recipe for the table.

    Args:
        table: as `read_csv` returns it.
        file: the path of the table in the recipe.
        target: the column to predict, by its name or its position from 1.
        name: of the model.
        family: of the model; None: by the target and the number of rows.
        requested: the columns that decide the split; guessed by default.
        corrections: of what is inferred.

    Raises:
        DataError: the target cannot be predicted, there is no usable feature, the table cannot be
            split as requested, or a correction does not fit the table.
    """
    column = find_column(table, target)
    corrections = corrections.resolve(table, column)
    missing = find_missing_words(table, column)
    absent = describe_missing(table, missing)
    table = replace(table, frame=clean_cells(table.frame, missing), missing=tuple(missing))
    tasks = choose_tasks(table, column, corrections.types.get(column), family)
    inferred = choose_positive(infer_target(table, column, tasks), corrections.positive)
    usable = with_target(table, inferred.target)
    y = encode_target(usable, inferred.target)
    labels = len(inferred.target.labels)
    classes = labels > 0
    chosen = choose_split_columns(usable, column, y if classes else None, requested)
    columns = _infer_columns(usable, column, chosen, corrections)
    columns = [_leave_out_dates(other, family) for other in columns]
    features = _list_features(table, column, columns)

    family = family or choose_family(len(y), classes=classes)
    split = choose_split(y, chosen, classes=classes)
    choose = inferred.rare and "validation" in split
    document = {
        "name": name,
        "title": f"{column}, from {table.name}",
        "description": f"Drafted from {table.name} by `onward new`.",
        "data": _describe_data(table, file, corrections),
        "target": inferred.target.model_dump() | ({"threshold": "f1"} if choose else {}),
        "features": [feature.model_dump() for feature in features],
        "split": split,
    }
    document |= choose_sections(family, len(y), features, labels)
    recipe = parse_recipe(document, name)
    remarks = [*describe_format(table), *corrections.describe(column), *absent]
    remarks += [*inferred.remarks, *chosen.remarks]
    remarks += describe_rows(usable, y, table.frame.height)
    return Draft(recipe, columns, [*remarks, *_describe_training(recipe, usable, y)])


def _describe_training(recipe: Recipe, table: Table, target: Floats) -> list[str]:
    """Warn of what makes the metrics misleading."""
    labels = len(recipe.target.labels)
    suspects = find_leaky_columns(table, recipe.features, target, labels)
    return [
        *describe_leaks(suspects, classes=labels > 0),
        *describe_rarity(recipe, target),
    ]


def _infer_columns(
    table: Table, target: str, chosen: ChosenSplit, corrections: Corrections
) -> list[InferredColumn]:
    """Return all columns but the target; that of the groups is not a feature."""
    if chosen.group is not None and chosen.group in corrections.types:
        raise DataError(
            f"--column {chosen.group}={corrections.types[chosen.group]}: rows with the same "
            f"{chosen.group} stay in one set, so it is not a feature. Use --split random, or "
            "another column with --group."
        )
    columns = [
        correct_column(table, name, corrections) for name in table.frame.columns if name != target
    ]
    return [
        replace(column, kind=None, note=GROUP_NOTE) if column.name == chosen.group else column
        for column in columns
    ]


def _describe_data(table: Table, file: str, corrections: Corrections) -> dict[str, Any]:
    """Return the data section: the public data set or the file, and its format."""
    data: dict[str, Any] = public_data(table) or {"file": file}
    if "file" in data and table.csv_format is not None:
        data["header"] = table.csv_format.header
        data |= corrections.given_format
    data |= asdict(table.number_format)
    if table.missing != MISSING:
        data["missing"] = list(table.missing)
    return data


def _list_features(table: Table, target: str, columns: Sequence[InferredColumn]) -> list[Feature]:
    """Return the usable columns as features; raise `DataError` if there is none."""
    features = [column.feature() for column in columns if column.kind is not None]
    if not features:
        reasons = [f"{column.name} ({column.note})" for column in columns]
        why = f"Not used: {join_names(reasons, _SHOWN)}" if reasons else "It has no other column"
        raise DataError(
            f"{table.name}: there is no usable feature to predict {target!r} from. {why}."
        )
    return features


def supports_dates(family: str) -> bool:
    """Return whether a family can have features of dates."""
    return TABLE_FAMILIES[family].fitter == "PyTorch"


def _leave_out_dates(column: InferredColumn, family: str | None) -> InferredColumn:
    if column.kind != "datetime" or family is None or supports_dates(family):
        return column
    return replace(column, kind=None, note=f"dates, which {family} does not support")


def derive_model_name(file_name: str) -> str:
    """Return a valid model name for a file name."""
    letters = unicodedata.normalize("NFKD", file_name.casefold()).encode("ascii", "ignore")
    return re.sub(r"[^a-z0-9]+", "_", letters.decode()).strip("_") or "model"


def _find_coordinates(features: Sequence[Feature]) -> list[tuple[str, str]]:
    """Return the columns with the names of longitude and latitude."""
    numbers = [feature.name for feature in features if feature.type == "number"]
    longitudes = [name for name in numbers if name.lower() in ("longitude", "long", "lng", "lon")]
    latitudes = [name for name in numbers if name.lower() in ("latitude", "lat")]
    return list(zip(longitudes, latitudes, strict=False))[:1]


def choose_family(rows: int, *, classes: bool) -> str:
    """Return an MLP if there are enough rows, else a linear family."""
    if rows >= _MLP_FROM_ROWS:
        return "mlp"
    return "logistic" if classes else "linear"


def choose_split(target: Floats, chosen: ChosenSplit, *, classes: bool) -> dict[str, Any]:
    """Return a fifth as the test set; small tables also have folds, and tiny ones only folds.

    Where the validation set is too small for prediction intervals, the model is so small that
    out-of-fold predictions cost little. A test set of few groups measures little more than which
    ones they are, so a table with few groups only has folds.
    """
    rows = len(target)
    most_folds = int(np.bincount(target.astype(int)).min()) if classes else rows
    most_folds = max(min(most_folds, chosen.max_folds or rows), 2)
    folds = min(_FOLDS, most_folds)
    if rows < _FEW_ROWS:
        return {"test": 0.0, "folds": folds if classes else most_folds} | chosen.keys
    groups = chosen.max_folds if chosen.group else None
    if groups is not None and groups < _FEW_GROUPS and rows < _LARGE_TABLE:
        validation = {} if rows < _SMALL_TABLE else {"validation": 0.1}
        count = folds if rows < _MLP_FROM_ROWS else min(folds, _FOLDS_OF_MLP)
        return {"test": 0.0, "folds": count} | validation | chosen.keys
    if rows < _SMALL_TABLE:
        split: dict[str, Any] = {"test": 0.2, "folds": folds}
    else:
        split = {"test": 0.2, "validation": 0.1}
    if not classes and rows < _MLP_FROM_ROWS:
        split["interval_folds"] = min(_INTERVAL_FOLDS, most_folds)
    return split | chosen.keys


def choose_sections(
    family: str, rows: int, features: Sequence[Feature], labels: int
) -> dict[str, Any]:
    """Return the sections of a recipe that depend on the family."""
    sections: dict[str, Any] = {"network": choose_network(family, rows, features, labels)}
    if family == "gradient-boosting":
        return sections | {"boosting": choose_boosting(rows, labels)}
    return sections | {
        "preprocessing": {"rotated": _find_coordinates(features)},
        "training": choose_training(family, rows, len(features), labels),
    }


def choose_boosting(rows: int, labels: int) -> dict[str, Any]:
    """Return the boosting section: fewer trees for many labels, smaller leaves for few rows."""
    trees = labels if labels > BINARY else 1
    return {
        "max_iter": int(np.clip(_TREES // trees, 20, 500)),
        "min_samples_leaf": 5 if rows < _MLP_FROM_ROWS else 10 if rows < _MEDIUM_TABLE else 20,
    }


def choose_network(
    family: str, rows: int, features: Sequence[Feature], labels: int
) -> dict[str, Any]:
    """Return the network section; tables with many columns have fewer bins per number.

    A binary target has less information than a number or one of many labels, so its network is
    smaller and has more dropout.
    """
    if not TABLE_FAMILIES[family].hidden_layers:
        return {"family": family}
    numbers = sum(_NUMBERS_OF_TYPES.get(feature.type, 0) for feature in features)
    return {
        "family": family,
        "hidden_layer_sizes": [64] if labels == BINARY else [128, 64],
        "dropout": 0.5 if labels == BINARY else 0.2,
        "embedding": "piecewise-linear" if numbers <= _VERY_WIDE_TABLE else "none",
        "bins": 32 if numbers <= _WIDE_TABLE else 8,
        "members": 1 if rows > _LARGE_TABLE else 4,
    }


def choose_training(family: str, rows: int, columns: int, labels: int) -> dict[str, Any]:
    """Return the training section, by the optimizer of the family."""
    optimizer = TABLE_FAMILIES[family].draft_optimizer
    if optimizer == "SGD":
        return {"optimizer": "SGD", "learning_rate": 1.0, "epochs": 100, "batch_size": 1}
    if optimizer == "AdamW":
        return _choose_mini_batches(rows, labels)
    return _choose_full_batches(rows, columns)


def _choose_full_batches(rows: int, columns: int) -> dict[str, Any]:
    """Train on full batches to the optimum; few rows per column need a stronger penalty."""
    return {
        "optimizer": "LBFGS",
        "learning_rate": 1.0,
        "epochs": 100,
        "patience": 3,
        "l2": max(_MIN_PENALTY, float(f"{_PENALTY * columns / rows:.1g}")),
        "precision": 64,
    }


def _choose_mini_batches(rows: int, labels: int) -> dict[str, Any]:
    """Train on mini-batches; small tables have more epochs, and many labels smaller batches."""
    return {
        "optimizer": "AdamW",
        "learning_rate": 0.001 if labels == BINARY else 0.002,
        "weight_decay": 0.01,
        "schedule": "one-cycle",
        "epochs": int(np.clip(_ROWS_SEEN // rows, 3, 30)),
        "batch_size": _choose_batch_size(rows, labels),
    }


def _choose_batch_size(rows: int, labels: int) -> int:
    if rows >= _LARGE_TABLE:
        return 2048
    return 64 if labels > BINARY and rows < _MEDIUM_TABLE else 256
