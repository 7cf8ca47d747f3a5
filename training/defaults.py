"""What a drafted recipe fits with, by the number of rows: measured on the public data sets."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from training.recipe import Family, Feature
from training.tabular import Floats

_FEW_ROWS = 30
_SMALL_TABLE = 200
_MLP_FROM_ROWS = 1000
_LARGE_TABLE = 100_000
_FOLDS = 10
_ROWS_SEEN = 2_000_000
_WIDE_TABLE = 30
_VERY_WIDE_TABLE = 100


def default_family(rows: int, *, classes: bool) -> Family:
    """An MLP where there are rows enough for one."""
    if rows >= _MLP_FROM_ROWS:
        return "mlp"
    return "logistic" if classes else "linear"


def default_split(target: Floats, *, classes: bool) -> dict[str, Any]:
    """A fifth for the test; of a small table folds as well, of a tiny one folds alone."""
    rows = len(target)
    most_folds = int(np.bincount(target.astype(int)).min()) if classes else rows
    folds = max(min(_FOLDS, most_folds), 2)
    if rows < _FEW_ROWS:
        return {"test": 0.0, "folds": folds if classes else rows}
    if rows < _SMALL_TABLE:
        return {"test": 0.2, "folds": folds}
    return {"test": 0.2, "validation": 0.1}


def default_network(
    family: Family, rows: int, features: Sequence[Feature], *, classes: bool
) -> dict[str, Any]:
    """The family's layers; the more columns, the fewer views of each number.

    Labels carry less information than quantities, so their network is smaller and drops more.
    """
    if family != "mlp":
        return {"family": family}
    numbers = sum(feature.type in ("number", "integer") for feature in features)
    return {
        "family": family,
        "hidden": [64] if classes else [128, 64],
        "dropout": 0.5 if classes else 0.2,
        "embedding": "piecewise-linear" if numbers <= _VERY_WIDE_TABLE else "none",
        "bins": 32 if numbers <= _WIDE_TABLE else 8,
        "members": 1 if rows > _LARGE_TABLE else 4,
    }


def default_training(family: Family, rows: int, *, classes: bool) -> dict[str, Any]:
    """The optimum where there is one to find; else as many epochs as the rows' number allows."""
    if family == "perceptron":
        return {"optimiser": "SGD", "learning_rate": 1.0, "epochs": 100, "batch_size": 1}
    if family == "mlp":
        return {
            "optimiser": "AdamW",
            "learning_rate": 0.001 if classes else 0.002,
            "weight_decay": 0.01,
            "schedule": "one-cycle",
            "epochs": int(np.clip(_ROWS_SEEN // rows, 3, 30)),
            "batch_size": 256 if rows < _LARGE_TABLE else 2048,
        }
    return {
        "optimiser": "LBFGS",
        "learning_rate": 1.0,
        "epochs": 100,
        "patience": 3,
        "l2": 1e-4,
        "precision": 64,
    }
