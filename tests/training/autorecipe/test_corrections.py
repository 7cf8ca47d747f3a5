"""The user corrects what is inferred: types, dropped columns, the positive label, the format."""

from pathlib import Path

import polars as pl
import pytest

from training.__main__ import main
from training.autorecipe.corrections import NONE, TYPES, Corrections, parse_types
from training.autorecipe.draft import Draft, draft
from training.autorecipe.splits import GUESSED, RequestedSplit
from training.data.csv import read_csv
from training.data.rows import load_rows
from training.data.sources import Folders
from training.errors import DataError
from training.recipe.table import Recipe

_ROWS = 40
_COLUMNS = {
    "nr": [str(k) for k in range(_ROWS)],
    "grade": [str(k % 3 + 1) for k in range(_ROWS)],
    "smoker": ["yes" if k % 2 else "no" for k in range(_ROWS)],
    "joined": [f"{k % 12 + 1:02}/{k % 11 + 1:02}/2021" for k in range(_ROWS)],
    "size": [f"{k * 7 % 40}.5" if k != 3 else "tall" for k in range(_ROWS)],
    "zip": [f"0{k % 7}501" for k in range(_ROWS)],
    "reply": ["Yes" if k % 4 == 0 else "No" for k in range(_ROWS)],
}


def _draft(
    folder: Path,
    corrections: Corrections = NONE,
    target: str = "reply",
    family: str | None = None,
    requested: RequestedSplit = GUESSED,
    **columns: list[str],
) -> Draft:
    path = folder / "people.csv"
    pl.DataFrame(_COLUMNS | columns).write_csv(path)
    return draft(
        read_csv(path, corrections.layout),
        str(path),
        target,
        "people",
        family,
        requested=requested,
        corrections=corrections,
    )


def _types(recipe: Recipe) -> dict[str, str]:
    return {feature.name: feature.type for feature in recipe.features}


def test_without_corrections_the_table_decides(tmp_path: Path) -> None:
    """The types that the other tests correct."""
    drafted = _draft(tmp_path)

    assert _types(drafted.recipe) == {
        "grade": "integer",
        "smoker": "category",
        "joined": "datetime",
        "size": "number",
        "zip": "category",
    }
    assert not any("given" in column.note for column in drafted.columns)


@pytest.mark.parametrize(
    ("column", "given", "kind"),
    [
        ("nr", "integer", "integer"),
        ("grade", "category", "category"),
        ("2", "category", "category"),
        ("grade", "number", "number"),
        ("smoker", "boolean", "boolean"),
        ("joined", "DD/MM/YYYY", "datetime"),
        ("joined", "datetime", "datetime"),
        ("joined", "category", "category"),
        ("zip", "integer", "integer"),
        ("size", "number", "number"),
    ],
)
def test_a_given_type_is_that_of_the_feature(
    column: str, given: str, kind: str, tmp_path: Path, folders: Folders
) -> None:
    """The table of columns says that it is given, and all rows can be encoded."""
    drafted = _draft(tmp_path, Corrections(types={column: given}))

    name = "grade" if column == "2" else column
    assert _types(drafted.recipe)[name] == kind
    notes = {other.name: other.note for other in drafted.columns}
    assert notes.pop(name).startswith("given")
    assert not any(note.startswith("given") for note in notes.values())
    assert len(load_rows(drafted.recipe, folders).target) == _ROWS


def test_a_given_format_decides_between_day_and_month(tmp_path: Path) -> None:
    """Without it, a date with slashes begins with the month."""
    formats = [
        {f.name: f.format for f in _draft(tmp_path, corrections).recipe.features}["joined"]
        for corrections in (NONE, Corrections(types={"joined": "DD/MM/YYYY"}))
    ]

    assert formats == ["MM/DD/YYYY", "DD/MM/YYYY"]


def test_words_that_are_read_as_missing_values_are_still_read_so(tmp_path: Path) -> None:
    """A given type of numbers keeps the rule for a few words among them."""
    drafted = _draft(tmp_path, Corrections(types={"size": "number"}))

    (size,) = (feature for feature in drafted.recipe.features if feature.name == "size")
    assert size.missing == ["tall"]
    assert size.optional


@pytest.mark.parametrize(
    ("column", "given", "sentence"),
    [
        ("smoker", "number", "people.csv, row 1, column 'smoker': 'no' is not a number"),
        ("zip", "boolean", "people.csv, row 1, column 'zip': '00501' is not true or false"),
        ("size", "integer", "row 1, column 'size': '0.5' is not a whole number; use --column size"),
        ("joined", "YYYYMMDD", "row 1, column 'joined': '01/01/2021' is not a date YYYYMMDD"),
        ("grade", "datetime", "row 1, column 'grade': '1' is not a date"),
        ("empty", "number", "all cells of 'empty' are empty"),
        ("smokr", "boolean", "has no column 'smokr' (did you mean 'smoker'?)"),
    ],
)
def test_a_type_that_does_not_fit_is_an_error_with_the_first_cell(
    column: str, given: str, sentence: str, tmp_path: Path
) -> None:
    """And with the row of the cell."""
    with pytest.raises(DataError) as caught:
        _draft(tmp_path, Corrections(types={column: given}), empty=[""] * _ROWS)

    assert sentence in str(caught.value)


def test_the_error_for_an_unknown_type_lists_all() -> None:
    """With a suggestion for a misspelt one."""
    with pytest.raises(DataError) as caught:
        parse_types(["age=numbr"])

    assert "did you mean 'number'?" in str(caught.value)
    assert all(name in str(caught.value) for name in (*TYPES, "DD.MM.YYYY"))
    with pytest.raises(DataError, match="write COLUMN=TYPE"):
        parse_types(["age"])
    assert parse_types(["a=b=number", "c=HH:MM"]) == {"a=b": "number", "c": "HH:MM"}


def test_a_dropped_column_is_no_feature(tmp_path: Path) -> None:
    """Columns are given by name or position."""
    drafted = _draft(tmp_path, Corrections(dropped=["zip", "2"]))

    assert _types(drafted.recipe).keys() == {"smoker", "joined", "size"}
    notes = {column.name: column.note for column in drafted.columns}
    assert notes["zip"] == notes["grade"] == "dropped (given)"


@pytest.mark.parametrize(
    ("corrections", "sentence"),
    [
        (Corrections(dropped=["zipp"]), "did you mean 'zip'?"),
        (Corrections(dropped=["reply"]), "it is the target, which cannot be dropped"),
        (Corrections({"zip": "category"}, ["zip"]), "are both given for 'zip'"),
        (Corrections({"reply": "datetime"}), "the target is a number or, as a category,"),
        (Corrections({"reply": "number"}), "row 1, column 'reply': 'Yes' is not a number"),
        (Corrections(positive="yess"), "has no such label; did you mean 'Yes'?"),
        (Corrections(positive="1"), "has no such label; the labels are No, Yes."),
    ],
)
def test_corrections_that_do_not_fit_are_errors(
    corrections: Corrections, sentence: str, tmp_path: Path
) -> None:
    """Each names what would fit."""
    with pytest.raises(DataError) as caught:
        _draft(tmp_path, corrections)

    assert sentence in str(caught.value)


def test_the_positive_label_is_the_second(tmp_path: Path) -> None:
    """Its probability is served; without a correction, it is the rarer one."""
    labels = [
        _draft(tmp_path, Corrections(positive=positive)).recipe.target.labels
        for positive in (None, "Yes", "No")
    ]

    assert labels == [["No", "Yes"], ["No", "Yes"], ["Yes", "No"]]
    assert (
        "The probability is that of No (given)."
        in _draft(tmp_path, Corrections(positive="No")).remarks
    )


def test_the_type_of_the_target_decides_between_numbers_and_labels(tmp_path: Path) -> None:
    """Three repeated integers are labels unless they are given as numbers."""
    tasks = [
        _draft(tmp_path, Corrections(types), "grade").recipe.task
        for types in ({}, {"grade": "number"}, {"grade": "category"})
    ]

    assert tasks == ["multiclass", "regression", "multiclass"]
    hint = "Numbers of grade are read as labels; --column grade=number predicts a number."
    assert hint in _draft(tmp_path, NONE, "grade").remarks
    with pytest.raises(DataError, match="--family linear only predicts numbers"):
        _draft(tmp_path, Corrections({"grade": "category"}), "grade", "linear")
    with pytest.raises(DataError, match="'grade' has 3 labels"):
        _draft(tmp_path, Corrections(positive="1"), "grade")


def test_a_column_of_groups_has_no_type(tmp_path: Path) -> None:
    """The rows of a group stay in one set, so it is no feature."""
    grouped = RequestedSplit(group="zip")
    with pytest.raises(DataError, match="Use --split random"):
        _draft(tmp_path, Corrections({"zip": "category"}), requested=grouped)


def test_a_given_format_of_the_file_is_that_of_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Training again reads the file in the same way."""
    monkeypatch.chdir(tmp_path)
    lines = [f"{k % 7},5;{k % 3}\u20ac;{k % 7 * 2},25" for k in range(40)]
    Path("t.csv").write_text("\n".join(["größe;preis;y", *lines]), encoding="cp1252")
    options = ["--separator", ";", "--encoding", "cp1252", "--decimal", ","]

    assert main(["new", "--csv", "t.csv", "--target", "y", "--family", "linear", *options]) == 0
    assert main(["train", "t.toml"]) == 0

    said = " ".join(capsys.readouterr().out.split())
    assert "is given: separator ';', encoding 'cp1252', decimal ','" in said
    recipe = Path("t.toml").read_text(encoding="utf-8")
    assert 'separator = ";"' in recipe
    assert 'encoding = "cp1252"' in recipe
    assert 'name = "größe"' in recipe


def test_a_given_decimal_mark_reads_ambiguous_numbers(tmp_path: Path) -> None:
    """1,234 is a number of three decimals or of thousands; the mark decides."""
    path = tmp_path / "t.csv"
    path.write_text("x;y\n" + "1,234;2\n" * 5)

    formats = [
        read_csv(path, Corrections(decimal=decimal).layout).number_format
        for decimal in (None, ".", ",")
    ]

    assert [one.decimal for one in formats] == [",", ".", ","]
    assert formats[1].thousands == ","


@pytest.mark.parametrize("option", [["--drop", "x"], ["--positive", "x"], ["--separator", "tab"]])
def test_corrections_are_options_of_tables(
    option: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder of images has no columns."""
    assert main(["new", "--images", str(tmp_path), *option]) == 2

    assert "options of --csv" in capsys.readouterr().err
