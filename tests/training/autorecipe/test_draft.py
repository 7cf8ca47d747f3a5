"""Drafted recipes: column types, targets, warnings, and unusable columns."""

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.recipes import read_recipe
from training.autorecipe.draft import Draft, derive_model_name, draft
from training.autorecipe.quality import describe_fit
from training.data.csv import UNKNOWN, read_csv
from training.data.sources import SOURCES, Folders, find
from training.errors import DataError
from training.recipe.loader import format_toml, read_any, recipe_names
from training.recipe.table import Recipe


def _draft(folder: Path, text: str, target: str = "y", family: str | None = None) -> Draft:
    path = folder / "table.csv"
    path.write_text(text, encoding="utf-8")
    return draft(read_csv(path, UNKNOWN), "table.csv", target, "table", family)


def _column(cells: list[str]) -> str:
    """A table with the column `x`, another one, and a target that is a quantity."""
    return "x,z,y\n" + "".join(f"{cell},{k % 3},{k * 0.37}\n" for k, cell in enumerate(cells))


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        ([str(k % 7) for k in range(40)], "integer"),
        ([f"{k}.5" for k in range(40)], "number"),
        (["true", "False"] * 20, "boolean"),
        (["red", "green"] * 20, "category"),
        (["00501", "98101"] * 20, "category"),
        ([*["1.5", "2.5"] * 20, "unknown"], "number"),
        (["only"] * 40, None),
        ([""] * 40, None),
        ([f"2024-01-{k % 28 + 1:02}" for k in range(40)], "datetime"),
        ([f"2024-{k % 12 + 1:02}" for k in range(40)], "datetime"),
        ([f"202401{k % 28 + 1:02}" for k in range(40)], "datetime"),
        ([f"01/{k % 28 + 1:02}/24" for k in range(40)], "datetime"),
        ([f"{k % 28 + 1} Jan 2024" for k in range(40)], "datetime"),
        (["Jan-20", "Dez-20"] * 20, None),
        ([f'"Sunday, {k % 28 + 1} May 2024"' for k in range(40)], None),
        ([f"{k % 24}:30" for k in range(40)], "datetime"),
        (["Marble 12", "Decor 20"] * 20, "category"),
        (["1", "2", *[""] * 38], None),
        ([f"word {k}" for k in range(40)], None),
    ],
)
def test_column_types_are_inferred(tmp_path: Path, cells: list[str], kind: str | None) -> None:
    """Codes with leading zeros are categories; constants and identifiers are not used."""
    findings = {finding.name: finding for finding in _draft(tmp_path, _column(cells)).columns}

    assert findings["x"].kind == kind


def test_words_among_numbers_are_missing_values(tmp_path: Path) -> None:
    """The words are listed in the remark and in the feature."""
    drafted = _draft(tmp_path, _column([*["1.5", "2.5"] * 20, "unknown"]))

    assert drafted.recipe.features[0].missing == ["unknown"]
    assert drafted.recipe.features[0].optional
    assert "1 cell is not a number" in drafted.columns[0].note


def test_units_are_removed_and_recorded(tmp_path: Path) -> None:
    """A column of amounts with their currency is numeric, in that unit."""
    drafted = _draft(tmp_path, _column([f'"${1000 + 13 * k:,}.50"' for k in range(40)]))

    feature = drafted.recipe.features[0]
    assert (feature.type, feature.unit, feature.affix) == ("number", "$", "$")
    assert drafted.recipe.data.thousands == ","
    assert drafted.columns[0].note == "read without '$'"


def test_a_target_with_a_unit_is_a_number(tmp_path: Path) -> None:
    """Many percentages are a number in percent; few are one if a linear family is chosen."""
    many = _draft(tmp_path, "x,y\n" + "".join(f"{k % 7},{k}%\n" for k in range(60)))
    few = _draft(
        tmp_path, "x,y\n" + "".join(f"{k % 7},{k % 4}%\n" for k in range(60)), family="linear"
    )

    for drafted in (many, few):
        assert drafted.recipe.task == "regression"
        assert (drafted.recipe.target.unit, drafted.recipe.target.affix) == ("%", "%")


def test_few_repeated_words_are_missing_values(tmp_path: Path) -> None:
    """If more than four fifths are numbers, one or two repeated words are missing values."""
    drafted = _draft(tmp_path, _column([*["1.5", "2.5"] * 20, *["-"] * 6]))

    assert drafted.recipe.features[0].missing == ["-"]


def test_a_remark_explains_why_a_column_is_not_numeric(tmp_path: Path) -> None:
    """It has the share of numbers and the other words."""
    finding = _draft(tmp_path, _column([*["1.5", "2.5"] * 20, *["low"] * 20])).columns[0]

    assert finding.kind == "category"
    assert finding.note == "67% of the cells are numbers, but 20 are not ('low')"


def test_none_is_a_label_among_words(tmp_path: Path) -> None:
    """Of the labels None, Low and High none is missing; in a numeric target None is missing."""
    rows = range(60)
    words = "".join(f"{k % 7},{('None', 'Low', 'High')[k % 3]}\n" for k in rows)
    numbers = "".join(f"{k % 7},{k * 0.37 if k % 6 else 'None'}\n" for k in rows)

    labeled, measured = (_draft(tmp_path, "x,y\n" + text) for text in (words, numbers))

    assert labeled.recipe.target.labels == ["High", "Low", "None"]
    assert "None" not in labeled.recipe.data.missing
    assert measured.recipe.task == "regression"
    assert "Words read as missing values: 'None' in y (10)." in measured.remarks


def test_labels_that_only_differ_in_case_are_merged(tmp_path: Path) -> None:
    """The most frequent spelling is the label; in other columns such words are only reported."""
    words = ["Yes", "yes", "YES", "no", "No", "no"]
    rows = "".join(f"{words[k % 5]},{words[k % 6]}\n" for k in range(60))

    drafted = _draft(tmp_path, "x,count\n" + rows, target="count")

    target = drafted.recipe.target
    assert (len(target.labels), target.labels[0], target.ignore_case) == (2, "no", True)
    remark = "count: 5 spellings, some of which only differ in case, are read as 2 labels."
    assert remark in drafted.remarks
    assert drafted.columns[0].note == "3 words only differ in case from others"


def test_the_error_for_an_almost_numeric_target_names_the_words(tmp_path: Path) -> None:
    """The message has the share of numbers and some of the words."""
    rows = "".join(f"{k},{f'word {k}' if k % 3 else k * 0.37}\n" for k in range(60))
    with pytest.raises(DataError, match="60 different values") as caught:
        _draft(tmp_path, "x,y\n" + rows)
    assert "As a number" not in str(caught.value)

    rows = "".join(f"{k},{k * 0.37 if k % 3 else f'word {k}'}\n" for k in range(60))
    with pytest.raises(DataError, match="67% of the cells are numbers, but 20 are not"):
        _draft(tmp_path, "x,y\n" + rows)


@pytest.mark.parametrize("name", ["customer_id", "customer_nr", "Kundennummer", "row", "No."])
def test_identifiers_are_not_used(tmp_path: Path, name: str) -> None:
    """Distinct integers in a column with the name of an identifier, in any order."""
    rows = "".join(f"{1000 + 7 * (17 * k % 50)},{k % 5},{k * 0.5}\n" for k in range(50))

    drafted = _draft(tmp_path, f"{name},x,y\n" + rows)

    assert [feature.name for feature in drafted.recipe.features] == ["x"]


def test_a_row_number_is_not_used(tmp_path: Path) -> None:
    """Distinct integers that increase from row to row are a row number."""
    rows = "".join(f"{k},{k % 5},{k * 0.5}\n" for k in range(50))

    drafted = _draft(tmp_path, "count,x,y\n" + rows)

    assert drafted.columns[0].note == "a row number"


@pytest.mark.parametrize("header", ["row,x,y", ",x,y"])
def test_shuffled_row_numbers_are_not_used(tmp_path: Path, header: str) -> None:
    """Numbers 0 to 49 in any order; also those of some rows, if the header does not name them."""
    order = random.Random(1).sample(range(50), 50)  # noqa: S311 - a table, not a secret
    rows = "".join(f"{number},{k % 7},{k % 7 * 2.5}\n" for k, number in enumerate(order))
    some = "".join(rows.splitlines(keepends=True)[: 40 if header.startswith(",") else 50])

    drafted = _draft(tmp_path, f"{header}\n{some}")

    assert [one.name for one in drafted.recipe.features] == ["x"]


def test_a_row_number_is_used_if_it_is_the_only_column(tmp_path: Path) -> None:
    """As in a table of measurements in equal steps."""
    drafted = _draft(tmp_path, "x,y\n" + "".join(f"{k},{3 * k + 1}\n" for k in range(1, 31)))

    assert [one.type for one in drafted.recipe.features] == ["integer"]


def test_words_and_few_integers_are_labels(tmp_path: Path) -> None:
    """Both are drafted as classifiers; many different numbers are drafted as a regression."""
    generator = np.random.default_rng(1)
    x = generator.normal(size=100)

    words = _draft(tmp_path, "x,y\n" + "".join(f"{v},{'ab'[k % 2]}\n" for k, v in enumerate(x)))
    whole = _draft(tmp_path, "x,y\n" + "".join(f"{v},{k % 3}\n" for k, v in enumerate(x)))
    quantity = _draft(tmp_path, "x,y\n" + "".join(f"{v},{v * 2}\n" for v in x))

    assert (words.recipe.task, words.recipe.target.labels) == ("binary", ["a", "b"])
    assert (whole.recipe.task, whole.recipe.target.labels) == ("multiclass", ["0", "1", "2"])
    assert quantity.recipe.task == "regression"


def test_rows_with_words_in_a_numeric_target_are_dropped(tmp_path: Path) -> None:
    """A number with a few words is still a number."""
    cells = [f"{k * 0.37:.2f}" for k in range(60)] + ["unknown"]
    text = "x,y\n" + "".join(f"{k % 7},{cell}\n" for k, cell in enumerate(cells))

    drafted = _draft(tmp_path, text)

    assert drafted.recipe.task == "regression"
    assert drafted.recipe.target.missing == ["unknown"]
    assert any("1 cell is not a number ('unknown')" in remark for remark in drafted.remarks)


def test_class_imbalance_is_reported(tmp_path: Path) -> None:
    """The rare label is the second; the threshold is one half unless the user sets another."""
    rows = "".join(f"{k % 13},{'rare' if k % 20 == 0 else 'usual'}\n" for k in range(400))

    drafted = _draft(tmp_path, "x,y\n" + rows)

    assert drafted.recipe.target.labels == ["usual", "rare"]
    assert drafted.recipe.target.threshold == "half"
    assert any('set target.threshold = "f1" in the recipe' in line for line in drafted.remarks)
    assert any("accuracy is misleading" in remark for remark in drafted.remarks)


def test_target_leakage_is_reported(tmp_path: Path) -> None:
    """A copy of the target in another unit is named."""
    rows = "".join(f"{k % 7},{k * 1.1 + 32},{k * 0.5}\n" for k in range(50))

    drafted = _draft(tmp_path, "x,copy,y\n" + rows)

    assert [
        remark for remark in drafted.remarks if remark.startswith("copy alone has the same order")
    ]


def test_remarks_describe_the_file_format_and_the_model(tmp_path: Path) -> None:
    """They describe separator, encoding, decimal separator, header, family and split."""
    rows = "".join(f"{k % 13},5;{k * 1.1:.2f}\n".replace(".", ",") for k in range(400))

    drafted = _draft(tmp_path, "x;y\n" + rows)

    assert drafted.remarks[0] == (
        'Read as utf-8, cells separated by semicolons and quoted by ", decimal comma, '
        "thousands not separated. The first line names the columns."
    )
    (sentence,) = describe_fit(drafted.recipe)
    assert sentence == (
        "Family linear, fitted to the optimum by scikit-learn. Measured on 5-fold cross-validation."
    )


def test_an_ambiguous_mark_is_reported(tmp_path: Path) -> None:
    """If `1,405` is ambiguous, the remark explains how it is read and how to change that."""
    rows = "".join(f'"{k},405",{k % 7}.5\n' for k in range(10, 50)).replace(".", "")

    remarks = _draft(tmp_path, "y,x\n" + rows).remarks

    assert "'10,405' can be a decimal or a thousands separator; it is read as thou" in remarks[1]
    assert "set data.decimal and data.thousands" in remarks[1]


def test_the_target_may_be_given_by_its_position(tmp_path: Path) -> None:
    """In a file without a header, columns are counted from one."""
    rows = "".join(f"{k % 7}.5,{k * 0.5}\n" for k in range(50))

    assert _draft(tmp_path, rows, target="2").recipe.target.column == "column_2"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x,z\n1,2\n3,4\n", "no column 'y'"),
        ("x,y\n1,same\n2,same\n", "has one value in all rows"),
        ("x,y\n1,\n2,\n", "has no value in all rows"),
        ("x,y\n,1.5\n,2.5\n,3.5\n", r"there is no usable feature .* Not used: x \(empty\)\."),
        (
            "x,y\n" + "".join(f"{k},name {k}\n" for k in range(50)),
            "50 different values, of which 0",
        ),
    ],
)
def test_a_table_without_a_usable_target_or_feature_is_rejected(
    tmp_path: Path, text: str, sentence: str
) -> None:
    """The error message gives the reason."""
    with pytest.raises(DataError, match=sentence):
        _draft(tmp_path, text)


@pytest.mark.parametrize("name", recipe_names())
def test_a_written_recipe_is_read_back_unchanged(name: str, tmp_path: Path) -> None:
    """Reading the file that `format_toml` writes gives the same recipe."""
    recipe = read_any(name)
    path = tmp_path / "again.toml"

    path.write_text(format_toml(recipe), encoding="utf-8")

    assert read_any(str(path)) == recipe


@given(words=st.lists(st.text(min_size=1), min_size=2, max_size=4, unique=True))
def test_any_text_can_be_written_to_a_recipe(
    words: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Quotes, line breaks and all scripts are read back unchanged."""
    document = read_recipe("admission").model_dump()
    document["target"] |= {"labels": words, "values": words, "threshold": "half"}
    document["data"]["missing"] = []
    recipe = Recipe.model_validate(document)
    path = tmp_path_factory.mktemp("words") / "again.toml"

    path.write_text(format_toml(recipe), encoding="utf-8")

    assert read_recipe(str(path)).target.labels == words


def test_a_public_data_set_is_recognized_by_its_digest(folders: Folders) -> None:
    """The drafted recipe has the name of the data set instead of a local path."""
    path = find("mammography", SOURCES["mammography"], folders)

    drafted = draft(read_csv(path, UNKNOWN), str(path), "7", "mammography", None)

    assert drafted.recipe.data.source == "mammography"
    assert drafted.recipe.target.labels == ["-1", "1"]


def test_a_model_is_named_after_its_file() -> None:
    """Accents and other invalid characters are removed."""
    assert derive_model_name("Kunden 2024 (neu)") == "kunden_2024_neu"
    assert derive_model_name("Käufe Straße") == "kaufe_strasse"
    assert derive_model_name("数据") == "model"
