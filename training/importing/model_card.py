"""The card of an imported model, completed from its graph and a table."""

from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto

from training.autorecipe.draft import model_name
from training.data.table import (
    Column,
    Dataset,
    Floats,
    Table,
    encode_features,
    learn_columns,
    with_target,
)
from training.errors import DataError, ImportRejected
from training.importing.graph import WHOLE, WORDS, ForeignGraph
from training.recipe.loader import parse_card
from training.recipe.table import Card, Feature

_DRAWN_ROWS = 64


def complete_card(
    path: Path, document: dict[str, Any], foreign: ForeignGraph, table: Table | None
) -> Card:
    """The card, completed from the names and types of the graph and the header of the table.

    Raises:
        ImportRejected: names or types are missing, or do not match the graph.
        RecipeError: the card has invalid keys.
    """
    if not _is_formed(document):
        return parse_card(document, path.name)  # raises with all problems
    target = {"column": "prediction"} | document.get("target", {})
    features = document.get("features") or [
        {"name": name} for name in _column_names(foreign, table, target["column"])
    ]
    width = foreign.width or len(features)
    if len(features) != width:
        names = ", ".join(str(feature.get("name")) for feature in features)
        raise ImportRejected(
            f"it takes {width} columns, but {len(features)} are named: {names}. "
            "Name each with --features, in the graph's order."
        )
    kinds = foreign.column_types if foreign.width else foreign.column_types * width
    typed = [{"type": _feature_type(kind)} | f for f, kind in zip(features, kinds, strict=True)]
    defaults = {"name": model_name(path.stem), "title": path.stem}
    card = parse_card(defaults | document | {"target": target, "features": typed}, path.name)
    for feature, kind in zip(card.features, kinds, strict=True):
        _check_type(feature, kind)
    return card if table is None else _with_words(card, table)


def verification_rows(card: Card, table: Table | None) -> Dataset:
    """Rows for verification: those of the table, else random ones within the allowed ranges."""
    columns = [Column(feature, tuple(feature.categories)) for feature in card.features]
    if table is None:
        generator = np.random.default_rng(0)
        drawn = [_drawn(feature, generator) for feature in card.features]
        features = np.column_stack(drawn).astype(np.float32)
    else:
        features = encode_features(labelled(card, table), columns)
    empty = np.flatnonzero(np.isnan(features).all(axis=0))
    if len(empty):
        name = card.features[empty[0]].name
        raise DataError(f"All cells of {name!r} are empty; give rows that have some.")
    return Dataset(columns, features, np.zeros(len(features)))


def labelled(card: Card, table: Table) -> Table:
    """The rows with a target, or all if the table has no such column."""
    return with_target(table, card.target) if card.target.column in table.frame.columns else table


def _is_formed(document: dict[str, Any]) -> bool:
    """Whether the sections of the document are tables."""
    target, features = document.get("target", {}), document.get("features", [])
    listed = isinstance(features, list) and all(isinstance(one, dict) for one in features)
    return isinstance(target, dict) and listed


def _column_names(foreign: ForeignGraph, table: Table | None, target: str) -> list[str]:
    if foreign.column_names:
        return foreign.column_names
    if table is not None:
        return [name for name in table.frame.columns if name != target]
    raise ImportRejected(
        f"it takes {foreign.width or 'any number of'} columns without names. Name them with "
        "--features, in the graph's order, or give a table of them with --csv."
    )


def _feature_type(kind: int) -> str:
    if kind == WORDS:
        return "category"
    if kind in WHOLE:
        return "integer"
    return "boolean" if kind == TensorProto.BOOL else "number"


def _check_type(feature: Feature, kind: int) -> None:
    if kind == WORDS and feature.type != "category":
        raise ImportRejected(f"{feature.name!r} is a string input, so its type must be category.")
    if kind in WHOLE and feature.type == "number":
        raise ImportRejected(f"{feature.name!r} is an integer input, so its type must be integer.")
    if feature.optional and kind in (*WHOLE, TensorProto.BOOL):
        raise ImportRejected(f"{feature.name!r} is an integer input, so it cannot be optional.")


def _with_words(card: Card, table: Table) -> Card:
    """The card with the categories of the table, for features that list none."""
    every = np.arange(table.frame.height)
    columns = learn_columns(table, card.features, every)
    return card.model_copy(
        update={
            "features": [
                column.feature.model_copy(update={"categories": list(column.categories)})
                for column in columns
            ]
        }
    )


def _drawn(feature: Feature, generator: np.random.Generator) -> Floats:
    if feature.type == "boolean":
        return generator.integers(0, 2, _DRAWN_ROWS).astype(np.float64)
    if feature.type == "category" and feature.categories:
        return generator.integers(0, len(feature.categories), _DRAWN_ROWS).astype(np.float64)
    if feature.minimum is None or feature.maximum is None:
        wanted = "categories" if feature.type == "category" else "minimum and maximum"
        raise ImportRejected(
            f"there are no rows to verify it with. Give some with --csv, or describe every feature "
            f"with --card: {feature.name!r} has no {wanted}."
        )
    drawn = generator.uniform(feature.minimum, feature.maximum, _DRAWN_ROWS)
    return drawn.round() if feature.type == "integer" else drawn
