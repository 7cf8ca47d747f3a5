"""Sessions in several threads, their memory, and their devices."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from service.engine.devices import get_provider_name, list_devices, list_providers
from service.engine.session import Session, SessionConfig, choose_device
from service.engine.tensors import Array
from service.errors import DeviceUnavailable
from service.settings import Settings
from tests.models import ADMISSION_BIAS, ADMISSION_WEIGHTS, assembled, graph

MODEL = graph(ADMISSION_WEIGHTS, ADMISSION_BIAS, "probability", "Sigmoid")


def runtime() -> Any:  # noqa: ANN401 - the library has no types
    """Return the graph in ONNX Runtime itself."""
    return onnxruntime.InferenceSession(MODEL, providers=["CPUExecutionProvider"])


def batch(rows: int) -> Array:
    return np.random.default_rng(rows).uniform(0, 100, (rows, 2)).astype(np.float32)


def oracle(rows: Array) -> Array:
    output: Array = runtime().run(None, {"features": rows})[0]
    return output


def test_threads_get_their_own_outputs() -> None:
    """Four threads run one session with different rows, a few hundred times each."""
    session = Session.open(MODEL, "cpu", SessionConfig())
    wrong: list[int] = []

    def predict(rows: int) -> None:
        given, expected = batch(rows), oracle(batch(rows))
        if any(session.run((given,))[0].tobytes() != expected.tobytes() for _ in range(300)):
            wrong.append(rows)

    threads = [threading.Thread(target=predict, args=(rows,)) for rows in (1, 2, 3, 70)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []


def test_a_large_run_releases_its_memory() -> None:
    """A session retains only the memory of small runs."""
    grown = {}
    for arena_rows in (100, 1_000_000):
        session = Session.open(wide_graph(), "cpu", SessionConfig(arena_rows=arena_rows))
        few = session.run((batch(4),))[0]
        before = resident_mib()
        session.run((batch(20_000),))
        grown[arena_rows] = resident_mib() - before
        np.testing.assert_array_equal(session.run((batch(4),))[0], few)

    # The run needs a tensor of 312 MiB.
    assert grown[100] < 100
    assert grown[1_000_000] > 250


def wide_graph() -> bytes:
    """Return a graph that expands two columns to 4096, and returns their maximum."""
    weights = numpy_helper.from_array(np.ones((2, 4096), np.float32), "weights")
    nodes = [
        helper.make_node("MatMul", ["features", "weights"], ["wide"]),
        helper.make_node("ReduceMax", ["wide"], ["value"], axes=[1]),
    ]
    inputs = [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 2])]
    outputs = [helper.make_tensor_value_info("value", TensorProto.FLOAT, ["batch", 1])]
    return assembled(nodes, inputs, outputs, [weights])


def resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


def test_the_options_of_gpu_providers() -> None:
    """The arena does not double, a limit is in bytes, and TensorRT falls back to the GPU first."""
    (cuda, options), cpu = list_providers("cuda", gpu_memory_mib=512)

    assert cuda == "CUDAExecutionProvider"
    assert options == {
        "arena_extend_strategy": "kSameAsRequested",
        "gpu_mem_limit": str(512 * 2**20),
    }
    assert cpu == ("CPUExecutionProvider", {})
    assert [name for name, _ in list_providers("tensorrt")] == [
        "TensorrtExecutionProvider",
        "CUDAExecutionProvider",
        "CPUExecutionProvider",
    ]


@pytest.mark.parametrize("name", ["OpenVINOExecutionProvider", "QNNExecutionProvider"])
def test_an_unsupported_device_is_rejected_with_the_supported_ones(name: str) -> None:
    """No other device is used instead."""
    device = Settings.model_validate({"device": name}).device
    with pytest.raises(DeviceUnavailable) as rejected:
        choose_device(device)

    message = str(rejected.value)
    assert "this build of ONNX Runtime has no" in message
    assert "it has cpu" in message


@pytest.mark.parametrize("name", ["cuda", "CUDA", "CUDAExecutionProvider"])
def test_a_device_has_one_name(name: str) -> None:
    """Short names replace those of ONNX Runtime, in upper or lower case."""
    assert Settings.model_validate({"device": name}).device == "cuda"


def test_every_device_of_this_build_is_known() -> None:
    """The names of the devices are those that ONNX Runtime lists."""
    listed = onnxruntime.get_available_providers()

    assert {get_provider_name(device) for device in list_devices(listed)} == set(listed)
