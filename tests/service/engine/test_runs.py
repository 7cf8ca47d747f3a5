"""The ways to run a graph: each gives the same bits as ONNX Runtime's ordinary call."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from service.engine.bound import BoundRuns
from service.engine.devices import known_devices, provider_name, providers
from service.engine.dtypes import Array, Rows
from service.engine.graphs import GRAPH_ID, SIZES, GraphRuns, filled
from service.engine.session import Opening, Session, choose_device
from service.errors import DeviceUnavailable
from service.settings import Settings
from tests.models import ADMISSION_BIAS, ADMISSION_WEIGHTS, assembled, failing_graph, graph

MODEL = graph(ADMISSION_WEIGHTS, ADMISSION_BIAS, "probability", "Sigmoid")
TAKEN: Rows = [("features", np.zeros((0, 2), np.float32))]
MADE: Rows = [("probability", np.zeros((0, 1), np.float32))]


def runtime() -> Any:  # noqa: ANN401 - the library has no types
    """The graph in ONNX Runtime itself."""
    return onnxruntime.InferenceSession(MODEL, providers=["CPUExecutionProvider"])


def batch(rows: int) -> Array:
    return np.random.default_rng(rows).uniform(0, 100, (rows, 2)).astype(np.float32)


def oracle(rows: Array) -> Array:
    answer: Array = runtime().run(None, {"features": rows})[0]
    return answer


@pytest.mark.parametrize("rows", [1, 2, 7, 64])
def test_bound_runs_answer_the_same_bits(rows: int) -> None:
    """Also the second time, when the buffers are there."""
    runs = BoundRuns(runtime(), TAKEN[0], MADE[0])

    for _ in range(2):
        answer = runs.run((batch(rows),))
        assert answer is not None
        np.testing.assert_array_equal(answer[0], oracle(batch(rows)))


def test_an_answer_is_the_callers_to_keep() -> None:
    """The next run does not write into it."""
    runs = BoundRuns(runtime(), TAKEN[0], MADE[0])

    first = runs.run((batch(1),))
    runs.run((batch(1) + 1,))

    assert first is not None
    np.testing.assert_array_equal(first[0], oracle(batch(1)))


@pytest.mark.parametrize(
    "given",
    [
        batch(65),
        batch(1).astype(np.float64),
        np.zeros((0, 2), np.float32),
        np.zeros((1, 3), np.float32),
        np.zeros((2, 1, 2), np.float32),
        np.array(1, np.float32),
    ],
)
def test_what_does_not_fit_the_buffers_goes_the_ordinary_way(given: Array) -> None:
    """More rows, no rows, another datatype or another shape."""
    assert BoundRuns(runtime(), TAKEN[0], MADE[0]).run((given,)) is None


def test_threads_get_their_own_answers() -> None:
    """Four threads ask one session for different rows, a few hundred times each."""
    session = Session.open(MODEL, "cpu", 1)
    session.bind()
    wrong: list[int] = []

    def ask(rows: int) -> None:
        given, expected = batch(rows), oracle(batch(rows))
        if any(session.run((given,))[0].tobytes() != expected.tobytes() for _ in range(300)):
            wrong.append(rows)

    threads = [threading.Thread(target=ask, args=(rows,)) for rows in (1, 2, 3, 70)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []


def test_a_graph_that_answers_other_rows_than_given_goes_the_ordinary_way() -> None:
    """Its answers and its errors are the runtime's own, and the buffers are free again."""
    session = Session.open(failing_graph(), "cpu", 1)
    session.bind()
    with pytest.raises(Exception, match="Reshape"):
        session.run((np.ones((1, 2), np.float32),))

    (answer,) = session.run((np.ones((7, 2), np.float32),))

    np.testing.assert_array_equal(answer, [[7.0], [7.0]])


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8, 9, 1000, 1024])
def test_a_batch_that_is_filled_up_and_cut_back_is_the_same(rows: int) -> None:
    """What is captured on a GPU; on the CPU nothing is captured, and the rest is alike."""
    runs = GraphRuns(runtime(), (TAKEN, MADE), tensor_on_cpu, run_options)

    answer = runs.run((batch(rows),))

    assert answer is not None
    np.testing.assert_array_equal(answer[0], oracle(batch(rows)))
    again = runs.run((batch(rows) * 2,))
    np.testing.assert_array_equal(answer[0], oracle(batch(rows)))
    assert again is not None
    np.testing.assert_array_equal(again[0], oracle(batch(rows) * 2))


@pytest.mark.parametrize(
    "given", [batch(SIZES[-1] + 1), np.zeros((0, 2), np.float32), batch(2).astype(np.float64)]
)
def test_what_has_no_size_is_not_captured(given: Array) -> None:
    """More rows than the largest size, none, or another datatype."""
    assert GraphRuns(runtime(), (TAKEN, MADE), tensor_on_cpu, run_options).run((given,)) is None


def test_a_batch_is_filled_up_with_its_last_row() -> None:
    """A row that a caller sent, so that it fails on nothing that the others pass."""
    np.testing.assert_array_equal(filled(np.array([[1], [2]]), 4), [[1], [2], [2], [2]])


def tensor_on_cpu(shape: list[int], kind: type[Any]) -> Any:  # noqa: ANN401 - as above
    return onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, kind, "cpu", 0)


def run_options(number: str) -> Any:  # noqa: ANN401 - as above
    options = onnxruntime.RunOptions()
    options.add_run_config_entry(GRAPH_ID, number)
    return options


def test_a_large_run_gives_its_memory_back() -> None:
    """Each session keeps what runs of few rows need, whatever came in between."""
    grown = {}
    for kept_rows in (100, 1_000_000):
        session = Session.open(wide_graph(), "cpu", 1, opening=Opening(kept_rows=kept_rows))
        few = session.run((batch(4),))[0]
        before = resident_mib()
        session.run((batch(20_000),))
        grown[kept_rows] = resident_mib() - before
        np.testing.assert_array_equal(session.run((batch(4),))[0], few)

    # The run needs a tensor of 312 MiB.
    assert grown[100] < 100
    assert grown[1_000_000] > 250


def wide_graph() -> bytes:
    """Two columns to 4096, and the greatest of these."""
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


def test_the_gpu_is_asked_for_no_more_than_is_needed() -> None:
    """Its arena does not double, a limit is in bytes, and TensorRT falls back to the GPU only."""
    (cuda, options), cpu = providers("cuda", gpu_memory_mib=512, graphs=True)

    assert cuda == "CUDAExecutionProvider"
    assert options == {
        "arena_extend_strategy": "kSameAsRequested",
        "gpu_mem_limit": str(512 * 2**20),
        "enable_cuda_graph": "1",
    }
    assert cpu == ("CPUExecutionProvider", {})
    assert [name for name, _ in providers("tensorrt")] == [
        "TensorrtExecutionProvider",
        "CUDAExecutionProvider",
        "CPUExecutionProvider",
    ]


@pytest.mark.parametrize("name", ["openvino", "OpenVINOExecutionProvider", "MIGraphX", "qnn"])
def test_a_device_that_this_build_lacks_is_refused_with_those_it_has(name: str) -> None:
    """By its short word or by ONNX Runtime's name; nothing else is used in its place."""
    device = Settings.model_validate({"device": name}).device
    with pytest.raises(DeviceUnavailable) as refused:
        choose_device(device)

    said = str(refused.value)
    assert "this build of ONNX Runtime has no" in said
    assert "it has cpu" in said


def test_every_device_of_this_build_is_known_by_a_word() -> None:
    """The names of ONNX Runtime that start with those of its build."""
    listed = onnxruntime.get_available_providers()

    assert {provider_name(device) for device in known_devices(listed)} == set(listed)
