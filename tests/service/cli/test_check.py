"""``onward check``: every version of a folder passes its self-test, or the reason is printed."""

import os
import subprocess
import sys
from pathlib import Path

from tests.models import publish_admission, publish_bare, publish_price, sum_and_difference
from tests.processes import ROOT, run_command, run_here


def check(*options: str) -> tuple[int, str, str]:
    """Run the command; return its status, output and errors."""
    ended = run_here("check", *options)
    return ended.returncode, ended.stdout.decode(), ended.stderr.decode()


def test_valid_models_are_listed_with_status_0(models: Path) -> None:
    """The list contains all versions of bundles, and bare models."""
    publish_price(models)
    publish_price(models)
    publish_bare(models, "simple", sum_and_difference())

    ended = run_command("check", str(models))

    assert ended.returncode == 0
    assert ended.stdout.decode().splitlines() == [
        "ok        price/2",
        "ok        price/1",
        "ok        simple/1",
    ]


def test_each_invalid_model_is_listed_with_a_reason(models: Path) -> None:
    """A changed file, a file that is not ONNX, a folder with an invalid name; the others pass."""
    publish_admission(models)
    changed = publish_price(models, "changed")
    (changed / "model.onnx").write_bytes(b"other")
    publish_bare(models, "broken", b"no graph")
    publish_price(models, "odd name".replace(" ", "_"))
    (models / "odd_name").rename(models / "odd name")

    status, output, _ = check("--models", str(models))

    assert status == 1
    assert "left out  'odd name' is no name for a model" in output
    assert "ok        admission/1\n" in output
    assert "rejected  changed/1  model.onnx has 5 bytes" in output
    assert "rejected  broken/1  model.onnx is not an ONNX file" in output


def test_an_empty_folder_and_a_missing_folder_fail(tmp_path: Path) -> None:
    """The exit status is 1 for an empty folder, and 2 for one that does not exist."""
    empty, missing = check(str(tmp_path)), check(str(tmp_path / "nowhere"))

    assert (empty[0], missing[0]) == (1, 2)
    assert "holds no model" in empty[1]
    assert "does not exist" in missing[2]


def test_a_reader_that_stops_reading_ends_the_command_quietly(models: Path) -> None:
    """With ``| head``, there is no traceback."""
    publish_price(models)
    reading, writing = os.pipe()
    os.close(reading)

    with os.fdopen(writing, "wb") as closed:
        ended = subprocess.run(
            [sys.executable, "-m", "service", "check", str(models)],
            cwd=ROOT,
            stdout=closed,
            stderr=subprocess.PIPE,
            check=False,
        )

    assert (ended.returncode, ended.stderr) == (0, b"")
