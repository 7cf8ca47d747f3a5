"""`onward new`: files that cannot be read or written, and output that nobody reads."""

import io
import os
import sys
from pathlib import Path

import pytest

from training.__main__ import main

TABLE = "x,y\n" + "".join(f"{k % 7},{(k % 7) * 2}\n" for k in range(40))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a table."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table.csv").write_text(TABLE)
    return tmp_path


def new(*options: str) -> int:
    """Run the command on the table."""
    return main(["new", "--csv", "table.csv", "--target", "y", "--family", "linear", *options])


@pytest.mark.parametrize(
    ("recipe", "sentence"),
    [
        ("missing/r.toml", "The recipe missing/r.toml cannot be written: No such file or"),
        ("table.csv/r.toml", "The recipe table.csv/r.toml cannot be written: Not a directory."),
        (f"{'r' * 300}.toml", "cannot be written: File name too long. Choose another path with"),
        (".", ". is a folder; give the path of the recipe with --recipe."),
    ],
)
def test_a_recipe_that_cannot_be_written_is_an_error_with_its_remedy(
    here: Path, capsys: pytest.CaptureFixture[str], recipe: str, sentence: str
) -> None:
    """Nothing is trained."""
    assert new("--recipe", recipe) == 2

    assert sentence in capsys.readouterr().err
    assert [path.name for path in here.iterdir()] == ["table.csv"]


@pytest.mark.parametrize("models", ["table.csv", "table.csv/models", "table.csv/a/b"])
def test_a_failed_run_leaves_no_recipe(
    here: Path, capsys: pytest.CaptureFixture[str], models: str
) -> None:
    """The same command works once its cause is corrected."""
    assert new("--models", models) == 2

    assert "Choose another folder with --models." in capsys.readouterr().err
    assert [path.name for path in here.iterdir()] == ["table.csv"]


@pytest.mark.parametrize(
    ("name", "valid"), [("my model", "my_model"), ("größe", "grosse"), ("a/b", "a_b")]
)
@pytest.mark.usefixtures("here")
def test_an_invalid_name_is_an_error_with_a_valid_one(
    capsys: pytest.CaptureFixture[str], name: str, valid: str
) -> None:
    """The sentence names the option and the letters that a name may have."""
    assert new("--name", name) == 2

    error = capsys.readouterr().err
    assert error.startswith(f"--name {name!r} has letters that no name of a model has.")
    assert error.endswith(f"as in {valid}.\n")


@pytest.mark.usefixtures("here")
def test_a_stream_cannot_be_trained_on(capsys: pytest.CaptureFixture[str]) -> None:
    """Training reads the table several times."""
    os.mkfifo("pipe")

    assert main(["new", "--csv", "pipe", "--target", "y"]) == 2

    assert "pipe is a stream, which can only be read once; save it" in capsys.readouterr().err


@pytest.mark.usefixtures("here")
def test_letters_that_the_terminal_lacks_do_not_stop_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are printed as escape sequences."""
    Path("table.csv").write_text(TABLE.replace("x", "größe", 1), encoding="utf-8")
    printed = io.BytesIO()
    terminal = io.TextIOWrapper(printed, encoding="ascii")
    with monkeypatch.context() as context:
        context.setattr(sys, "stdout", terminal)
        status = new("--models", "models")

    assert status == 0
    assert b"gr\\xf6\\xdfe" in printed.getvalue()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("text", "options", "sentence"),
    [
        (TABLE, ["--separator", ";"], "has only one column with this separator. Check --separator"),
        ("a;b\n1,5;2\n3,5;4\n", ["--separator", ","], "Check --separator ',', or leave it out"),
        (TABLE.partition("\n")[2], [], "The first line is data, not names: give the position,"),
        ("PK\3\4", [], "table.csv: The workbook is damaged or incomplete"),
    ],
)
def test_a_table_that_is_read_otherwise_than_intended_has_a_hint(
    capsys: pytest.CaptureFixture[str], text: str, options: list[str], sentence: str
) -> None:
    """A wrong separator, a table without a header, and a damaged spreadsheet."""
    Path("table.csv").write_text(text)

    assert new(*options) == 2

    assert sentence in capsys.readouterr().err


def test_a_model_is_published_even_if_nobody_reads_the_output(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`onward new ... | head -1` closes the pipe after one line."""
    reader, writer = os.pipe()
    os.close(reader)
    with monkeypatch.context() as context, os.fdopen(writer, "w") as pipe:
        context.setattr(sys, "stdout", pipe)
        status = new("--models", "models")

    assert status == 0
    assert (here / "models/table/1/manifest.json").is_file()
    assert (here / "table.toml").is_file()
