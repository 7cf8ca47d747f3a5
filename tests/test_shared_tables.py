"""Tables of other people: each column has the right type, and is read alike by the service."""

import json
from pathlib import Path

import pytest

from tests.same_reading import draft_table, require_same_reading
from training.errors import DataError

TABLES = Path(__file__).parents[2] / "shared" / "cases" / "tables"
_NUMBERS = "number number"
# The types of the features, and the labels if the target has any.
EXPECTED: dict[str, tuple[str, list[str]]] = {
    "cities150": ("category number", []),
    "classes60": (_NUMBERS, [f"k{k:02}" for k in range(60)]),
    "comma_quoted_decimals": (_NUMBERS, []),
    "currency_millions": ("integer integer", []),
    "dup_names": ("number number number", []),
    "ecodes": ("category number", []),
    "escapes": ("category number", []),
    "euro": ("number integer", []),
    "excel_errors": (_NUMBERS, []),
    "german_dates": ("datetime category integer integer", []),
    "german_ints": ("category integer integer", []),
    "inches": ("integer number", []),
    "label_forms": ("number", ["0", "1"]),
    "latin1": ("category number", []),
    "line30": ("integer", []),
    "ludwig2467": ("category number", []),
    "many_strays": ("number number number", []),
    "minus_sign": ("number number number", []),
    "more_names": (_NUMBERS, []),
    "na_region": ("category number", []),
    "na_target": ("number", ["APAC", "EUR", "LATAM", "NA"]),
    "one_padded": (_NUMBERS, []),
    "openml_quotes": ("category category", ["no-recurrence", "recurrence"]),
    "padded_words": ("category integer", []),
    "population": ("category integer integer", []),
    "quote_balance": ("integer category", []),
    "sci": ("number", []),
    "sequential_ids": ("number", ["a", "b"]),
    "shuffled_index": (_NUMBERS, ["setosa", "versicolor", "virginica"]),
    "slots": ("datetime datetime category number", []),
    "strays": (_NUMBERS, []),
    "three_frauds": ("number", ["0", "1"]),
    "titles": (_NUMBERS, []),
    "trailing": (_NUMBERS, []),
    "units": ("integer number integer", []),
    "us_thousands": ("number integer", []),
    "yes_variants": ("category number", []),
    "zips": ("category integer", []),
}


def _target(name: str) -> str:
    if not TABLES.is_dir():
        pytest.skip(f"{TABLES} is missing")
    targets: dict[str, str] = json.loads((TABLES / "targets.json").read_text())
    return targets[name]


@pytest.mark.parametrize("name", EXPECTED)
def test_a_table_has_the_right_types_and_one_reading(name: str) -> None:
    """Training, CSV and JSON read the same number from each cell."""
    target = _target(name)
    path = TABLES / f"{name}.csv"
    kinds, labels = EXPECTED[name]

    recipe = draft_table(path, target)

    assert [feature.type for feature in recipe.features] == kinds.split()
    assert recipe.target.labels == labels
    require_same_reading(path, recipe)


def test_a_target_of_free_text_is_rejected() -> None:
    """The message says that labels must repeat."""
    target = _target("text_target")

    with pytest.raises(DataError, match="240 different values, of which 0 occur 5 times"):
        draft_table(TABLES / "text_target.csv", target)
