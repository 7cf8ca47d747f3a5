"""Sessions: the graph's own facts, and the truth about the device."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from service.engine.devices import cuda_problem
from service.engine.session import Session, choose_device
from service.engine.tensors import ABSENT, TensorSpec
from service.errors import DeviceUnavailable, LoadFailed
from tests.foreign import optional_both_ways
from tests.models import graph, sum_and_difference


def test_a_session_gives_the_graphs_tensors() -> None:
    """Names, datatypes and shapes are the graph's; an axis of any length is -1."""
    session = Session.open(graph([[1.0], [2.0]], [0.0], "value"), "cpu", 1)

    assert session.inputs == (TensorSpec("features", "FP32", (-1, 2)),)
    assert session.outputs == (TensorSpec("value", "FP32", (-1, 1)),)


def test_a_run_computes_what_numpy_computes() -> None:
    """Inputs and outputs are in the graph's own order."""
    session = Session.open(sum_and_difference(), "cpu", 1)
    left = np.arange(16, dtype=np.int32).reshape(1, 16)
    right = np.full((1, 16), 3, np.int32)

    total, difference = session.run((left, right))

    np.testing.assert_array_equal(total, left + right)
    np.testing.assert_array_equal(difference, left - right)


def test_an_optional_input_that_is_absent_is_left_out() -> None:
    """The graph is told by what it is not given; an optional output comes back absent."""
    session = Session.open(optional_both_ways(), "cpu", 1)
    given = np.array([1, 2], np.float32)

    (has, y), (has_not, nothing) = session.run((given,)), session.run((ABSENT,))

    assert (has.item(), has_not.item()) == (True, False)
    np.testing.assert_array_equal(y, given)
    assert nothing is ABSENT
    assert session.inputs[0].optional


def test_bytes_that_are_no_model_are_rejected_with_the_runtimes_reason() -> None:
    """The operator reads what ONNX Runtime said."""
    with pytest.raises(LoadFailed, match=r"ONNX Runtime rejects model\.onnx: .*[Pp]rotobuf"):
        Session.open(b"not a model", "cpu", 1)


def test_cpu_is_chosen_without_asking_for_a_gpu() -> None:
    """What was asked for is what is used, with nothing to explain."""
    choice = choose_device("cpu")

    assert (choice.requested, choice.actual, choice.reason) == ("cpu", "cpu", None)


def test_auto_and_cuda_agree_on_what_is_possible() -> None:
    """Where CUDA works both take it; where it does not, auto explains and cuda refuses alike."""
    choice = choose_device("auto")

    if choice.actual == "cuda":
        assert choose_device("cuda").actual == "cuda"
    else:
        assert choice.reason
        with pytest.raises(DeviceUnavailable) as rejected:
            choose_device("cuda")
        assert choice.reason in str(rejected.value)


def test_a_missing_library_is_named(tmp_path: Path) -> None:
    """The probe names the file that is not there, or the library that it lacks."""
    missing = tmp_path / "libonnxruntime_providers_cuda.so"

    problem = cuda_problem(missing)

    assert problem is not None
    assert missing.name in problem


def test_a_library_that_does_not_load_is_named(tmp_path: Path) -> None:
    """A file that is no library is told with the loader's own words."""
    provider = tmp_path / "libonnxruntime_providers_cuda.so"
    provider.write_bytes(b"not a library")

    problem = cuda_problem(provider)

    assert problem is not None
    assert "a CUDA library is missing" in problem
    assert "libonnxruntime_providers_shared.so" in problem


def test_telemetry_is_off_before_the_runtime_is_imported() -> None:
    """Even where the environment says otherwise, the import finds the variable set to 1."""
    program = (
        "import os, sys\n"
        "class Watch:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'onnxruntime':\n"
        "            print(os.environ.get('ORT_DISABLE_TELEMETRY'))\n"
        "sys.meta_path.insert(0, Watch())\n"
        "import service.engine.session\n"
    )

    seen = subprocess.run(
        [sys.executable, "-c", program],
        env={"ORT_DISABLE_TELEMETRY": "0", "PATH": ""},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    )

    assert seen.stdout.split() == ["1"]
