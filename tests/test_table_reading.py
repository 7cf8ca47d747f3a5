"""One reading of a table: the service reads every cell that training read, as the same number."""

import csv
import io
import random
import tomllib
import unicodedata
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from service.__main__ import main as serve
from service.bundle.features import FeaturesInput
from service.codecs.features import FeatureCodec
from service.errors import InvalidInput
from service.tabletext import MISSING
from tests.conftest import StartApp
from tests.tables import (
    ROWS,
    columns,
    drafted,
    grouped,
    one_of,
    rows_of,
    small,
    small_with_comma,
)
from training.__main__ import main as train
from training.cli import new, write_recipe
from training.data.csv import create_layout, read_csv
from training.data.sources import Folders, load
from training.data.table import Dataset, encode, encode_features
from training.errors import RecipeError
from training.evaluation.published import measure_on, open_model
from training.export.manifest import describe_input
from training.recipe.loader import parse_recipe
from training.recipe.table import Recipe
from training.run import run

Form = Literal["NFC", "NFD"]
MESSY = {
    "income": ["unknown", "n/a", *['"${:,}"'] * 8],
    "share": ["{} %"],
    "amount": ["1.{:03d},5"],
    "active": ["yes", "no"],
    "note": ['"two\nlines"', '"a ""quote"""', "plain"],
}

ROOFS = """
name = "roofs"
title = "Roofs"

[data]
file = "{path}"
{data}

[target]
column = "y"

[[features]]
name = "roof"
type = "category"
categories = ["Gable", "None"]
optional = true

[split]
test = 0
folds = 3

[network]
family = "linear"

[training]
optimizer = "LBFGS"
learning_rate = 1.0
epochs = 5
"""


def messy(separator: str = ";", spellings: dict[str, list[str]] = MESSY) -> str:
    """A table whose cells are written in these ways, and a target that depends on a number."""
    chance = random.Random(7)  # noqa: S311 - a table, not a secret
    lines = [separator.join([*spellings, "y"])]
    for row in range(ROWS):
        number = chance.randrange(10_000, 99_999)
        cells = [
            choices[row % len(choices)].format(number % 1000 if "03d" in choices[0] else number)
            for choices in spellings.values()
        ]
        lines.append(separator.join([*cells, f"{number / 1000 + row % 2:.0f}"]))
    return "\n".join(lines) + "\n"


TABLES: dict[str, bytes] = {
    "everything": messy().encode("utf-8-sig"),
    "everything, with commas": messy(",", MESSY | {"amount": ["{}.5"]}).encode("utf-8-sig"),
    "UTF-16": messy().encode("utf-16"),
    "UTF-16 without a mark": messy().encode("utf-16-le"),
    "Windows-1252": columns(
        ";", ("ort", one_of("Köln", "Bonn")), ("x", small), ("y", small)
    ).encode("cp1252"),
    "point and comma of thousands": columns(";", ("x", grouped(",")), ("y", small)).encode(),
    "decimal comma and points": columns(
        ";", ("x", grouped(".", ",")), ("y", small_with_comma)
    ).encode(),
    "narrow blanks and a unit": columns(
        ";", ("x", lambda c: grouped("\u202f", ",")(c) + " €"), ("y", small_with_comma)
    ).encode(),
    "apostrophes": columns(";", ("x", grouped("'")), ("y", small)).encode(),
    "decimal commas in quotes": columns(
        ",",
        ("x", lambda c: f'"{small_with_comma(c)}"'),
        ("y", lambda c: f'"{small_with_comma(c)}"'),
    ).encode(),
    "single quotes": columns(
        ",", ("x", one_of("'a'", "'b, c'")), ("z", one_of("'d'", "'e'")), ("y", small)
    ).encode(),
    "a number for missing values": columns(
        ",", ("x", one_of("-", "1.5", "2.5", "3", "4", "5", "6")), ("y", small)
    ).encode(),
    "words in other cases": columns(
        ",", ("x", one_of("NONE", "Nan", *"123456789")), ("z", one_of("none", "some")), ("y", small)
    ).encode(),
    "a column without a name": columns(
        ",", ("", one_of(*"1234")), ("x", small), ("y", small)
    ).encode(),
    "a name of two lines": columns(
        ",", ('"x\n(m)"', small), ("z", one_of("a", "b")), ("y", small)
    ).encode(),
    "more names than cells": columns(",", ("x", small), ("y", small))
    .replace("x,y", "x,y,z", 1)
    .encode(),
    "titles": ("Report;;\n;;\n" + columns(";", ("a", small), ("b", small), ("y", small))).encode(),
    "a declared separator": ("sep=|\n" + columns("|", ("a", small), ("y", small))).encode(),
    "escaped quotes": columns(
        ",", ("w", one_of(r'"say \"hi\""', r'"6\""', '"plain"', r'"a\"\\,b"')), ("y", small)
    ).encode(),
    "escaped single quotes": columns(
        ";", ("w", one_of(r"'it\'s; so'", "'b'")), ("v", one_of("'c'", "'d'")), ("y", small)
    ).encode(),
    "backslashes before closing quotes": columns(
        ",", ("w", one_of(r'"C:\a, b\"', r'"D:\"', '"E:"')), ("y", small)
    ).encode(),
    "escaped quotes and line ends": columns(
        ",", ("w", one_of('"a \\"b\nc\\" d"', '"x\ny"', r"e\"f")), ("y", small)
    ).encode(),
    "titles of one cell": b"Report\n\nby me\n"
    + columns(",", ("a", small), ("b", one_of("u", "v")), ("y", small)).encode(),
    "a separator after each row": columns(",", ("a", small), ("", lambda _: ""), ("y", small))
    .replace("\n", ",\n")
    .replace("y,", "y", 1)
    .encode(),
    "separators after some rows": columns(
        ";", ("a", small), ("b", one_of("u", '"v;w"')), ("y", one_of("1.5;;", "2.5", "0.5;"))
    ).encode(),
    "names of several columns": columns(
        ",", ("a", small), ("a", one_of("u", "v")), ("b", small), ("b", small), ("y", small)
    ).encode(),
    "a name that has a number": columns(
        ",", ("a", small), ("a_2", small), ("a", one_of("u", "v")), ("y", small)
    ).encode(),
    "names of unused columns": columns(
        ",", ("a", small), ("a", lambda _: "1"), ("b", lambda _: ""), ("b", small), ("y", small)
    ).encode(),
    "signs of accounting": columns(
        ";",
        ("a", one_of("\u22125.46", "4.83", "\u22121")),
        ("b", one_of("(1.75)", "2.5", "($3)", "$4")),
        ("c", one_of("4.07-", "5.05", "7-")),
        ("y", small),
    ).encode(),
    "signs with thousands": columns(
        ";", ("a", one_of("(1.234,5)", "2.500", "7,25-", "\u22129")), ("y", small_with_comma)
    ).encode(),
    "amounts of money": columns(
        ",", ("a", one_of("\u20ac14.3M", "\u20ac565K", "\u20ac2B", "(\u20ac7.5K)")), ("y", small)
    ).encode(),
    "errors of a spreadsheet": columns(
        ",", ("a", one_of("#DIV/0!", "#N/A", *"123456789", "-", "n.a.")), ("y", small)
    ).encode(),
    "a mark or nothing": columns(",", ("a", one_of("x", "")), ("y", small)).encode(),
    "codes with E": columns(",", ("a", one_of("12E3", "4E4", "5E1")), ("y", small)).encode(),
    "old line ends": columns(",", ("a", small), ("y", small)).replace("\n", "\r").encode(),
}


@pytest.mark.parametrize("name", TABLES)
def test_every_cell_is_read_as_in_training(tmp_path: Path, name: str) -> None:
    """The manifest has the format that training detected, and the service applies it."""
    path = tmp_path / "table.csv"
    path.write_bytes(TABLES[name])

    table, data, codec = drafted(path, "y", tmp_path)
    numbers, faults = rows_of(codec, TABLES[name])

    assert table.frame.height == ROWS
    assert faults == []
    np.testing.assert_array_equal(numbers, data.features)


@pytest.mark.parametrize(
    ("words", "excerpt"),
    [
        (["'a'", "b", "c", "d", "e"], "x,z\n'a','a'\n"),
        (["'a'", "b", "c", "d", "e"], "x,z\n'a',b\nb,'a'\n'a','a'\n"),
        (["O'Neil", "b", "c", "'d'", "e", "f"], "x,z\n'd','d'\nO'Neil,e\n"),
        (["\"'a'\"", "b"], "x,z\nb,b\n'a','a'\n'a','a'\n"),
    ],
)
def test_a_few_rows_have_the_quotes_of_training(
    tmp_path: Path, words: list[str], excerpt: str
) -> None:
    """Single quotes that were part of the words are not removed in another part of the table."""
    table = columns(",", ("x", one_of(*words)), ("z", one_of(*words)), ("y", small))
    path = tmp_path / "table.csv"
    path.write_text(table)

    _, data, codec = drafted(path, "y", tmp_path)
    numbers, faults = rows_of(codec, excerpt.encode())

    cells = [line.split(",") for line in excerpt.splitlines()[1:]]
    assert faults == []
    assert [
        [data.columns[k].categories[int(code)] for k, code in enumerate(row)] for row in numbers
    ] == cells


@pytest.mark.parametrize(("low", "high"), [(2**24, 2**25), (10**9, 2 * 10**9), (1, 10**12)])
def test_whole_numbers_beyond_24_bits_are_read(tmp_path: Path, low: int, high: int) -> None:
    """The graph rounds them, but they are no errors, whatever rounding makes of the range."""
    table = columns(
        ",", ("x", lambda chance: str(chance.randrange(low, high))), ("z", small), ("y", small)
    )
    path = tmp_path / "table.csv"
    path.write_text(table)

    _, data, codec = drafted(path, "y", tmp_path)
    numbers, faults = rows_of(codec, table.encode())

    assert [column.feature.type for column in data.columns] == ["integer", "number"]
    assert faults == []
    np.testing.assert_array_equal(numbers, data.features)
    rows = [line.split(",")[:2] for line in table.splitlines()[1:]]
    sent = [{"x": int(x), "z": float(z)} for x, z in rows]
    np.testing.assert_array_equal(codec.decode_rows(sent), data.features)


def read_by_recipe(path: Path, text: str, data: str) -> tuple[Dataset, FeatureCodec]:
    """A table of roofs as a recipe reads it, and the codec by the manifest."""
    path.write_text(text, encoding="utf-8")
    document = tomllib.loads(ROOFS.format(path=path.as_posix(), data=data))
    recipe = parse_recipe(document, "roofs")
    table = load(recipe.data, Folders(None, path.parent))
    dataset = encode(table, recipe, np.arange(table.frame.height))
    described = describe_input(dataset, dataset.features).model_dump_json(exclude_none=True)
    return dataset, FeatureCodec(FeaturesInput.model_validate_json(described))


def test_a_category_is_never_a_missing_value(tmp_path: Path) -> None:
    """A recipe must say which of the two None is, so training and the service agree."""
    text = "roof,y\nNone,1\nGable,2\n?,3\n  ,4\nNone,5\n"

    with pytest.raises(RecipeError, match=r"'None' of 'roof' is a missing value, not a category"):
        read_by_recipe(tmp_path / "roofs.csv", text, "")
    data, codec = read_by_recipe(tmp_path / "roofs.csv", text, 'missing = ["?"]')
    numbers, faults = rows_of(codec, text.encode())

    assert faults == []
    np.testing.assert_array_equal(numbers[:, 0], [1, 0, np.nan, np.nan, 1])
    np.testing.assert_array_equal(numbers, data.features)


def test_a_model_whose_recipe_has_a_missing_value_as_category_can_be_measured(
    tmp_path: Path,
) -> None:
    """Such recipes were valid once; the table is read as it was in training."""
    path, folders = tmp_path / "roofs.csv", Folders(None, tmp_path)
    path.write_text("roof,y\n" + "Gable,2\nNone,1\n" * 30, encoding="utf-8")
    document = tomllib.loads(ROOFS.format(path=path.as_posix(), data=""))
    recipe = Recipe.model_validate(document)
    run(recipe, tmp_path / "models", folders)

    model = open_model(tmp_path / "models", "roofs")
    measured = measure_on(model, path)

    assert model.recipe.features == recipe.features
    assert measured.rows == 60
    assert measured.metrics["rmse"] == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("word", ["Male", " Male", "NA", "", "None", "?", "  ", "nan", "other"])
@pytest.mark.parametrize(
    "known", [("Male", "Female"), ("Male", "Female", ""), ("Male", "Female", "NA")]
)
def test_a_word_is_the_same_in_every_protocol(
    tmp_path: Path, known: tuple[str, ...], word: str
) -> None:
    """A cell of a table, and a string in JSON with blanks around it or not."""
    path = tmp_path / "table.csv"
    path.write_text(columns(",", ("x", one_of(*known)), ("y", small)))

    _, data, codec = drafted(path, "y", tmp_path)
    cells, faults = rows_of(codec, f"x,z\n{word},1\n".encode())

    if faults:
        with pytest.raises(InvalidInput):
            codec.decode_rows([{"x": word}])
    else:
        np.testing.assert_array_equal(codec.decode_rows([{"x": word}]), cells)
        np.testing.assert_array_equal(codec.decode_rows([[word]]), cells)
    column = data.columns[0]
    is_missing = word.strip() in MISSING and word not in column.categories
    assert bool(faults) == (is_missing and not column.feature.optional)


def test_a_table_without_a_header_is_read_by_position(tmp_path: Path) -> None:
    """Its first line is a row; a table that names the columns is read as well."""
    table = columns(",", ("", small), ("", one_of("a", "b")), ("", small)).partition("\n")[2]
    path = tmp_path / "table.csv"
    path.write_text(table)

    _, data, codec = drafted(path, "3", tmp_path)
    numbers, faults = rows_of(codec, table.encode())
    named, _ = rows_of(codec, b"column_2,column_1,column_3\na,0.5,1\n")

    assert faults == []
    np.testing.assert_array_equal(numbers, data.features)
    assert named.tolist() == [[0.5, 0.0]]


@pytest.mark.parametrize("name", ["größe", "Ångström", "prénom"])
@pytest.mark.parametrize(("training", "served"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_accents_are_read_in_either_form(
    tmp_path: Path, name: str, training: Form, served: Form
) -> None:
    """Some systems write ö as one character, others as two."""
    table = columns(",", (name, small), ("y", small))
    path = tmp_path / "table.csv"
    path.write_text(unicodedata.normalize(training, table), encoding="utf-8")

    _, data, codec = drafted(path, "y", tmp_path)
    numbers, faults = rows_of(codec, unicodedata.normalize(served, table).encode())

    assert faults == []
    assert codec.example.keys() == {name}
    np.testing.assert_array_equal(numbers, data.features)


def test_cells_in_another_notation_than_in_training_are_read_or_reported(tmp_path: Path) -> None:
    """Plain numbers are read; another currency is an error of its row, with what to write."""
    path = tmp_path / "table.csv"
    path.write_text(
        columns(",", ("income", lambda c: f'"${c.randrange(1000, 9999):,}"'), ("y", small))
    )

    _, _, codec = drafted(path, "y", tmp_path)
    numbers, faults = rows_of(
        codec, b'income\n38824\n"$38,824"\n"38,824"\n-$5\n"EUR 38,824"\n38.824.000\n'
    )

    assert numbers[:4, 0].tolist() == [38824, 38824, 38824, -5]
    wanted = "feature 'income' must be a whole number ($), got"
    only = 'only "," may separate the thousands of this table.'
    assert faults == [
        f'Line 6: {wanted} "EUR 38,824". Write 38,824, without anything next to the number.',
        f'Line 7: {wanted} "38.824.000". Write 38824000: {only}',
    ]


def test_another_decimal_mark_than_in_training_is_detected(tmp_path: Path) -> None:
    """A model trained with decimal commas reads a table with decimal points, too."""
    path = tmp_path / "table.csv"
    path.write_text(columns(";", ("x", small_with_comma), ("y", small_with_comma)))

    _, _, codec = drafted(path, "y", tmp_path)
    comma, _ = rows_of(codec, b"x;z\n1,5;a\n2;b\n")
    point, _ = rows_of(codec, b"x,z\n1.5,a\n2.25,b\n")

    assert comma[:, 0].tolist() == [1.5, 2]
    assert point[:, 0].tolist() == [1.5, 2.25]


def test_a_messy_csv_is_trained_scored_and_predicted(
    tmp_path: Path, models: Path, start: StartApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By two commands and over HTTP, each row of training has the output of the graph."""
    monkeypatch.chdir(tmp_path)
    body = TABLES["everything"]
    Path("messy.csv").write_bytes(body)

    write_recipe(new(Path("messy.csv"), "y", None, None), Path("messy.toml"))
    few = ["split.folds=2", "training.epochs=5"]
    assert train(["messy.toml", *few, "--models", str(models)]) == 0
    assert serve(["score", "messy", "messy.csv", "-o", "scored.csv", "--models", str(models)]) == 0
    kind = {"content-type": "text/csv"}
    response = start().post("/models/messy/predict", content=body, headers=kind)

    published = open_model(models, "messy")
    features = encode_features(
        read_csv(Path("messy.csv"), create_layout(published.recipe.data)), published.columns
    )
    expected = published.graph.predict(features)[:, 0]
    assert response.status_code == 200
    assert response.content == Path("scored.csv").read_bytes()
    text = response.content.decode("utf-8-sig")
    scored = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=";"))
    assert [row["error"] for row in scored] == [""] * ROWS
    assert [row["note"] for row in scored][:3] == ["two\nlines", 'a "quote"', "plain"]
    values = [float(row["value"].replace(",", ".")) for row in scored]
    assert values == pytest.approx(expected.tolist(), rel=1e-5)
