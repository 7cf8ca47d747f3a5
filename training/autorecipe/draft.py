"""Draft a complete recipe for a table; the defaults were measured on the public data sets."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from service.spelling import join_names
from service.tabletext import MISSING
from training.autorecipe.columns import ROW_NUMBER, InferredColumn
from training.autorecipe.corrections import (
    NONE,
    Corrections,
    choose_positive,
    choose_tasks,
    correct_column,
    find_column,
)
from training.autorecipe.quality import (
    describe_duplicates,
    describe_format,
    describe_leaks,
    describe_missing,
    describe_rarity,
    describe_skipped_rows,
    find_leaky_columns,
)
from training.autorecipe.sections import choose_sections
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
from training.recipe.loader import parse_recipe
from training.recipe.table import Feature, Recipe

_SHOWN = 10
_FEW_ROWS = 30
_SMALL_TABLE = 200
_MLP_FROM_ROWS = 1000
_CROSS_VALIDATED = 5_000
_LARGE_TABLE = 100_000
# More rows would hardly change the model.
_REFITTED = 200_000
_FOLDS = 10
_FEWER_FOLDS = 5
_FEW_GROUPS = 100


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
        table: as `read_table` returns it.
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
    features = _list_features(table, column, columns)

    family = family or choose_family(len(y), classes=classes)
    split = choose_split(y, chosen, classes=classes)
    document = {
        "name": name,
        "title": f"{column}, from {table.name}",
        "description": f"Drafted from {table.name} by onward new.",
        "data": _describe_data(table, file, corrections),
        "target": inferred.target.model_dump(),
        "features": [feature.model_dump() for feature in features],
        "split": split,
    }
    document |= choose_sections(family, len(y), features, labels)
    recipe = parse_recipe(document, name)
    remarks = [*describe_format(table), *corrections.describe(column), *absent]
    remarks += [*inferred.remarks, *chosen.remarks]
    remarks += describe_skipped_rows(len(y), table.frame.height)
    remarks += describe_duplicates(usable)
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
    if not any(column.kind for column in columns):
        columns = [
            replace(column, kind="integer", note=f"{ROW_NUMBER}, but the only column")
            if column.note == ROW_NUMBER
            else column
            for column in columns
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


def derive_model_name(file_name: str) -> str:
    """Return a valid model name for a file name."""
    letters = unicodedata.normalize("NFKD", file_name.casefold()).encode("ascii", "ignore")
    return re.sub(r"[^a-z0-9]+", "_", letters.decode()).strip("_") or "model"


def choose_family(rows: int, *, classes: bool) -> str:
    """Return an MLP if there are enough rows, else a linear family."""
    if rows >= _MLP_FROM_ROWS:
        return "mlp"
    return "logistic" if classes else "linear"


def choose_split(target: Floats, chosen: ChosenSplit, *, classes: bool) -> dict[str, Any]:
    """Return folds for small tables, and a test set for others.

    Folds measure the model on all rows, so that few rows give an exact figure; a test set of few
    groups would measure little more than which ones they are. After the measurement on a test set,
    the model is fitted again to all rows. In the order of time, the newest rows are the test set
    of every table, because they are most like those that the model will predict.
    """
    rows = len(target)
    rarest = int(np.bincount(target.astype(int)).min()) if classes else rows
    most_folds = min(rows, chosen.max_folds or rows)
    if rows < _FEW_ROWS:
        folds = min(_FOLDS, rarest) if classes else most_folds
        return {"test": 0.0, "folds": max(min(folds, most_folds), 2)} | chosen.keys
    groups = chosen.max_folds if chosen.group else None
    few_groups = groups is not None and groups < _FEW_GROUPS and rows < _LARGE_TABLE
    if few_groups or (rows < _CROSS_VALIDATED and "time" not in chosen.keys):
        folds = _FOLDS if rows < _SMALL_TABLE else _FEWER_FOLDS
        return {"test": 0.0, "folds": max(min(folds, most_folds), 2)} | chosen.keys
    split: dict[str, Any] = {"test": 0.2}
    if rows >= _SMALL_TABLE:
        split["validation"] = 0.1
    if rows < _REFITTED:
        split["refit"] = True
    return split | chosen.keys
