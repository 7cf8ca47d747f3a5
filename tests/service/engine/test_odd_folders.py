"""Unusual entries of the models folder are reported, and everything else serves."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from onnx import helper

from service.bundle.triton_config import read_triton_labels
from tests.conftest import StartApp
from tests.foreign import one_node, serialized, tensor
from tests.models import publish_admission, publish_bare, publish_price
from tests.processes import ROOT, served

Odd = Callable[[Path], None]


def fifo(path: Path) -> None:
    os.mkfifo(path)


def unix_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(path.parent)  # the complete path may be longer than the address of a socket
        try:
            listener.bind(path.name)
        finally:
            os.chdir(here)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def circle(path: Path) -> None:
    path.symlink_to(path.name)


def long_target(path: Path) -> None:
    path.symlink_to("x" * 300)


def long_path(path: Path) -> None:
    path.symlink_to("x/" * 2000)


def through_a_file(path: Path) -> None:
    path.with_name(f".{path.name}.file").write_text("")
    path.symlink_to(f".{path.name}.file/1")


def through_a_process(path: Path) -> None:
    """Link to a system folder that can be listed but not read completely."""
    path.symlink_to("/proc/self/task")


def folder(path: Path) -> None:
    path.mkdir()


def sparse(path: Path) -> None:
    path.write_bytes(b"")
    os.truncate(path, 100 * 10**9)


LINKS: list[Odd] = [dangling, circle, long_target, long_path, through_a_file]
FILES: list[Odd] = [fifo, unix_socket, device, folder, sparse, *LINKS]


def name_of(odd: object) -> str:
    return getattr(odd, "__name__", str(odd))


@pytest.mark.parametrize("odd", [fifo, unix_socket, device, through_a_process, *LINKS], ids=name_of)
@pytest.mark.parametrize("where", ["odd", "price/2"])
def test_an_odd_entry_instead_of_a_folder_affects_no_other(
    models: Path, start: StartApp, odd: Odd, where: str
) -> None:
    """Instead of a model, and instead of a version; a reload finds new versions of that model."""
    publish_price(models)
    odd(models / where)
    client = start(model_control="explicit")
    publish_admission(models)

    assert client.get("/v2/models/price/ready").status_code == 200
    assert client.post("/v2/repository/models/admission/load").status_code == 200
    assert client.post("/models/admission/predict", json={"exam_1": 1, "exam_2": 2}).is_success


@pytest.mark.parametrize("odd", FILES, ids=name_of)
@pytest.mark.parametrize("file", ["manifest.json", "examples.json", "model.onnx", "../policy.json"])
def test_an_odd_file_rejects_its_own_version_with_the_reason(
    models: Path, start: StartApp, odd: Odd, file: str
) -> None:
    """Each of a bundle's files; the index names it."""
    version = publish_admission(models)
    (version / file).unlink(missing_ok=True)
    odd(version / file)
    publish_price(models)

    client = start()

    index = {each["name"]: each for each in client.post("/v2/repository/index").json()}
    assert index["price"]["state"] == "READY"
    assert index["admission"]["state"] == "UNAVAILABLE"
    assert Path(file).name in index["admission"]["reason"]


@pytest.mark.parametrize("odd", FILES, ids=name_of)
@pytest.mark.parametrize("file", ["config.pbtxt", "tuning.json", "labels.txt"])
def test_an_odd_optional_file_is_reported_and_ignored(
    models: Path, start: StartApp, odd: Odd, file: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The model serves as if it were not there."""
    version = publish_bare(models, "bare", one_node("Neg"))
    if file == "labels.txt":
        (version.parent / "config.pbtxt").write_text(
            'output { name: "y" label_filename: "labels.txt" }'
        )
    odd(version.parent / file)

    client = start()

    assert client.get("/v2/models/bare/ready").status_code == 200
    assert [it for it in caplog.records if file in str(it.__dict__.get("reason"))]


@pytest.mark.parametrize("odd", FILES, ids=name_of)
def test_a_bare_model_that_is_not_a_file_is_rejected(
    models: Path, start: StartApp, odd: Odd
) -> None:
    """It is neither waited for nor read."""
    (models / "odd" / "1").mkdir(parents=True)
    odd(models / "odd" / "1" / "model.onnx")
    publish_price(models)

    client = start()

    index = {each["name"]: each for each in client.post("/v2/repository/index").json()}
    assert (index["price"]["state"], index["odd"]["state"]) == ("READY", "UNAVAILABLE")
    assert "model.onnx" in index["odd"]["reason"]


NAMES = [b"\xff\xfe", b"line\nbreak", b"n" * 255, "zwölf".encode(), b"lost+found", b"bare.onnx"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("where", [".", "price", "price/1", "price/1/parts"])
def test_any_file_name_is_accepted_anywhere(
    models: Path, start: StartApp, name: bytes, where: str
) -> None:
    """Names with invalid UTF-8, line breaks and the maximum length are accepted."""
    publish_price(models)
    (models / where).mkdir(exist_ok=True)
    os.mkdir(os.path.join(os.fsencode(models / where), name))  # noqa: PTH102, PTH118 - bytes

    client = start()

    assert client.get("/v2/models/price/ready").status_code == 200


def test_odd_entries_disturb_neither_watching_nor_checking(models: Path) -> None:
    """They appear while the service runs; a new model and a signal to scan still work."""
    publish_price(models)
    with served("--models", str(models), "--device", "cpu", ONWARD_POLL_SECONDS="0.1") as service:
        for odd in (fifo, device, *LINKS):
            odd(models / odd.__name__)
            odd(models / "price" / f"{odd.__name__}.json")
        (models / "wide").mkdir()
        long_target(models / "wide" / "config.pbtxt")
        publish_admission(models)
        service.until_said("model ready model=admission")
        service.process.send_signal(signal.SIGHUP)
        service.until_said("models folder", times=1)
        ready = httpx.get(f"{service.address}/v2/models/admission/ready")

    checked = subprocess.run(
        [sys.executable, "-m", "service", "check", str(models), "--device", "cpu"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ready.status_code == 200
    assert checked.returncode == 1
    assert "Traceback" not in checked.stderr + service.said
    assert {"ok        admission/1", "ok        price/1"} <= set(checked.stdout.splitlines())
    for odd in (fifo, device, *LINKS):
        assert f"left out  {odd.__name__}: the folder cannot be read" in checked.stdout


def graph_with_scores() -> bytes:
    """Return a graph whose output is ``scores``."""
    shape: list[int | str] = ["rows", 2]
    node = helper.make_node("Identity", ["x"], ["scores"])
    return serialized([node], [tensor("x", shape)], [tensor("scores", shape)])


@pytest.mark.parametrize("target", ["/etc/hosts", "../elsewhere.txt", "through/labels.txt"])
def test_labels_are_only_read_from_the_folder_of_the_model(
    models: Path, target: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A link to a file outside is rejected, like weights; one within the folder is followed."""
    model_folder = publish_bare(models, "bare", graph_with_scores()).parent
    (models / "elsewhere.txt").write_text("stolen\n")
    (model_folder / "through").symlink_to(models)
    (models / "labels.txt").write_text("stolen\n")
    (model_folder / "own.txt").write_text("a\nb\n")
    (model_folder / "config.pbtxt").write_text('output { name: "scores" label_filename: "names" }')

    (model_folder / "names").symlink_to("own.txt")
    own = read_triton_labels(model_folder)
    (model_folder / "names").unlink()
    (model_folder / "names").symlink_to(target)
    others = read_triton_labels(model_folder)

    assert own == {"scores": ("a", "b")}
    assert others == {}
    assert "is outside the model's folder" in caplog.records[-1].__dict__["reason"]


@pytest.mark.parametrize("word", ["{", "}", "{ }", 'a "', "output { ", '"\\"', "[ ]"])
def test_a_hostile_configuration_is_read_in_linear_time(models: Path, word: str) -> None:
    """For a mebibyte the time grows with the bytes, not with their square."""
    model_folder = publish_bare(models, "bare", graph_with_scores()).parent
    (model_folder / "config.pbtxt").write_text(word * (1024 * 1024 // len(word)))

    assert read_triton_labels(model_folder) == {}
