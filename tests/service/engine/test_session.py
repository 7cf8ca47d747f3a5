"""Sessions report the tensors of the graph, and the device in use."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from service.engine.devices import find_cuda_problem
from service.engine.session import Session, SessionConfig, choose_device, new_control
from service.engine.tensors import ABSENT, TensorSpec
from service.errors import DeviceUnavailable, LoadFailed
from tests.foreign import (
    failing_shape,
    lower_case,
    maps_of_a_function,
    one_node,
    optional_both_ways,
)
from tests.models import graph, sum_and_difference

ROOT = Path(__file__).parents[3]


def test_a_session_reports_the_tensors_of_the_graph() -> None:
    """Names, datatypes and shapes; an axis of any length is -1."""
    session = Session.open(graph([[1.0], [2.0]], [0.0], "value"), "cpu", SessionConfig())

    assert session.inputs == (TensorSpec("features", "FP32", (-1, 2)),)
    assert session.outputs == (TensorSpec("value", "FP32", (-1, 1)),)


def test_a_run_equals_numpy() -> None:
    """Inputs and outputs are in the graph's order."""
    session = Session.open(sum_and_difference(), "cpu", SessionConfig())
    left = np.arange(16, dtype=np.int32).reshape(1, 16)
    right = np.full((1, 16), 3, np.int32)

    total, difference = session.run((left, right))

    np.testing.assert_array_equal(total, left + right)
    np.testing.assert_array_equal(difference, left - right)


def test_an_absent_optional_input_is_omitted() -> None:
    """An optional output may be absent, too."""
    session = Session.open(optional_both_ways(), "cpu", SessionConfig())
    given = np.array([1, 2], np.float32)

    (has, y), (has_not, nothing) = session.run((given,)), session.run((ABSENT,))

    assert (has.item(), has_not.item()) == (True, False)
    np.testing.assert_array_equal(y, given)
    assert nothing is ABSENT
    assert session.inputs[0].optional


def test_maps_that_a_function_returns_are_rows_in_the_order_of_the_maps() -> None:
    """Only those of the graph's own nodes are replaced when it is loaded."""
    session = Session.open(maps_of_a_function(), "cpu", SessionConfig())
    rows = np.array([[1, 2], [3, 4]], np.float32)

    (probabilities,) = session.run((rows,))

    np.testing.assert_array_equal(probabilities, rows[:, ::-1])
    assert session.outputs == (TensorSpec("maps", "FP32", (-1, -1)),)


def test_errors_of_onnx_runtime_are_not_printed(capfd: pytest.CaptureFixture[str]) -> None:
    """Those of a load and of a run are only in the exceptions."""
    session = Session.open(failing_shape(), "cpu", SessionConfig())

    with pytest.raises(LoadFailed, match="its opset 999"):
        Session.open(one_node("Neg", opset=999), "cpu", SessionConfig())
    for control in (None, new_control()):
        with pytest.raises(Exception, match="Reshape"):
            session.run((np.zeros(8, np.float32),), control)

    assert capfd.readouterr() == ("", "")


def test_invalid_bytes_are_rejected_with_the_reason_of_onnx_runtime() -> None:
    """The message contains ONNX Runtime's error."""
    with pytest.raises(LoadFailed, match=r"ONNX Runtime rejects model\.onnx: .*[Pp]rotobuf"):
        Session.open(b"not a model", "cpu", SessionConfig())


@pytest.mark.skipif(not Path("/usr/share/i18n").exists(), reason="needs the package locales")
def test_the_locale_of_the_image_is_found(tmp_path: Path) -> None:
    """The folder that the Dockerfile makes is all that StringNormalizer needs."""
    (command,) = re.findall(r"localedef .+(?= /en_US.utf8)", (ROOT / "Dockerfile").read_text())
    subprocess.run([*command.split(), str(tmp_path / "en_US.utf8")], check=True)
    (tmp_path / "model.onnx").write_bytes(lower_case("en_US.UTF-8"))
    program = (
        "import sys, numpy, pathlib\n"
        "from service.engine.session import Session, SessionConfig\n"
        "model = pathlib.Path(sys.argv[1], 'model.onnx').read_bytes()\n"
        "(words,) = Session.open(model, 'cpu', SessionConfig()).run((numpy.array(['ÄB']),))\n"
        "print(ascii(words.tolist()))\n"
    )

    printed = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env={"LOCPATH": str(tmp_path), "PATH": ""},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    assert printed.stdout.strip() == ascii(["äb"])


def test_cpu_is_chosen_without_testing_a_gpu() -> None:
    """The requested device is the one in use, without a reason."""
    choice = choose_device("cpu")

    assert (choice.requested, choice.actual, choice.reason) == ("cpu", "cpu", None)


def test_auto_and_cuda_agree_on_the_availability_of_cuda() -> None:
    """If CUDA works, both use it; if not, auto gives the reason and cuda fails with it."""
    choice = choose_device("auto")

    if choice.actual == "cuda":
        assert choose_device("cuda").actual == "cuda"
    else:
        assert choice.reason
        with pytest.raises(DeviceUnavailable) as rejected:
            choose_device("cuda")
        assert choice.reason in str(rejected.value)


def test_a_missing_library_is_named(tmp_path: Path) -> None:
    """The problem names the missing file or the missing dependency."""
    missing = tmp_path / "libonnxruntime_providers_cuda.so"

    problem = find_cuda_problem(missing)

    assert problem is not None
    assert missing.name in problem


def test_a_library_that_does_not_load_is_named(tmp_path: Path) -> None:
    """The reason contains the error of the dynamic loader."""
    provider = tmp_path / "libonnxruntime_providers_cuda.so"
    provider.write_bytes(b"not a library")

    problem = find_cuda_problem(provider)

    assert problem is not None
    assert "a CUDA library is missing" in problem
    assert "libonnxruntime_providers_shared.so" in problem


def test_telemetry_is_disabled_before_onnx_runtime_is_imported() -> None:
    """The variable is 1 during the import in any environment."""
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
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    assert seen.stdout.split() == ["1"]
