"""``onward tune``: measurements are printed, and the choice is written to ``tuning.json``."""

import json
import os
from pathlib import Path

import jsonschema
import pytest

from service.bundle.store import read_document
from service.bundle.tuning import TUNING, Measured, Tuning
from service.cli.tune import choose_tuning, compare_devices
from service.engine.loader import describe_machine
from tests.models import publish_admission, publish_bare, sum_and_difference
from tests.processes import run_command, run_here


def tune(*options: str) -> tuple[int, str, str]:
    """Run the command with short measurements; return its status, output and errors."""
    ended = run_here("tune", "--seconds", "0.001", *options)
    return ended.returncode, ended.stdout.decode(), ended.stderr.decode()


def point(device: str, threads: int, rows: int, milliseconds: float) -> Measured:
    return Measured(
        device=device,
        threads=threads,
        rows=rows,
        milliseconds=milliseconds,
        rows_per_second=rows / milliseconds * 1e3,
    )


def test_the_measurements_are_printed_and_the_choice_is_written(models: Path) -> None:
    """The file has the measurements and the machine, and conforms to the published schema."""
    folder = publish_admission(models)

    words = ("--models", str(models), "--device", "cpu", "--max-batch-rows", "4")
    ended = run_command("tune", "--seconds", "0.001", "admission", *words)
    output = ended.stdout.decode()

    assert (ended.returncode, ended.stderr) == (0, b"")
    tuning = read_document(Tuning, folder.parent / TUNING)
    assert tuning is not None
    assert (tuning.device, tuning.version, tuning.machine) == ("cpu", "1", describe_machine())
    assert {each.rows for each in tuning.measured} == {1, 2, 4}
    rows = [line.split() for line in output.splitlines() if line.startswith("cpu ")]
    assert len(rows) == len(tuning.measured)
    assert "No GPU was measured" in output
    assert "A call in a thread costs" in output
    written = json.loads((folder.parent / "tuning.json").read_text())
    jsonschema.validate(written, Tuning.model_json_schema())


def test_a_dry_run_writes_nothing(models: Path) -> None:
    """The output states that nothing is written."""
    folder = publish_admission(models)

    words = ("--models", str(models), "--max-batch-rows", "1", "--dry-run")
    status, output, _ = tune("admission", *words)

    assert status == 0
    assert "Nothing is written" in output
    assert read_document(Tuning, folder.parent / TUNING) is None


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("admision", "did you mean 'admission'?"),
        ("simple", "manifest.json is missing"),
    ],
)
def test_a_model_that_cannot_be_measured_is_reported(
    models: Path, name: str, sentence: str
) -> None:
    """A model that does not exist, and a bare model, which has no examples."""
    publish_admission(models)
    publish_bare(models, "simple", sum_and_difference())

    status, _, errors = tune(name, "--models", str(models))

    assert status == 2
    assert sentence in errors


def test_a_folder_that_cannot_be_written_is_reported(models: Path) -> None:
    """For root, which may write everywhere, a folder blocks the temporary file's name."""
    model_folder = publish_admission(models).parent
    if os.geteuid() == 0:
        (model_folder / f".tuning.json.unfinished-{os.getpid()}").mkdir()
    else:
        model_folder.chmod(0o555)

    words = ("--models", str(models), "--device", "cpu", "--max-batch-rows", "1")
    status, _, errors = tune("admission", *words)

    assert status == 2
    assert "The choice cannot be written" in errors


def test_more_threads_are_chosen_only_if_they_are_a_tenth_faster() -> None:
    """Single rows and batches are averaged."""
    one = [point("cpu", 1, 1, 1.0), point("cpu", 1, 8, 8.0)]
    little = [point("cpu", 2, 1, 0.98), point("cpu", 2, 8, 7.5)]
    much = [point("cpu", 2, 1, 0.9), point("cpu", 2, 8, 4.0)]

    assert choose_tuning([*one, *little], 0.0).threads == 1
    assert choose_tuning([*one, *much], 0.0).threads == 2


def test_the_smallest_batch_that_gives_nearly_everything_is_chosen() -> None:
    """Larger batches would only make clients wait longer."""
    curve = [point("cpu", 1, rows, 0.1 + 0.1 * rows) for rows in (1, 16, 32, 1024)]

    assert choose_tuning(curve, 0.0).max_batch_rows == 32


def test_a_run_is_inline_if_a_call_in_a_thread_is_expensive_compared_with_it() -> None:
    """A run of a millisecond is batched, and one of 20 us is not."""
    quick, slow = [point("cpu", 1, 1, 0.02)], [point("cpu", 1, 1, 1.0)]

    assert choose_tuning(quick, 0.000_03).execution == "inline"
    assert choose_tuning(slow, 0.000_03).execution == "batched"


def test_the_faster_device_is_named() -> None:
    """The message names it for single rows and batches, and the reason why a device is missing."""
    cpu = [point("cpu", 1, 1, 0.1), point("cpu", 1, 64, 6.4)]
    gpu = [point("cuda", 1, 1, 0.2), point("cuda", 1, 64, 0.64)]

    assert list(compare_devices([*cpu, *gpu], {"tensorrt": "no driver"})) == [
        "One row: the CPU is 2.0 times as fast as cuda.",
        "Batches: cuda is 10.0 times as fast as the CPU.",
        "tensorrt was not measured: no driver.",
    ]


def test_all_fields_of_a_tuning_are_optional() -> None:
    """A file written by hand may contain only the execution."""
    assert Tuning.model_validate_json('{"execution": "inline"}').threads is None
