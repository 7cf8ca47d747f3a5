"""Tables encoded as numbers: types, missing values, categories, and errors for invalid cells."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from training.data.csv import UNCHANGED, read_csv
from training.data.table import (
    Column,
    Table,
    encode_column,
    encode_features,
    encode_target,
    learn_columns,
    table_from_rows,
    with_target,
)
from training.errors import DataError
from training.recipe.table import Feature, Target

_EVERYTHING = np.arange(3)


def _table(**columns: list[str | None]) -> Table:
    return Table("people.csv", pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String)), "0")


def test_each_type_is_encoded_as_a_number() -> None:
    """Booleans are 1 and 0, categories are positions, and missing values are NaN."""
    table = _table(n=["1.5", None, "1e3"], b=["Yes", "false", None], c=["x", "y", None])
    features = [
        Feature(name="n", type="number", optional=True),
        Feature(name="b", type="boolean", optional=True),
        Feature(name="c", type="category", categories=["y", "x"], optional=True),
    ]

    encoded = encode_features(table, learn_columns(table, features, _EVERYTHING))

    expected = [[1.5, 1, 1], [np.nan, 0, 0], [1000, np.nan, np.nan]]
    np.testing.assert_array_equal(encoded, np.array(expected, dtype=np.float32))


def test_categories_are_learned_from_the_training_set_only() -> None:
    """A word that is only in other sets is an unknown category."""
    table = _table(c=["b", "a", "z"])

    columns = learn_columns(table, [Feature(name="c", type="category")], np.array([0, 1]))

    assert columns[0].categories == ("a", "b")
    assert encode_features(table, columns)[:, 0].tolist() == [1, 0, -1]


def test_the_error_for_an_invalid_cell_has_its_row_and_column() -> None:
    """Text in a numeric column is rejected."""
    table = _table(age=["36", "old", "old"])

    with pytest.raises(DataError, match=r"row 2, column 'age': 'old' is not a number.*2 such"):
        encode_features(
            table, learn_columns(table, [Feature(name="age", type="number")], _EVERYTHING)
        )


@pytest.mark.parametrize("cell", ["inf", "-Infinity", "NaN.", "1,5", "0x10", "1e39"])
def test_infinities_are_not_numbers(cell: str) -> None:
    """Other decimal separators, hexadecimal numbers and numbers outside float32 are rejected."""
    table = _table(age=["36", cell, "1"])

    with pytest.raises(DataError, match="is not a number"):
        encode_features(
            table, learn_columns(table, [Feature(name="age", type="number")], _EVERYTHING)
        )


def test_missing_cells_need_an_optional_feature() -> None:
    """Missing values of a required feature are rejected."""
    table = _table(age=["36", None, None])

    with pytest.raises(DataError, match=r"row 2: 'age' has 2 empty cells"):
        encode_features(
            table, learn_columns(table, [Feature(name="age", type="number")], _EVERYTHING)
        )


def test_rows_without_a_target_are_dropped() -> None:
    """They cannot be used for training."""
    table = _table(x=["1", "2", "3"], y=["no", None, "yes"])
    target = Target(column="y", labels=["no", "yes"])

    rows = with_target(table, target)

    assert rows.frame["x"].to_list() == ["1", "3"]
    assert encode_target(rows, target).tolist() == [0, 1]


def test_rows_are_numbered_as_in_the_file() -> None:
    """Dropped rows count, so that a message has the row number of the file."""
    table = _table(x=["1", "2", "old"], y=["no", None, "yes"])
    target = Target(column="y", labels=["no", "yes"])
    rows = with_target(table, target)

    assert [rows.row_number(row) for row in range(2)] == [1, 3]
    with pytest.raises(DataError, match="row 3, column 'x': 'old' is not a number"):
        encode_features(rows, learn_columns(rows, [Feature(name="x", type="number")], _EVERYTHING))


def test_an_unknown_label_is_rejected_or_dropped() -> None:
    """The recipe specifies what happens to rows of other classes."""
    table = _table(y=["no", "perhaps", "yes"])

    with pytest.raises(DataError, match=r"row 2: the target 'y' is 'perhaps'"):
        encode_target(table, Target(column="y", labels=["no", "yes"]))

    dropping = Target(column="y", labels=["no", "yes"], others="drop")
    assert with_target(table, dropping).frame.height == 2


def test_the_case_of_labels_can_be_ignored() -> None:
    """With `ignore_case` all spellings are one label, and other classes are still dropped."""
    table = _table(y=["YES", "no", "Maybe", "yes"])
    target = Target(column="y", labels=["No", "Yes"], ignore_case=True, others="drop")

    assert encode_target(with_target(table, target), target).tolist() == [1, 0, 1]


def test_the_error_for_an_unknown_column_lists_the_columns() -> None:
    """The message also suggests a similar name."""
    table = _table(churned=["1", "2", "3"])

    with pytest.raises(DataError, match="no column 'z'; its columns: churned"):
        with_target(table, Target(column="z"))
    with pytest.raises(DataError, match=r"no column 'Churn' \(did you mean 'churned'\?\)"):
        with_target(table, Target(column="Churn"))


def test_the_rows_of_a_recipe_must_have_equal_lengths() -> None:
    """The message has the number of the row."""
    with pytest.raises(DataError, match="row 2 has 1 cell, not 2"):
        table_from_rows([[1, 2], [3]], ["x", "y"])


def test_words_of_an_unchanged_table_are_matched_as_they_are(tmp_path: Path) -> None:
    """Then without blanks; other words for missing values are missing, as the service reads them.

    Numbers are read as in other tables.
    """
    path = tmp_path / "rows.csv"
    path.write_text('word,number\n b,1\nb, 2 \nNone,NA\nNA,\n" c ",3\n')
    table = read_csv(path, UNCHANGED)
    word = Feature(name="word", type="category", unseen="other", optional=True)
    number = Feature(name="number", type="number", optional=True)

    words = encode_column(table, Column(word, (" b", "b", "None", "c")))
    numbers = encode_column(table, Column(number))

    np.testing.assert_array_equal(words, [0, 1, 2, np.nan, 3])
    np.testing.assert_array_equal(numbers, [1, 2, np.nan, np.nan, 3])
    assert table.clean().frame["word"].to_list() == ["b", "b", None, None, "c"]
