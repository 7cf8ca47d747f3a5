"""``onward score``: files in, the service's own answers out."""

import gzip
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import StartApp
from tests.models import publish_iris, publish_mixed, publish_price
from tests.processes import ROOT

TABLE = 'note,size\r\nä,1.5\r\n"b, c",x\r\n,3\r\n'


def score(
    models: Path, *options: str, given: bytes | None = None
) -> "subprocess.CompletedProcess[bytes]":
    """Run the command on a folder of models."""
    command = [sys.executable, "-m", "service", "score", "--models", str(models), *options]
    return subprocess.run(command, cwd=ROOT, input=given, capture_output=True, check=False)


# File, model, content, parameters.
FILES: list[tuple[str, str, bytes, dict[str, str]]] = [
    ("in.csv", "price", TABLE.encode(), {}),
    ("in.csv", "iris", b"a;b;c\n1,5;2;0\n1;3;2\n", {"top": "2", "warnings": "true"}),
    ("in.ndjson", "mixed", b'[7, 2, true, "south", "red"]\n{"rooms": 0.5}\n', {}),
]


@pytest.mark.parametrize("case", FILES)
def test_a_file_gets_the_bytes_that_http_answers(
    models: Path, tmp_path: Path, start: StartApp, case: tuple[str, str, bytes, dict[str, str]]
) -> None:
    """To the bit: carried cells, numbers, errors."""
    name, model, table, options = case
    for publish in (publish_price, publish_iris, publish_mixed):
        publish(models)
    (tmp_path / name).write_bytes(table)
    given = [part for key, value in options.items() for part in (f"--{key}", value)]
    kind = "text/csv" if name.endswith("csv") else "application/x-ndjson"
    answer = start().post(
        f"/models/{model}/predict", content=table, params=options, headers={"content-type": kind}
    )

    written = tmp_path / f"out{Path(name).suffix}"
    ended = score(models, model, str(tmp_path / name), "-o", str(written), *given)

    assert written.read_bytes() == answer.content
    assert ended.returncode == (1 if b"Line " in answer.content else 0)
    assert b" rows in " in ended.stderr


def test_a_long_file_gets_the_bytes_that_http_answers(
    models: Path, tmp_path: Path, start: StartApp
) -> None:
    """However differently the two cut it into blocks; also where it is packed."""
    publish_iris(models)
    rows = "".join(
        f"{row % 7 / 3:.6f},{row % 11 / 5:.6f},{row % 13 / 6:.6f}\n" for row in range(30_000)
    )
    table = f"a,b,c\n{rows}".encode()
    (tmp_path / "in.csv.gz").write_bytes(gzip.compress(table))
    headers = {"content-type": "text/csv"}
    answer = start().post("/models/iris/predict", content=table, headers=headers)

    ended = score(models, "iris", str(tmp_path / "in.csv.gz"), "--quiet")

    assert (ended.returncode, ended.stderr) == (0, b"")
    assert ended.stdout == answer.content


def test_standard_input_is_scored_to_standard_output(models: Path) -> None:
    """In the form that is asked for."""
    publish_price(models)

    ended = score(models, "price", "-", "--to", "json", "--quiet", given=b"size\n1\n2\n")

    assert ended.stdout == (
        b'{"predictions":[{"value":2.0,"unit":"euros"},{"value":4.0,"unit":"euros"}],'
        b'"model_version":"1"}'
    )


@pytest.mark.parametrize(
    ("options", "given", "sentence"),
    [
        (["prise", "-"], b"size\n1\n", "did you mean 'price'?"),
        (["price", "-", "--version", "7"], b"size\n1\n", "has no version '7'"),
        (["price", "-"], b"sise\n1\n", 'did you mean it by "sise"? Rename'),
        (["price", "-"], b"PK\x03\x04", "a spreadsheet (.xlsx, .ods), not a table"),
        (["price", "-", "--top", "3"], b"size\n1\n", "this model predicts a value"),
        (["price", "nowhere.csv"], b"", "nowhere.csv: No such file or directory."),
        (["price", "rows.json"], b"", "rows.json is JSON; a table is CSV"),
        (["price", "-", "--device", "tpu"], b"", "--device (ONWARD_DEVICE) is 'tpu'"),
        (["price", "-", "--models", "nowhere"], b"", "The models folder 'nowhere' does not exist"),
    ],
)
def test_what_cannot_be_scored_is_told_in_a_sentence(
    models: Path, options: list[str], given: bytes, sentence: str
) -> None:
    """Exit code 2, nothing on standard output, and no traceback."""
    publish_price(models)

    ended = score(models, *options, given=given)

    assert (ended.returncode, ended.stdout) == (2, b"")
    assert sentence in ended.stderr.decode()
    assert b"Traceback" not in ended.stderr


def test_a_file_that_ends_too_early_replaces_nothing(models: Path, tmp_path: Path) -> None:
    """What stood under the name stands there still, and no half of an answer beside it."""
    publish_price(models)
    source, written = tmp_path / "in.csv.gz", tmp_path / "out.csv"
    source.write_bytes(gzip.compress(b"size\n" + os.urandom(40_000).hex().encode())[:-20])
    written.write_text("before")

    ended = score(models, "price", str(source), "-o", str(written))

    assert ended.returncode == 2
    assert b"gzip data ends too early" in ended.stderr
    assert written.read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv.gz", "models", "out.csv"]


def test_progress_is_drawn_on_a_terminal(models: Path, tmp_path: Path) -> None:
    """A bar, the rows so far, and the time that is left."""
    publish_price(models)
    source = tmp_path / "in.csv"
    source.write_text("size\n" + "1\n" * 400_000)
    terminal, end = pty.openpty()
    command = [sys.executable, "-m", "service", "score", "--models", str(models), "price"]

    with subprocess.Popen([*command, str(source), "-o", os.devnull], cwd=ROOT, stderr=end) as run:
        os.close(end)
        said = b""
        try:
            while data := os.read(terminal, 4096):
                said += data
        except OSError:
            pass  # Linux's way to say that the other side has closed
    os.close(terminal)

    assert run.returncode == 0
    assert "░".encode() in said
    assert b"% " in said
    assert b"s left" in said
    assert said.split(b"\x1b[K")[-1].startswith(b"price/1: 400,000 rows in ")
