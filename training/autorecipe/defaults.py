"""What a drafted recipe fits with, by the number of rows: measured on the public data sets."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from training.data.table import Floats
from training.recipe.table import Family, Feature

_FEW_ROWS = 30
_SMALL_TABLE = 200
_MLP_FROM_ROWS = 1000
_INTERVAL_FOLDS = 5
_MEDIUM_TABLE = 10_000
_LARGE_TABLE = 100_000
_BINARY = 2
_FOLDS = 10
_ROWS_SEEN = 2_000_000
_WIDE_TABLE = 30
_VERY_WIDE_TABLE = 100
_LEAST_PENALTY = 1e-4
_PENALTY = 0.005
"""Times columns for each row: the least log loss on tables of 30 to 199 columns."""


def default_family(rows: int, *, classes: bool) -> Family:
    """An MLP where there are rows enough for one."""
    if rows >= _MLP_FROM_ROWS:
        return "mlp"
    return "logistic" if classes else "linear"


def default_split(target: Floats, *, classes: bool) -> dict[str, Any]:
    """A fifth for the test; of a small table folds as well, of a tiny one folds alone.

    Where the validation part is too small to tell how far the truth may lie from a quantity, the
    network is so small that fitting it a few times more costs little.
    """
    rows = len(target)
    most_folds = int(np.bincount(target.astype(int)).min()) if classes else rows
    folds = max(min(_FOLDS, most_folds), 2)
    if rows < _FEW_ROWS:
        return {"test": 0.0, "folds": folds if classes else rows}
    if rows < _SMALL_TABLE:
        split: dict[str, Any] = {"test": 0.2, "folds": folds}
    else:
        split = {"test": 0.2, "validation": 0.1}
    if not classes and rows < _MLP_FROM_ROWS:
        split["interval_folds"] = _INTERVAL_FOLDS
    return split


def default_network(
    family: Family, rows: int, features: Sequence[Feature], labels: int
) -> dict[str, Any]:
    """The family's layers; the more columns, the fewer views of each number.

    One of two labels carries less information than a quantity or one of many labels, so its network
    is smaller and drops more.
    """
    if family != "mlp":
        return {"family": family}
    numbers = sum(feature.type in ("number", "integer") for feature in features)
    return {
        "family": family,
        "hidden": [64] if labels == _BINARY else [128, 64],
        "dropout": 0.5 if labels == _BINARY else 0.2,
        "embedding": "piecewise-linear" if numbers <= _VERY_WIDE_TABLE else "none",
        "bins": 32 if numbers <= _WIDE_TABLE else 8,
        "members": 1 if rows > _LARGE_TABLE else 4,
    }


def default_training(family: Family, rows: int, columns: int, labels: int) -> dict[str, Any]:
    """The optimum where there is one to find; else as many epochs as the rows' number allows.

    Many labels of few rows need more steps, and many columns of few rows a stronger penalty.
    """
    if family == "perceptron":
        return {"optimiser": "SGD", "learning_rate": 1.0, "epochs": 100, "batch_size": 1}
    if family == "mlp":
        return {
            "optimiser": "AdamW",
            "learning_rate": 0.001 if labels == _BINARY else 0.002,
            "weight_decay": 0.01,
            "schedule": "one-cycle",
            "epochs": int(np.clip(_ROWS_SEEN // rows, 3, 30)),
            "batch_size": _batch_size(rows, labels),
        }
    return {
        "optimiser": "LBFGS",
        "learning_rate": 1.0,
        "epochs": 100,
        "patience": 3,
        "l2": max(_LEAST_PENALTY, float(f"{_PENALTY * columns / rows:.1g}")),
        "precision": 64,
    }


def _batch_size(rows: int, labels: int) -> int:
    if rows >= _LARGE_TABLE:
        return 2048
    return 64 if labels > _BINARY and rows < _MEDIUM_TABLE else 256
