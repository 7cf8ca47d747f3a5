"""``onward score`` on tables and folders of images: the output is the same as over HTTP."""

import csv
import gzip
import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import StartApp
from tests.image_models import publish_mirror
from tests.images import encoded, image_input, photograph
from tests.models import publish_iris, publish_mixed, publish_price
from tests.processes import ROOT, run_command, run_here

TABLE = 'note,size\r\nä,1.5\r\n"b, c",x\r\n,3\r\n'


def score(models: Path, *options: str, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    """Run the command with a models folder."""
    return run_here("score", "--models", str(models), *options, stdin=stdin)


# File, model, content, parameters.
FILES: list[tuple[str, str, bytes, dict[str, str]]] = [
    ("in.csv", "price", TABLE.encode(), {}),
    ("in.csv", "iris", b"a;b;c\n1,5;2;0\n1;3;2\n", {"top": "2", "warnings": "true"}),
    ("in.ndjson", "mixed", b'[7, 2, true, "south", "red"]\n{"rooms": 0.5}\n', {}),
]


@pytest.mark.parametrize("case", FILES)
def test_the_output_for_a_file_equals_the_response_of_http(
    models: Path, tmp_path: Path, start: StartApp, case: tuple[str, str, bytes, dict[str, str]]
) -> None:
    """Copied cells, numbers and errors are the same bytes."""
    name, model, table, options = case
    for publish in (publish_price, publish_iris, publish_mixed):
        publish(models)
    (tmp_path / name).write_bytes(table)
    arguments = [part for key, value in options.items() for part in (f"--{key}", value)]
    kind = "text/csv" if name.endswith("csv") else "application/x-ndjson"
    response = start().post(
        f"/models/{model}/predict", content=table, params=options, headers={"content-type": kind}
    )

    output = tmp_path / f"out{Path(name).suffix}"
    done = score(models, model, str(tmp_path / name), "-o", str(output), *arguments)

    assert output.read_bytes() == response.content
    assert done.returncode == (1 if b"Line " in response.content else 0)
    assert b" rows in " in done.stderr


def test_the_output_for_a_long_compressed_file_equals_the_response_of_http(
    models: Path, tmp_path: Path, start: StartApp
) -> None:
    """The command and the service split it into different blocks of rows."""
    publish_iris(models)
    rows = "".join(
        f"{row % 7 / 3:.6f},{row % 11 / 5:.6f},{row % 13 / 6:.6f}\n" for row in range(30_000)
    )
    table = f"a,b,c\n{rows}".encode()
    (tmp_path / "in.csv.gz").write_bytes(gzip.compress(table))
    headers = {"content-type": "text/csv"}
    response = start().post("/models/iris/predict", content=table, headers=headers)

    done = score(models, "iris", str(tmp_path / "in.csv.gz"), "--quiet")

    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == response.content


def test_standard_input_is_scored_to_standard_output(models: Path) -> None:
    """The output has the requested form."""
    publish_price(models)

    words = ("score", "--models", str(models), "price", "-", "--to", "json", "--quiet")
    done = run_command(*words, stdin=b"size\n1\n2\n")

    assert done.stdout == (
        b'{"predictions":[{"value":2.0,"unit":"euros"},{"value":4.0,"unit":"euros"}],'
        b'"model_version":"1"}'
    )


@pytest.mark.parametrize(
    ("options", "stdin", "sentence"),
    [
        (["prise", "-"], b"size\n1\n", "did you mean 'price'?"),
        (["price", "-", "--version", "7"], b"size\n1\n", "has no version '7'"),
        (["price", "-"], b"sise\n1\n", 'is column "sise" a misspelling of it? Rename'),
        (["price", "-"], b"PK\x03\x04", "The workbook is damaged or incomplete"),
        (["price", "-", "--sheet", "May"], b"size\n1\n", "Only an Excel or OpenDocument file has"),
        (["price", "-", "-o", "a.parquet"], b"size\n1\n", "a.parquet would be a Parquet file, and"),
        (["price", "-", "--top", "3"], b"size\n1\n", "this model predicts a value"),
        (["price", "nowhere.csv"], b"", "nowhere.csv: No such file or directory."),
        (["price", "rows.json"], b"", "rows.json is JSON; a table is CSV"),
        (["price", "-", "--device", "tpu"], b"", "--device (ONWARD_DEVICE) is 'tpu'"),
        (["price", "-", "--models", "nowhere"], b"", "The models folder 'nowhere' does not exist"),
    ],
)
def test_a_source_that_cannot_be_scored_is_reported(
    models: Path, options: list[str], stdin: bytes, sentence: str
) -> None:
    """The exit status is 2, without output and without a traceback."""
    publish_price(models)

    done = score(models, *options, stdin=stdin)

    assert (done.returncode, done.stdout) == (2, b"")
    assert sentence in done.stderr.decode()
    assert b"Traceback" not in done.stderr


def test_a_truncated_file_leaves_an_earlier_output_as_it_was(models: Path, tmp_path: Path) -> None:
    """No incomplete output remains in the folder."""
    publish_price(models)
    source, output = tmp_path / "in.csv.gz", tmp_path / "out.csv"
    source.write_bytes(gzip.compress(b"size\n" + os.urandom(40_000).hex().encode())[:-20])
    output.write_text("before")

    done = score(models, "price", str(source), "-o", str(output))

    assert done.returncode == 2
    assert b"gzip data ends too early" in done.stderr
    assert output.read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv.gz", "models", "out.csv"]


def test_progress_is_drawn_on_a_terminal(models: Path, tmp_path: Path) -> None:
    """A bar, the number of rows so far, and the remaining time."""
    publish_price(models)
    source = tmp_path / "in.csv"
    source.write_text("size\n" + "1\n" * 400_000)
    terminal, end = pty.openpty()
    command = [sys.executable, "-m", "service", "score", "--models", str(models), "price"]

    with subprocess.Popen([*command, str(source), "-o", os.devnull], cwd=ROOT, stderr=end) as run:
        os.close(end)
        drawn = b""
        try:
            while data := os.read(terminal, 4096):
                drawn += data
        except OSError:
            pass  # on Linux, because the other end is closed
    os.close(terminal)

    assert run.returncode == 0
    assert "░".encode() in drawn
    assert b"% " in drawn
    assert b"s left" in drawn
    assert drawn.split(b"\x1b[K")[-1].startswith(b"price/1: 400,000 rows in ")


def test_predictions_for_a_folder_of_images_equal_those_of_http(
    models: Path, tmp_path: Path, start: StartApp
) -> None:
    """A file that is not an image has an error in its line, and the exit status is 1."""
    publish_mirror(models, image_input(2, 2, 1))
    folder = tmp_path / "images"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "b.jpg").write_bytes(encoded(photograph(9, 7, 2), "JPEG"))
    (folder / "a.png").write_bytes(encoded(photograph(5, 6, 1)))
    (folder / "notes.txt").write_text("no image")

    done = score(models, "mirror", str(folder))

    assert done.returncode == 1
    lines = list(csv.DictReader(io.StringIO(done.stdout.decode())))
    assert [line["file"] for line in lines] == ["a.png", "deep/b.jpg", "notes.txt"]
    assert "This is text" in lines[2]["error"]
    client = start(models=models)
    for line in lines[:2]:
        content = (folder / line["file"]).read_bytes()
        prediction = client.post(
            "/models/mirror/predict",
            content=content,
            headers={"content-type": "application/octet-stream"},
        ).json()
        assert line["label"] == prediction["label"]
        for label, probability in prediction["probabilities"].items():
            assert float(line[f"probability_{label}"]) == pytest.approx(probability, abs=1e-7)


def test_a_folder_without_files_is_reported(models: Path, tmp_path: Path) -> None:
    """Nothing is written, and the exit status is 2."""
    publish_mirror(models, image_input(2, 2, 1))
    (tmp_path / "empty").mkdir()

    done = score(models, "mirror", str(tmp_path / "empty"))

    assert done.returncode == 2
    assert "holds no files" in done.stderr.decode()
    assert done.stdout == b""
