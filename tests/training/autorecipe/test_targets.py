"""Inferred targets: which cells are one label, and which words are labels."""

import math
from pathlib import Path

import pytest

from service.tabletext import MISSING
from training.autorecipe.draft import Draft, draft
from training.autorecipe.targets import find_missing_words
from training.data.csv import UNKNOWN, create_layout, read_csv
from training.data.table import encode_target, with_target


def _draft(folder: Path, cells: list[str], family: str | None = None) -> Draft:
    """Draft a recipe for a table with these cells as the target `y`."""
    path = folder / "table.csv"
    lines = [f"{k % 17},{cell}" for k, cell in enumerate(cells)]
    path.write_text("\n".join(["x,y", *lines, ""]), encoding="utf-8")
    return draft(read_csv(path, UNKNOWN), str(path), "y", "table", family)


def _encode(drafted: Draft) -> list[float]:
    """The target of each row, as the drafted recipe reads the table."""
    recipe = drafted.recipe
    table = read_csv(Path(str(recipe.data.file)), create_layout(recipe.data))
    return list(encode_target(with_target(table, recipe.target), recipe.target))


@pytest.mark.parametrize(
    ("spellings", "labels", "positions"),
    [
        (["0", "0.0", "1", "1.0"], ["0", "1"], [0, 0, 1, 1]),
        (["1.0", "1", "2.0", "2", "3.0", "3"], ["1", "2", "3"], [0, 0, 1, 1, 2, 2]),
        (["-1", "-1.0", "+1", "1"], ["-1", "1"], [0, 0, 1, 1]),
        (["low", "1", "1.0", "high"], ["1", "high", "low"], [2, 0, 0, 1]),
        (["01", "1", "02"], ["01", "1", "02"], [0, 1, 2]),
    ],
)
def test_labels_of_the_same_number_are_one_label(
    tmp_path: Path, spellings: list[str], labels: list[str], positions: list[int]
) -> None:
    """1 and 1.0 are one label, unless leading zeros show that the labels are codes."""
    drafted = _draft(tmp_path, spellings * 20)

    assert drafted.recipe.target.labels == labels
    assert _encode(drafted) == [float(position) for position in positions] * 20


def test_a_class_in_another_notation_is_not_dropped(tmp_path: Path) -> None:
    """Rare labels are dropped, but not the rare spelling of a frequent one."""
    drafted = _draft(tmp_path, [*["1", "2"] * 30, "2.0", "7"])

    assert drafted.recipe.target.labels == ["1", "2"]
    assert _encode(drafted) == [*[0.0, 1.0] * 30, 1.0]


@pytest.mark.parametrize("cell", ["-1", "-0.01", "-3000000"])
def test_a_few_negative_numbers_in_a_skewed_target_are_reported(tmp_path: Path, cell: str) -> None:
    """They may be errors, since without them the logarithm would be fitted."""
    cells = [f"{math.expm1(k % 40 / 10):.4f}" for k in range(400)]
    positive = _draft(tmp_path, cells)
    cells[41] = cell
    drafted = _draft(tmp_path, cells)

    assert positive.recipe.target.log
    assert not drafted.recipe.target.log
    assert [text for text in drafted.remarks if "1 negative number (row 42)" in text]


@pytest.mark.parametrize("family", ["linear", "gradient-boosting"])
@pytest.mark.parametrize("unit", ["", " kg", " %"])
def test_the_logarithm_of_a_skewed_target_is_fitted(tmp_path: Path, family: str, unit: str) -> None:
    """Plain and with a unit, by every family."""
    cells = [f"{math.expm1(k % 40 / 10):.4f}{unit}" for k in range(400)]

    assert _draft(tmp_path, cells, family).recipe.target.log


def test_a_target_with_many_negative_numbers_has_no_remark(tmp_path: Path) -> None:
    """They are no errors."""
    cells = [f"{math.expm1(k % 40 / 10) * (-1) ** (k % 9 == 0):.4f}" for k in range(400)]

    assert not [text for text in _draft(tmp_path, cells).remarks if "negative" in text]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"zone": ["APAC", "EUR", "LATAM", "NA"]}, {"NA"}),
        ({"roof": ["Gable", "None"], "price": ["1.5", "2"]}, {"None"}),
        ({"zone": ["EUR", "NA"], "land": ["DE", "NA"]}, {"NA"}),
        ({"zone": ["EUR", "NA"], "size": ["1.5", "2", "3", "4", "5", "6", "NA"]}, set()),
        ({"zone": [*["EUR", "LATAM"] * 15, "NA"]}, set()),
        ({"paid": ["true", "false", "NA"]}, set()),
        ({"zone": ["EUR", "N/A"]}, set()),
    ],
)
@pytest.mark.parametrize("is_target", [True, False])
def test_a_word_for_missing_values_may_be_a_word(
    tmp_path: Path, columns: dict[str, list[str]], words: set[str], *, is_target: bool
) -> None:
    """If it is as frequent as the others of its column, and in no column of numbers."""
    path = tmp_path / "table.csv"
    cells = [[choices[k % len(choices)] for choices in columns.values()] for k in range(120)]
    lines = [f"{k % 7},{','.join(row)},{k % 11}" for k, row in enumerate(cells)]
    path.write_text("\n".join(["x," + ",".join(columns) + ",y", *lines, ""]))

    missing = find_missing_words(read_csv(path, UNKNOWN), next(iter(columns)) if is_target else "y")

    assert set(MISSING) - set(missing) == words
