"""External weights are read into memory once, so that later changes to the files do not matter."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest

from service.engine.repository import compute_fingerprint
from tests.conftest import StartApp
from tests.foreign import adds_in_a_branch, adds_large_weights, weights_file, with_weights_at
from tests.models import publish_admission, publish_bare
from tests.processes import served, until
from tests.tensors import infer_in_json

LARGE = 1_000_000


def truncated(path: Path) -> None:
    os.truncate(path, 0)


def rewritten(path: Path) -> None:
    """Rewrite in place with the same size, as ``rsync --inplace`` does."""
    with path.open("r+b") as file:
        file.write(b"\xff" * path.stat().st_size)


def removed(path: Path) -> None:
    path.unlink()


def replaced_by_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGES: list[Callable[[Path], None]] = [truncated, rewritten, removed, replaced_by_a_pipe]


def sums(client: httpx.Client) -> list[float]:
    data: list[float] = infer_in_json(client, "outside", {"x": np.zeros(4, np.float32)}).json()[
        "outputs"
    ][0]["data"]
    return data


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("graph", [with_weights_at, adds_in_a_branch])
def test_a_loaded_model_serves_whatever_happens_to_its_weights_file(
    models: Path, start: StartApp, graph: Callable[[str], bytes], damage: Callable[[Path], None]
) -> None:
    """Damage to the weights file has no effect, also if a subgraph uses it."""
    folder = publish_bare(models, "outside", graph("weights.bin"))
    (folder / "weights.bin").write_bytes(weights_file())
    client = start()
    before = sums(client)

    damage(folder / "weights.bin")

    assert before == [0, 1, 2, 3]
    assert sums(client) == before


def test_truncated_large_weights_do_not_crash_the_process(models: Path) -> None:
    """Accessing missing pages of a mapped file would be fatal."""
    folder = publish_bare(models, "large", adds_large_weights("weights.bin", LARGE))
    (folder / "weights.bin").write_bytes(np.ones(LARGE, "<f4").tobytes())
    with served("--models", str(models), "--device", "cpu", ONWARD_POLL_SECONDS="0.1") as service:
        os.truncate(folder / "weights.bin", 0)
        service.until_said("model rejected")
        request = {
            "inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1.0]}],
        }

        response = httpx.post(f"{service.address}/v2/models/large/infer", json=request)

        assert response.json()["outputs"][0]["data"] == [2.0] * LARGE
        index = httpx.post(f"{service.address}/v2/repository/index").json()
        assert "what was loaded before serves" in index[0]["reason"]
        assert "weights.bin" in index[0]["reason"] or "rejects" in index[0]["reason"]


def test_changed_weights_are_loaded(models: Path) -> None:
    """The next scan loads them although the graph and the file's size and time are the same."""
    folder = publish_bare(models, "outside", with_weights_at("parts/weights.bin"))
    (folder / "parts").mkdir()
    path = folder / "parts" / "weights.bin"
    path.write_bytes(weights_file())
    status = path.stat()
    with (
        served("--models", str(models), "--device", "cpu", ONWARD_POLL_SECONDS="0.1") as service,
        httpx.Client(base_url=service.address) as client,
    ):
        path.write_bytes(weights_file()[::-1])
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        before = [0.0, 1.0, 2.0, 3.0]

        until(lambda: sums(client) != before)


def test_a_copy_with_the_same_size_and_time_has_another_fingerprint(models: Path) -> None:
    """``cp -p`` and ``rsync -t`` make such copies."""
    folder = publish_bare(models, "outside", with_weights_at("weights.bin"))
    (folder / "weights.bin").write_bytes(weights_file())
    copy = folder.parent / "copy"
    shutil.copy2(folder / "weights.bin", copy)
    before = compute_fingerprint(folder)

    shutil.copy2(copy, folder / "weights.bin")

    assert compute_fingerprint(folder) != before


@pytest.mark.parametrize(
    ("size", "reason"), [(10**13, "its weights take"), (3, "ONNX Runtime rejects")]
)
def test_weights_of_the_wrong_size_are_rejected(
    models: Path, start: StartApp, size: int, reason: str
) -> None:
    """More than the memory of the machine, in a sparse file, and less than the graph needs."""
    folder = publish_bare(models, "outside", with_weights_at("weights.bin"))
    (folder / "weights.bin").write_bytes(b"")
    os.truncate(folder / "weights.bin", size)
    publish_admission(models)
    client = start()

    response = infer_in_json(client, "outside", {"x": np.zeros(4, np.float32)})

    assert response.status_code == 409
    assert reason in response.json()["error"]
    assert client.get("/v2/models/admission/ready").status_code == 200


@pytest.mark.parametrize("graph", [with_weights_at, adds_in_a_branch])
def test_files_of_the_current_folder_are_not_read(
    models: Path, start: StartApp, graph: Callable[[str], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights are not found there, although ONNX Runtime itself would read them."""
    publish_bare(models, "outside", graph("weights.bin"))
    (models / "weights.bin").write_bytes(weights_file())
    monkeypatch.chdir(models)

    response = infer_in_json(start(), "outside", {"x": np.zeros(4, np.float32)})

    assert response.status_code == 409
    assert "weights.bin is missing" in response.json()["error"]


@pytest.mark.parametrize("location", ["../1/weights.bin", "link", "/dev/zero", ""])
def test_weights_of_a_subgraph_are_only_read_from_the_folder_of_the_version(
    models: Path, start: StartApp, location: str
) -> None:
    """The rule is that of the weights of the main graph."""
    folder = publish_bare(models, "outside", adds_in_a_branch(location))
    (folder / "weights.bin").write_bytes(weights_file())
    (folder / "link").symlink_to("/etc/hosts")

    response = infer_in_json(start(), "outside", {"x": np.zeros(4, np.float32)})

    assert response.status_code == 409
