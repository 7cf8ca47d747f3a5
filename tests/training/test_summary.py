"""What a command prints: the inferred table, the quality of the model, and progress."""

import os
import sys
from pathlib import Path

import pytest

from service.bundle.store import read_bundle
from training.autorecipe.draft import draft
from training.console import show_steps
from training.data.csv import UNKNOWN, read_csv
from training.summary import WIDTH, describe_quality, format_columns, format_number

SHIPPED = Path(__file__).parents[2] / "models"


def test_the_inferred_table_has_80_columns(tmp_path: Path) -> None:
    """Notes and remarks are wrapped, and a longer name has a line of its own."""
    long = "the number of days since the last purchase of the customer"
    path = tmp_path / "t.csv"
    lines = [f"{k % 12 + 1}/{k % 11 + 1}/2021,{k % 5}.5,{k % 3 * 1.5}" for k in range(60)]
    path.write_text("\n".join([f"joined,{long},y", *lines]))

    said = format_columns(draft(read_csv(path, UNKNOWN), "t.csv", "y", "t", None))

    table = said.splitlines()
    assert max(map(len, table)) <= WIDTH
    assert table[0].split() == ["column", "type", "missing", "distinct", "note"]
    position = next(k for k, line in enumerate(table) if line == f"  {long}")
    assert table[position + 1].split() == ["number", "0", "5"]
    assert "dates, read as MM/DD/YYYY, though they may be DD/MM/YYYY" in " ".join(said.split())


@pytest.mark.parametrize("name", sorted(path.name for path in SHIPPED.iterdir() if path.is_dir()))
def test_the_quality_is_one_sentence_with_the_baseline(name: str) -> None:
    """Right labels are the accuracy times the rows; an error is the mean absolute error."""
    newest = max((SHIPPED / name).glob("[0-9]*"), key=lambda path: int(path.name))
    manifest = read_bundle(newest).manifest
    evaluation = manifest.evaluation

    sentence = describe_quality(manifest)

    if evaluation is None:
        assert sentence == ""
    elif manifest.task == "regression":
        assert f"are off by {format_number(evaluation.metrics['mae'])}" in sentence
        assert f"({format_number(evaluation.baseline.metrics['mae'])}" in sentence
        assert sentence.endswith("by always predicting the mean).")
    else:
        right = round(evaluation.metrics["accuracy"] * evaluation.rows)
        constant = round(evaluation.baseline.metrics["accuracy"] * evaluation.rows)
        start = f"Of {evaluation.rows:,} rows, {right:,} labels are right ({constant:,} by always"
        assert sentence.startswith(start)


def test_the_constant_label_is_that_of_the_baseline() -> None:
    """It is predicted for every row."""
    sentence = describe_quality(read_bundle(SHIPPED / "churn" / "1").manifest)

    assert sentence.endswith("by always predicting No).")


@pytest.mark.parametrize(
    ("number", "text"), [(0.012345, "0.0123"), (21.08, "21.1"), (999.4, "999"), (5120.4, "5,120")]
)
def test_numbers_have_three_significant_digits(number: float, text: str) -> None:
    """Larger ones have all digits before the point."""
    assert format_number(number) == text


def test_progress_is_shown_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The lines go to standard output, and the bar with the time left to standard error."""
    steps = {"linear": 1, "mlp": 9}
    with show_steps("Comparing", steps) as report:
        report("  linear  rmse 1")

    assert capsys.readouterr() == ("  linear  rmse 1\n", "")

    monkeypatch.setenv("TERM", "xterm")
    reader, writer = os.openpty()
    with os.fdopen(writer, "w") as terminal, monkeypatch.context() as context:
        context.setattr(sys, "stderr", terminal)
        with show_steps("Comparing", steps) as report:
            report("  linear  rmse 1")
        shown = os.read(reader, 1 << 16).decode()
    os.close(reader)

    assert capsys.readouterr() == ("  linear  rmse 1\n", "")
    assert "Comparing" in shown
    assert "left:" in shown
