"""``onward check``: every version of a folder proves itself, or why not."""

import subprocess
import sys
from pathlib import Path

from tests.models import place_bare, publish_admission, publish_price, sum_and_difference
from tests.processes import ROOT


def check(*options: str) -> "subprocess.CompletedProcess[str]":
    """Run the command."""
    command = [sys.executable, "-m", "service", "check", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_sound_models_are_named_and_the_end_is_well(models: Path) -> None:
    """Bundles of every version, and bare graphs."""
    publish_price(models)
    publish_price(models)
    place_bare(models, "simple", sum_and_difference())

    ended = check(str(models))

    assert ended.returncode == 0
    assert ended.stdout.splitlines() == [
        "ok        price/2",
        "ok        price/1",
        "ok        simple/1",
    ]


def test_each_model_that_fails_says_why(models: Path) -> None:
    """A changed file, an example that is not computed, a folder that is none; the others are ok."""
    publish_admission(models)
    changed = publish_price(models, "changed")
    (changed / "model.onnx").write_bytes(b"other")
    place_bare(models, "broken", b"no graph")
    publish_price(models, "odd name".replace(" ", "_"))
    (models / "odd_name").rename(models / "odd name")

    ended = check("--models", str(models))

    assert ended.returncode == 1
    assert "left out  'odd name' is no name for a model" in ended.stdout
    assert "ok        admission/1\n" in ended.stdout
    assert "refused   changed/1  model.onnx has 5 bytes" in ended.stdout
    assert "refused   broken/1  model.onnx is not an ONNX file" in ended.stdout


def test_a_folder_that_holds_nothing_is_no_success(tmp_path: Path) -> None:
    """An empty folder fails; one that is not there cannot be looked at."""
    empty, missing = check(str(tmp_path)), check(str(tmp_path / "nowhere"))

    assert (empty.returncode, missing.returncode) == (1, 2)
    assert "holds no model" in empty.stdout
    assert "does not exist" in missing.stderr
