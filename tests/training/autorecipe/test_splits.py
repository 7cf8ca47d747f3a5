"""The split of a drafted recipe: guessed from the table, or requested."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression

from service.bundle.manifest import SplitRule
from service.bundle.store import read_bundle
from tests.recipes import read_recipe
from training.__main__ import main
from training.autorecipe.draft import Draft, choose_split, draft
from training.autorecipe.splits import CHANGE, GUESSED, ChosenSplit, RequestedSplit
from training.data.csv import UNKNOWN, read_csv
from training.errors import DataError, RecipeError

ROWS = 240
GENERATOR = np.random.default_rng(1)
NOISE = GENERATOR.normal(size=(3, ROWS))
SUBJECTS = np.arange(ROWS) % 24
LEVELS = GENERATOR.normal(size=(3, 24))
DAYS = np.datetime64("2023-12-01") + np.arange(ROWS) // 3


def write(folder: Path, columns: dict[str, Any]) -> Path:
    """A table with three numbers and a target, next to the given columns."""
    path = folder / "table.csv"
    numbers = dict(zip("abc", NOISE, strict=True)) | {"y": NOISE.sum(axis=0)}
    pl.DataFrame(numbers | columns).write_csv(path)
    return path


def draft_with(folder: Path, columns: dict[str, Any], requested: RequestedSplit = GUESSED) -> Draft:
    """The draft of such a table."""
    table = read_csv(write(folder, columns), UNKNOWN)
    return draft(table, "table.csv", "y", "table", None, requested=requested)


def list_keys(drafted: Draft) -> dict[str, str]:
    """The keys of the split that name columns."""
    split = drafted.recipe.split.model_dump(exclude_none=True)
    return {key: split[key] for key in ("group", "group_until", "time") if key in split}


def alike() -> dict[str, Any]:
    """Numbers and a target that are alike for the rows of a subject."""
    numbers = LEVELS[:, SUBJECTS] + 0.5 * NOISE
    return dict(zip("abc", numbers, strict=True)) | {"y": numbers.sum(axis=0)}


def list_measurements(mark: str) -> list[str]:
    """Names such as 7_2, the second row of subject 7."""
    return [f"{subject}{mark}{k // 24}" for k, subject in enumerate(SUBJECTS)]


@pytest.mark.parametrize(
    ("columns", "keys"),
    [
        ({"patient_id": [f"P{k:03}" for k in SUBJECTS]} | alike(), {"group": "patient_id"}),
        ({"Subject": SUBJECTS + 308} | alike(), {"group": "Subject"}),
        ({"id": SUBJECTS} | alike(), {"group": "id"}),
        (
            {"MouseID": list_measurements("_")} | alike(),
            {"group": "MouseID", "group_until": "_"},
        ),
        (
            {"animal": [f"a-{name}" for name in list_measurements("-")]} | alike(),
            {"group": "animal", "group_until": "-"},
        ),
        (
            {"code": [f"K{k}" for k in SUBJECTS]}
            | {name: level[SUBJECTS].round(3) for name, level in zip("abd", LEVELS, strict=True)},
            {"group": "code"},
        ),
    ],
)
def test_groups_are_guessed(tmp_path: Path, columns: dict[str, Any], keys: dict[str, str]) -> None:
    """A repeated subject with rows that are alike is the group, and is not a feature."""
    drafted = draft_with(tmp_path, columns)

    assert list_keys(drafted) == keys
    assert keys["group"] not in [feature.name for feature in drafted.recipe.features]
    (remark,) = [remark for remark in drafted.remarks if CHANGE in remark]
    assert "(24 groups)" in remark
    assert "is not a feature" in remark


@pytest.mark.parametrize(
    ("columns", "column"),
    [
        ({"sold": DAYS}, "sold"),
        ({"sold": DAYS[::-1]}, "sold"),
        ({"when": [str(day) + "T12:30:00Z" for day in DAYS]}, "when"),
        ({"dteday": [f"{day:%-m/%-d/%Y}" for day in DAYS.tolist()]}, "dteday"),
        ({"Datum": [f"{day:%d.%m.%Y}" for day in DAYS.tolist()]}, "Datum"),
        ({"order_date": np.random.default_rng(1).permutation(DAYS)}, "order_date"),
        ({"birth_date": np.random.default_rng(1).permutation(DAYS), "date": DAYS}, "date"),
    ],
)
def test_time_is_found(tmp_path: Path, columns: dict[str, Any], column: str) -> None:
    """Rows that are ordered by a date, or a date whose name is that of the row's time."""
    drafted = draft_with(tmp_path, columns)

    assert list_keys(drafted) == {"time": column}
    assert drafted.recipe.split.refit
    assert any(f"The newest rows by {column} are" in remark for remark in drafted.remarks)


@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"patient_id": np.arange(ROWS)},
        {"patient_id": [f"P-{k:05}" for k in range(ROWS)]},
        {"patient_id": GENERATOR.permutation(SUBJECTS)},
        {"patient_id": np.arange(ROWS) % 5} | alike(),
        {"user_score": SUBJECTS} | alike(),
        {"store": [f"S{k}" for k in SUBJECTS]} | alike(),
        {"level": LEVELS[0, SUBJECTS]} | alike(),
        {"birth_date": np.random.default_rng(1).permutation(DAYS)},
        {"expiry_date": np.random.default_rng(1).permutation(DAYS)},
        {"year": np.repeat(np.arange(2000, 2024), 10)},
        {"date": np.repeat(DAYS[::60], 60)},
        {"time": [f"{k % 24:02}:{k // 24:02}" for k in range(ROWS)]},
        {"date": [*map(str, DAYS[1:]), ""]},
        {"date": DAYS, "y": np.repeat(["a", "b", "c"], ROWS // 3)},
    ],
)
def test_other_tables_are_split_at_random(tmp_path: Path, columns: dict[str, Any]) -> None:
    """Single rows, few or different groups, measurements, other dates, and labels by date."""
    drafted = draft_with(tmp_path, columns)

    assert list_keys(drafted) == {}
    assert not any(CHANGE in remark or "--time" in remark for remark in drafted.remarks)


@pytest.mark.parametrize(
    ("requested", "keys"),
    [
        (RequestedSplit(random=True), {}),
        (RequestedSplit(group="store"), {"group": "store"}),
        (RequestedSplit(group="row"), {"group": "row", "group_until": "/"}),
        (RequestedSplit(time="year"), {"time": "year"}),
    ],
)
def test_a_requested_split_is_not_guessed(
    tmp_path: Path, requested: RequestedSplit, keys: dict[str, str]
) -> None:
    """Any column with repeated cells has groups, and any numbers are times."""
    columns = {
        "store": [f"S{k}" for k in SUBJECTS],
        "row": list_measurements("/"),
        "year": np.repeat(np.arange(2000, 2024), 10),
        "date": DAYS,
    }

    drafted = draft_with(tmp_path, columns, requested)

    assert list_keys(drafted) == keys
    assert ("store" in [feature.name for feature in drafted.recipe.features]) == (
        requested.group != "store"
    )


def test_a_request_that_the_table_cannot_fulfil_is_rejected(tmp_path: Path) -> None:
    """Unknown columns get the nearest name; the others the reason."""
    columns = {"store": [f"S{k}" for k in SUBJECTS], "row": [f"r{k}" for k in range(ROWS)]}

    with pytest.raises(DataError, match=r"no column 'stores' .did you mean 'store'"):
        draft_with(tmp_path, columns, RequestedSplit(group="stores"))
    with pytest.raises(DataError, match="no two rows have the same value of 'row'"):
        draft_with(tmp_path, columns, RequestedSplit(group="row"))
    with pytest.raises(DataError, match="'store' cannot be ordered by time"):
        draft_with(tmp_path, columns, RequestedSplit(time="store"))
    with pytest.raises(RecipeError, match="y is the target"):
        draft_with(tmp_path, columns | {"y": SUBJECTS % 12}, RequestedSplit(group="y"))


@pytest.mark.parametrize(
    ("rows", "chosen", "expected"),
    [
        (20, ChosenSplit(), {"test": 0.0, "folds": 20}),
        (150, ChosenSplit(), {"test": 0.0, "folds": 10}),
        (4999, ChosenSplit(), {"test": 0.0, "folds": 5}),
        (5000, ChosenSplit(), {"test": 0.2, "validation": 0.1, "refit": True}),
        (200_000, ChosenSplit(), {"test": 0.2, "validation": 0.1}),
        (6000, ChosenSplit({"group": "g"}, 24), {"test": 0.0, "folds": 5, "group": "g"}),
        (
            6000,
            ChosenSplit({"group": "g"}, 120),
            {"test": 0.2, "validation": 0.1, "refit": True, "group": "g"},
        ),
        (150, ChosenSplit({"time": "t"}, 5), {"test": 0.2, "refit": True, "time": "t"}),
    ],
)
def test_small_tables_and_few_groups_have_folds(
    rows: int, chosen: ChosenSplit, expected: dict[str, float]
) -> None:
    """A fifth of them is too few; the newest fifth is the best test of later rows."""
    assert choose_split(np.arange(rows, dtype=np.float64), chosen, classes=False) == expected


def test_small_tables_have_at_most_as_many_folds_as_groups(tmp_path: Path) -> None:
    """Four subjects have four folds, and their classes do not need more."""
    table = {"x": NOISE[0, :24], "subject": SUBJECTS[:24] % 4, "y": NOISE[1, :24]}
    path = tmp_path / "small.csv"
    pl.DataFrame(table).write_csv(path)

    drafted = draft(
        read_csv(path, UNKNOWN),
        "small.csv",
        "y",
        "small",
        None,
        requested=RequestedSplit(group="subject"),
    )

    assert drafted.recipe.split.folds == 4


def test_a_drafted_split_by_groups_measures_new_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A label that can only be known from other rows of the subject is not predicted."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(3)
    label = np.array(["no", "yes"])[generator.permutation(np.arange(24) % 2)]
    numbers = generator.normal(size=(14, 24))[:, SUBJECTS] + 0.05 * generator.normal(
        size=(14, ROWS)
    )
    columns = {f"x{k}": values.round(4) for k, values in enumerate(numbers)}
    frame = pl.DataFrame({"subject": SUBJECTS, "ill": label[SUBJECTS]} | columns)
    frame.write_csv("visits.csv")

    command = ["new", "--csv", "visits.csv", "--target", "ill", "--family", "logistic"]
    assert main([*command, "--models", "models"]) == 0

    said = " ".join(capsys.readouterr().out.split())
    assert "Rows with the same subject stay in one set (24 groups)" in said
    assert "5-fold cross-validation, in groups of subject that training did not see" in said
    assert read_recipe("visits.toml").split.group == "subject"
    evaluation = read_bundle(tmp_path / "models/visits/1").manifest.evaluation
    assert evaluation is not None
    assert evaluation.rows == ROWS
    assert evaluation.split == SplitRule(by="group", column="subject")
    half = ROWS // 2  # of each subject
    known = LogisticRegression(C=100).fit(numbers.T[:half], label[SUBJECTS][:half])
    assert known.score(numbers.T[half:], label[SUBJECTS][half:]) > 0.95
    assert evaluation.metrics["accuracy"] < 0.85


def test_options_of_the_split_are_for_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Image folders have no columns, and only one of the options can be given."""
    assert main(["new", "--images", str(tmp_path), "--group", "x"]) == 2
    assert "--group, --time and --split are options of --csv" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["new", "--csv", "x.csv", "--target", "y", "--group", "a", "--time", "b"])
    assert "not allowed with argument" in capsys.readouterr().err
