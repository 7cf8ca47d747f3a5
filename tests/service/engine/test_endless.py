"""Runs that never end are terminated at the deadline, and block no other request."""

import asyncio
import json
import signal
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from onnx import helper, numpy_helper

from service.bundle.store import compute_digest
from service.engine.loader import ExecutionPlan, load
from service.engine.model import BatchLimits, ServedModel
from service.engine.repository import Candidate
from service.errors import Draining, LoadFailed
from service.observability.metrics import Metrics
from tests.conftest import StartApp
from tests.foreign import (
    attention,
    counting_loop,
    one_large_product,
    one_node,
    serialized,
    tensor,
)
from tests.models import publish_admission, publish_bare
from tests.processes import served
from tests.service.engine.test_runs import resident_mib

FOR_EVER = 2**62
# The size of a matrix product that takes much longer than the timeouts of these tests.
HUGE = 8_000


def load_version(
    folder: Path, plan: ExecutionPlan | None = None, seconds: float = 30.0
) -> ServedModel:
    """Load the version in a folder."""
    candidate = Candidate(folder.parent.name, folder.name, folder, ())
    return load(candidate, plan or ExecutionPlan(), BatchLimits(0, 100_000, seconds), Metrics())


def iterate(client: httpx.Client, count: int) -> httpx.Response:
    """Request a number of iterations of the graph's loop."""
    return client.post(
        "/v2/models/loop/infer",
        json={
            "inputs": [
                {"name": "x", "shape": [1], "datatype": "FP32", "data": [0]},
                {"name": "n", "shape": [], "datatype": "INT64", "data": [count]},
            ]
        },
    )


def product(client: httpx.Client, width: int) -> httpx.Response:
    return client.post(
        "/v2/models/product/infer",
        json={
            "inputs": [
                {"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1]},
                {"name": "n", "shape": [2], "datatype": "INT64", "data": [width, width]},
            ]
        },
    )


def test_an_endless_run_is_terminated_at_the_deadline(models: Path, start: StartApp) -> None:
    """The next request of the same model and concurrent ones of other models succeed."""
    publish_bare(models, "loop", counting_loop())
    publish_admission(models)
    client = start(deadline_seconds=1)
    stuck = threading.Thread(target=iterate, args=(client, FOR_EVER))
    stuck.start()
    time.sleep(0.2)

    meanwhile = client.post("/models/admission/predict", json={"exam_1": 50, "exam_2": 60})
    stuck.join()
    after = iterate(client, 3)

    assert meanwhile.status_code == 200
    assert after.json()["outputs"][0]["data"] == [3.0]


def test_every_client_of_an_endless_run_gets_an_error(models: Path, start: StartApp) -> None:
    """The run is terminated at the deadline even after forty quick runs."""
    publish_bare(models, "loop", counting_loop())
    client = start(deadline_seconds=0.5)

    quick = [iterate(client, 1).status_code for _ in range(40)]
    slow = [iterate(client, FOR_EVER) for _ in range(3)]

    assert quick == [200] * 40
    assert [each.json()["code"] for each in slow] == ["deadline_exceeded"] * 3
    assert iterate(client, 1).status_code == 200


@pytest.mark.parametrize("name", ["loop", "product"])
def test_the_service_stops_during_an_endless_run(models: Path, name: str) -> None:
    """The service stops even during the computation of one operator that cannot be interrupted."""
    publish_bare(models, "loop", counting_loop())
    publish_bare(models, "product", one_large_product())
    send, size = (iterate, FOR_EVER) if name == "loop" else (product, HUGE)
    responses: list[httpx.Response] = []
    with (
        served("--models", str(models), "--device", "cpu", ONWARD_DEADLINE_SECONDS="1") as service,
        httpx.Client(base_url=service.address, timeout=60) as client,
    ):
        stuck = threading.Thread(target=lambda: responses.append(send(client, size)))
        stuck.start()
        time.sleep(0.3)
        began = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        stuck.join()
        service.process.wait(30)

    assert responses[0].status_code == 504
    assert time.monotonic() - began < 20


def test_closing_a_model_terminates_its_run(models: Path) -> None:
    """After the deadline, its clients get the error that the service is stopping."""
    model = load_version(publish_bare(models, "loop", counting_loop()), seconds=0.2)

    async def scenario() -> None:
        inputs = np.zeros(1, np.float32), np.array(FOR_EVER)
        waiting = asyncio.create_task(model.predict(inputs))
        await asyncio.sleep(0.05)
        await model.close()
        with pytest.raises(Draining):
            await waiting

    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_a_run_is_terminated_when_its_client_disconnects(models: Path) -> None:
    """Other requests need not wait for its end."""
    model = load_version(publish_bare(models, "loop", counting_loop()))

    async def scenario() -> float:
        x = np.zeros(1, np.float32)
        stuck = asyncio.create_task(model.predict((x, np.array(FOR_EVER))))
        await asyncio.sleep(0.05)
        after = asyncio.create_task(model.predict((x, np.array(2))))
        await asyncio.sleep(0.05)
        stuck.cancel()
        return float((await after).outputs[0][0])

    assert asyncio.run(asyncio.wait_for(scenario(), 20)) == 2.0


def endless_bundle(models: Path) -> Path:
    """Publish a bundle whose graph counts to 2^62 for every row."""
    folder = publish_admission(models)
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Neg", ["v"], ["w"])],
        "body",
        [tensor("turn", [], 7), tensor("go", [], 9), tensor("v", ["batch", 1])],
        [tensor("on", [], 9), tensor("w", ["batch", 1])],
    )
    nodes = [
        helper.make_node("ReduceSum", ["features", "columns"], ["sum"]),
        helper.make_node("Loop", ["iterations", "", "sum"], ["probability"], body=body),
    ]
    weights = [
        numpy_helper.from_array(np.array([1], np.int64), "columns"),
        numpy_helper.from_array(np.array(FOR_EVER, np.int64), "iterations"),
    ]
    content = serialized(
        nodes, [tensor("features", ["batch", 2])], [tensor("probability", ["batch", 1])], weights
    )
    replace_graph(folder, content)
    return folder


def replace_graph(folder: Path, content: bytes) -> None:
    """Replace the graph of a bundle, and update its digest."""
    (folder / "model.onnx").write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["model.onnx"] = compute_digest(content).model_dump()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_a_bundle_with_an_endless_self_test_is_rejected(models: Path, start: StartApp) -> None:
    """The bundle is rejected after the deadline of a request, and the other models serve."""
    folder = endless_bundle(models)
    publish_bare(models, "same", one_node("Neg"))

    client = start(deadline_seconds=0.5)

    assert client.get("/v2/models/same/ready").status_code == 200
    assert client.get("/v2/models/admission/ready").status_code == 503
    with pytest.raises(LoadFailed, match=r"takes longer than 0\.5 s"):
        load_version(folder, seconds=0.5)


LENGTH = 3000


def test_the_memory_of_a_long_sequence_is_released(models: Path) -> None:
    """Attention takes memory quadratic in the length, 34 MiB, although the input is small."""
    model = load_version(publish_bare(models, "attention", attention()))

    async def grown() -> float:
        await model.predict((np.zeros((1, 4, 8), np.float32),))
        before = resident_mib()
        await model.predict((np.zeros((1, LENGTH, 8), np.float32),))
        return resident_mib() - before

    assert asyncio.run(grown()) < 20


UNBOUNDED: dict[str, tuple[bytes, str]] = {
    "loop": (counting_loop(), "operator Loop"),
    "product": (one_large_product(), "operator Expand"),
    "attention": (attention(), "input 'x' has an axis of any length"),
    "any rank": (one_node("Neg"), "input 'x' has an axis of any length"),
    "boxes": (
        serialized(
            [helper.make_node("NonMaxSuppression", ["x", "s", "most"], ["y"])],
            [tensor("x", [1, 100, 4]), tensor("s", [1, 1, 100])],
            [tensor("y", None, 7)],
            [numpy_helper.from_array(np.array([5], np.int64), "most")],
        ),
        "operator NonMaxSuppression",
    ),
}


@pytest.mark.parametrize("by", ["setting", "tuning.json"])
@pytest.mark.parametrize("name", UNBOUNDED)
def test_a_graph_without_a_time_bound_never_runs_on_the_event_loop(
    models: Path, name: str, by: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The graph runs in a thread for any configuration, and the log has the reason."""
    content, reason = UNBOUNDED[name]
    folder = publish_bare(models, "any", content)
    plan = ExecutionPlan()
    if by == "setting":
        plan = ExecutionPlan(mode="inline", mode_by="setting")
    else:
        (folder.parent / "tuning.json").write_text('{"execution": "inline"}')

    model = load_version(folder, plan)

    assert (model.execution, model.runs_inline(1)) == ("batched", False)
    (record,) = [it for it in caplog.records if it.message == "not run on the event loop"]
    assert reason in record.__dict__["reason"]
    assert by in record.__dict__["reason"]


def fixed_shape_graph() -> bytes:
    """Return a graph of ``y = x + x`` for rows of two numbers."""
    node = helper.make_node("Add", ["x", "x"], ["y"])
    return serialized([node], [tensor("x", ["rows", 2])], [tensor("y", ["rows", 2])])


@pytest.mark.parametrize(
    ("plan", "tuning", "expected"),
    [
        (ExecutionPlan(), "", ("batched", "graph")),
        (ExecutionPlan(), '{"execution": "inline"}', ("inline", "tuning.json")),
        (ExecutionPlan(mode="inline", mode_by="setting"), "", ("inline", "setting")),
        (
            ExecutionPlan(mode="inline", mode_by="setting"),
            '{"execution": "batched"}',
            ("batched", "tuning.json"),
        ),
    ],
)
def test_a_bare_model_runs_in_a_thread_unless_configured_otherwise(
    models: Path, plan: ExecutionPlan, tuning: str, expected: tuple[str, str]
) -> None:
    """The model uses a thread even if its runs are quick."""
    folder = publish_bare(models, "fixed", fixed_shape_graph())
    if tuning:
        (folder.parent / "tuning.json").write_text(tuning)
    model = load_version(folder, plan)

    async def scenario() -> None:
        for _ in range(50):
            await model.predict((np.zeros((1, 2), np.float32),))

    asyncio.run(scenario())

    execution = model.info.execution
    assert execution is not None
    assert (execution.mode, execution.chosen_by) == expected
    assert model.runs_inline(1) == (expected[0] == "inline")


def graph_with_if() -> Any:  # noqa: ANN401 - onnx has no types
    """Return the graph of admission within an If, which is quick for all examples."""
    branches = [
        helper.make_graph(
            [helper.make_node("Sigmoid", ["score"], [name])],
            name,
            [],
            [tensor(name, ["batch", 1])],
        )
        for name in ("then", "else")
    ]
    nodes = [
        helper.make_node("Gemm", ["features", "weights", "bias"], ["score"]),
        helper.make_node(
            "If", ["always"], ["probability"], then_branch=branches[0], else_branch=branches[1]
        ),
    ]
    weights = [
        numpy_helper.from_array(np.array([[0.1], [0.2]], np.float32), "weights"),
        numpy_helper.from_array(np.array([-20], np.float32), "bias"),
        numpy_helper.from_array(np.array([1], bool).reshape(()), "always"),
    ]
    return serialized(
        nodes, [tensor("features", ["batch", 2])], [tensor("probability", ["batch", 1])], weights
    )


def test_a_bundle_without_a_time_bound_runs_in_a_thread(models: Path) -> None:
    """Its examples are quick, but other inputs may not be."""
    folder = publish_admission(models)
    replace_graph(folder, graph_with_if())

    model = load_version(folder)

    assert (model.manifest is not None, model.execution) == (True, "batched")
