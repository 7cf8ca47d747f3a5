"""Columns that leak the target are reported; strong features are not."""

import numpy as np
import polars as pl
import pytest

from training.autorecipe.quality import find_leaky_columns
from training.data.table import Floats, Table
from training.recipe.table import Feature

_ROWS = 400
_GENERATOR = np.random.default_rng(1)
_NOISE = _GENERATOR.normal(size=_ROWS)
_BINARY = (np.arange(_ROWS) % 2).astype(np.float64)
_THREE = (np.arange(_ROWS) % 3).astype(np.float64)
_RARE = (np.arange(_ROWS) % 40 == 0).astype(np.float64)
_QUANTITY = _GENERATOR.normal(size=_ROWS)


def _suspected(cells: list[str], kind: str, target: Floats, labels: int) -> bool:
    frame = pl.DataFrame({"x": [cell or None for cell in cells]})
    feature = Feature.model_validate({"name": "x", "type": kind, "optional": True})
    return find_leaky_columns(Table("t", frame, "0"), [feature], target, labels) == ["x"]


def _written(numbers: Floats) -> list[str]:
    return [f"{number:.4f}" for number in numbers]


@pytest.mark.parametrize(
    ("cells", "kind", "target", "labels"),
    [
        (_written(_BINARY * 10 + _NOISE), "number", _BINARY, 2),
        (_written(_RARE * 10 + _NOISE), "number", _RARE, 2),
        (_written((_THREE - 1) ** 2 * 20 + _THREE * 9 + _NOISE / 2), "number", _THREE, 3),
        ([("stay", "go")[int(y)] for y in _BINARY], "category", _BINARY, 2),
        ([("", "2024")[int(y)] for y in _BINARY], "integer", _BINARY, 2),
        ([("true", "false")[int(y)] for y in _RARE], "boolean", _RARE, 2),
        (_written(np.exp(_QUANTITY)), "number", _QUANTITY, 0),
        ([f"w{v:.0f}" for v in _THREE], "category", _THREE * 10, 0),
    ],
)
def test_leaky_columns_are_found(cells: list[str], kind: str, target: Floats, labels: int) -> None:
    """A noisy multiple, a renamed label, missing values, or an increasing function."""
    assert _suspected(cells, kind, target, labels)


@pytest.mark.parametrize(
    ("cells", "kind", "target", "labels"),
    [
        (_written(_BINARY * 2 + _NOISE), "number", _BINARY, 2),
        (_written(_NOISE), "number", _RARE, 2),
        ([f"w{k % 90}" for k in range(_ROWS)], "category", _NOISE.round() % 2, 2),
        (["1", "2", *[""] * (_ROWS - 2)], "integer", _QUANTITY, 0),
        (["1", "2", *[""] * (_ROWS - 2)], "integer", _BINARY, 2),
        (_written(_QUANTITY + _NOISE / 4), "number", _QUANTITY, 0),
    ],
)
def test_good_features_are_not_leaks(
    cells: list[str], kind: str, target: Floats, labels: int
) -> None:
    """Nor are many different words, nor two cells of four hundred."""
    assert not _suspected(cells, kind, target, labels)


def test_a_large_table_is_checked_by_a_sample() -> None:
    """Ten thousand of a hundred thousand rows give the same result."""
    target = (np.arange(100_000) % 2).astype(np.float64)

    assert _suspected([f"{y * 3:.0f}" for y in target], "integer", target, 2)
