"""The sections of a drafted recipe that depend on the family."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from service.bundle.manifest import BINARY
from training.recipe.families import TABLE_FAMILIES
from training.recipe.table import Feature

_MLP_FROM_ROWS = 1000
_MEDIUM_TABLE = 10_000
_LARGE_TABLE = 100_000
_SEVERAL_FITS_BELOW = 50_000
_ROWS_SEEN = 2_000_000
_WIDE_TABLE = 30
_VERY_WIDE_TABLE = 100
_MIN_PENALTY = 1e-4
# A date has its days, and its positions in the year and in the day.
_NUMBERS_OF_TYPES = {"number": 1, "integer": 1, "datetime": 3}
_LEAVES = 16
# Of one variant; a node has 32 bytes.
_NODES = 30_000
_NODES_FOR_MANY_LABELS = 90_000
_SEVERAL_LABELS = 5
_MEMBERS = 3
# Trees of 64 leaves were never the best on smaller tables.
_LARGE_TREES_FROM = 2_000
# Times columns per row; had the lowest log loss on tables with 30 to 199 columns.
_PENALTY = 0.005


def choose_sections(
    family: str, rows: int, features: Sequence[Feature], labels: int
) -> dict[str, Any]:
    """Return the sections of a recipe that depend on the family."""
    sections: dict[str, Any] = {"network": choose_network(family, rows, features, labels)}
    sections["preprocessing"] = {"rotated": _find_coordinates(features)}
    if family == "gradient-boosting":
        return sections | {"boosting": choose_boosting(rows, labels)}
    return sections | {
        "training": choose_training(family, rows, len(features), labels),
    }


def choose_boosting(rows: int, labels: int, leaves: int = _LEAVES) -> dict[str, Any]:
    """Return the boosting section for trees of a size, with smaller leaves for few rows."""
    many = labels > _SEVERAL_LABELS
    return {
        "max_leaf_nodes": leaves,
        "learning_rate": 0.2 if many else 0.1,
        "max_iter": int(np.clip(_limit_nodes(labels) // count_nodes(labels, leaves, 1), 10, 500)),
        "min_samples_leaf": 5 if rows < _MLP_FROM_ROWS else 10 if rows < _MEDIUM_TABLE else 20,
    }


def list_boosting_variants(rows: int, labels: int) -> list[dict[str, Any]]:
    """Return the boosting sections to compare: small trees, for noisy targets, to large ones."""
    return [choose_boosting(rows, labels, leaves) for leaves in _list_leaves(rows, labels)]


def count_members(rows: int, labels: int, leaves: int, trees: int) -> int:
    """Return of how many fits with other seeds the trees still fit into a bundle, at most three.

    Their mean is better than one by a percent on small tables.
    """
    if rows >= _SEVERAL_FITS_BELOW:
        return 1
    return int(np.clip(_limit_nodes(labels) // count_nodes(labels, leaves, trees), 1, _MEMBERS))


def count_nodes(labels: int, leaves: int, iterations: int) -> int:
    """Return the most nodes of the trees; more than two labels have a tree each per iteration."""
    return (2 * leaves - 1) * iterations * (labels if labels > BINARY else 1)


def _list_leaves(rows: int, labels: int) -> list[int]:
    if labels > _SEVERAL_LABELS:
        return [_LEAVES, 64]
    return [6, _LEAVES] if rows < _LARGE_TREES_FROM else [6, _LEAVES, 64]


def _limit_nodes(labels: int) -> int:
    """Return the most nodes of one variant; many labels need a tree each."""
    return _NODES_FOR_MANY_LABELS if labels > _SEVERAL_LABELS else _NODES


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
    return _choose_solver(rows, columns)


def _choose_solver(rows: int, columns: int) -> dict[str, Any]:
    """Fit to the optimum; few rows per column need a stronger penalty."""
    return {
        "optimizer": "scikit-learn",
        "learning_rate": 1.0,
        "epochs": 1,
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


def _find_coordinates(features: Sequence[Feature]) -> list[tuple[str, str]]:
    """Return the columns with the names of longitude and latitude."""
    numbers = [feature.name for feature in features if feature.type == "number"]
    longitudes = [name for name in numbers if name.lower() in ("longitude", "long", "lng", "lon")]
    latitudes = [name for name in numbers if name.lower() in ("latitude", "lat")]
    return list(zip(longitudes, latitudes, strict=False))[:1]
