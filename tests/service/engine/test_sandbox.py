"""Versions are first loaded in a separate process, so crashes and endless loads are harmless."""

import os
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import pytest
from onnx import TensorProto, helper

from service.engine.repository import Candidate, Repository
from service.engine.sandbox import LoadSandbox
from service.errors import LoadFailed
from tests.conftest import StartApp
from tests.models import publish_bare, publish_price, sum_and_difference

ISOLATED = {"load_isolation": "process"}


@cache
def nested_functions(depth: int, width: int) -> bytes:
    """A graph of functions that each call the next ``width`` times, ``depth`` deep.

    Deep ones overflow the runtime's stack while it inlines them; wide ones never end.
    """
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    functions = []
    for level in range(depth):
        names = ["x", *(f"t{call}" for call in range(width - 1)), "y"]
        calls = [
            helper.make_node(f"F{level + 1}", [names[call]], [names[call + 1]], domain="own")
            for call in range(width)
        ]
        functions.append(helper.make_function("own", f"F{level}", ["x"], ["y"], calls, opsets))
    last = [helper.make_node("Relu", ["x"], ["y"])]
    functions.append(helper.make_function("own", f"F{depth}", ["x"], ["y"], last, opsets))
    made = helper.make_model(
        helper.make_graph(
            [helper.make_node("F0", ["x"], ["y"], domain="own")],
            "nested",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
        ),
        opset_imports=opsets,
        ir_version=9,
        functions=functions,
    )
    content: bytes = made.SerializeToString()
    return content


def candidate(models: Path, name: str) -> Candidate:
    (found,) = Repository(models).scan().folders[name].candidates or ()
    return found


def sandboxes(parent: int) -> set[Path]:
    """Return the running sandboxes of a process."""
    return {
        path.parent
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if b"service.engine.sandbox_main" in _read(path)
        and _read(path.with_name("stat")).rpartition(b") ")[2].split()[1] == b"%d" % parent
    }


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""  # it has just ended


def test_a_model_that_crashes_the_runtime_is_rejected(models: Path, start: StartApp) -> None:
    """The sandbox crashes instead of the service, which serves the other models."""
    publish_bare(models, "bomb", nested_functions(6_000, 1))
    publish_price(models)
    client = start(**ISOLATED)

    listed = {model["name"]: model for model in client.get("/models").json()["models"]}

    assert listed["price"]["ready"]
    assert listed["bomb"]["reason"] == "loading it crashes the process (signal SIGSEGV)"
    assert client.post("/models/price/predict", json={"size": 1}).json()["value"] == 2.0


def test_such_a_model_really_crashes_a_process(models: Path) -> None:
    """Otherwise the test above would be meaningless."""
    path = publish_bare(models, "bomb", nested_functions(6_000, 1)) / "model.onnx"
    program = "import onnxruntime, sys; onnxruntime.InferenceSession(sys.argv[1])"

    ended = subprocess.run([sys.executable, "-c", program, str(path)], check=False)

    assert ended.returncode == -signal.SIGSEGV


def test_an_endless_load_is_killed(models: Path) -> None:
    """A few kilobytes that ONNX Runtime would inline for ever."""
    publish_bare(models, "endless", nested_functions(60, 2))
    publish_bare(models, "fine", sum_and_difference())
    rehearsal = LoadSandbox(threads=1, timeout_seconds=2.0)

    rehearsal.check(candidate(models, "fine"), "cpu")
    with pytest.raises(LoadFailed, match="not loaded after 2 s in its own process"):
        rehearsal.check(candidate(models, "endless"), "cpu")
    rehearsal.close()

    assert sandboxes(os.getpid()) == set()


def test_a_version_that_passed_is_not_tried_again_and_errors_are_reported_by_the_service(
    models: Path,
) -> None:
    """One process loads both; an error while loading is not a crash."""
    publish_bare(models, "fine", sum_and_difference())
    publish_bare(models, "no_graph", b"not a model")
    rehearsal = LoadSandbox(threads=1)

    for name in ("fine", "no_graph", "fine"):
        rehearsal.check(candidate(models, name), "cpu")
    trying = sandboxes(os.getpid())
    rehearsal.close()

    assert len(trying) == 1
    assert sandboxes(os.getpid()) == set()


def test_the_sandbox_ends_with_the_service(models: Path) -> None:
    """The sandbox ends even if the service is killed, because its input is closed then."""
    publish_bare(models, "fine", sum_and_difference())
    program = (
        "import sys; from pathlib import Path\n"
        "from service.engine.sandbox import LoadSandbox\n"
        "from service.engine.repository import Repository\n"
        "fine = Repository(Path(sys.argv[1])).scan().folders['fine'].candidates[0]\n"
        "rehearsal = LoadSandbox(threads=1); rehearsal.check(fine, 'cpu')\n"
        "print('tried', flush=True); sys.stdin.read()\n"
    )
    service = subprocess.Popen(
        [sys.executable, "-c", program, str(models)],
        cwd=Path(__file__).parents[3],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert service.stdout is not None
    assert service.stdout.readline() == b"tried\n"
    (other,) = sandboxes(service.pid)

    service.kill()
    service.communicate()

    for _ in range(500):
        if not _read(other / "cmdline"):
            break
        time.sleep(0.01)
    assert not _read(other / "cmdline")


def test_a_service_with_a_sandbox_serves_lazy_models(models: Path, start: StartApp) -> None:
    """The first request starts the load."""
    publish_price(models, slope=1.0)
    client = start(max_loaded_models=1, **ISOLATED)

    assert client.post("/models/price/predict", json={"size": 1}).json()["value"] == 1.0
