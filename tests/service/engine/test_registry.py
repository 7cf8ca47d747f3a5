"""The registry: what serves, what does not and why, and that one never disturbs the other."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from service.bundle.store import EXAMPLES, MANIFEST, MODEL, digest_of
from service.engine.reconciler import Reconciler
from service.engine.registry import Registry, State
from service.errors import ModelNotFound, ModelNotReady, NoModels, VersionNotFound
from service.observability.metrics import Metrics
from service.settings import Settings
from tests.models import (
    failing_graph,
    graph,
    in_memory,
    place_bare,
    publish_admission,
    publish_price,
    sum_and_difference,
)


def loaded(models: Path) -> Registry:
    """What an app knows of this folder when it has started."""
    settings, metrics = Settings(models=models, device="cpu"), Metrics()
    registry = Registry(settings.device)
    asyncio.run(Reconciler(settings, metrics, registry).start())
    return registry


def seal(folder: Path) -> None:
    """Give the manifest the digests of the files as they now are, as a forger would."""
    manifest = json.loads((folder / MANIFEST).read_text())
    for name in manifest["files"]:
        manifest["files"][name] = digest_of((folder / name).read_bytes()).model_dump()
    (folder / MANIFEST).write_text(json.dumps(manifest))


def flip_a_byte_of_the_model(folder: Path) -> None:
    content = bytearray((folder / MODEL).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / MODEL).write_bytes(content)


def change_an_expected_output(folder: Path) -> None:
    examples = json.loads((folder / EXAMPLES).read_text())
    examples["output"]["data"][0] += 0.01
    (folder / EXAMPLES).write_text(json.dumps(examples))
    seal(folder)


def drop_a_field(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest["task"]
    (folder / MANIFEST).write_text(json.dumps(manifest))


def truncate_the_model(folder: Path) -> None:
    content = (folder / MODEL).read_bytes()
    (folder / MODEL).write_bytes(content[:-10])


def truncate_and_seal(folder: Path) -> None:
    truncate_the_model(folder)
    seal(folder)


def remove_the_manifest(folder: Path) -> None:
    (folder / MANIFEST).unlink()


def remove_the_examples(folder: Path) -> None:
    (folder / EXAMPLES).unlink()


def swap_the_graph(folder: Path) -> None:
    (folder / MODEL).write_bytes(graph([[1.0], [1.0]], [0.0], "value"))
    seal(folder)


def put_in_a_failing_graph(folder: Path) -> None:
    (folder / MODEL).write_bytes(failing_graph())
    seal(folder)


def widen_the_tolerance(folder: Path) -> None:
    change_an_expected_output(folder)
    examples = json.loads((folder / EXAMPLES).read_text())
    examples["tolerance"]["absolute"] = 1e9
    (folder / EXAMPLES).write_text(json.dumps(examples))
    seal(folder)


DAMAGES: list[tuple[Callable[[Path], None], str]] = [
    (flip_a_byte_of_the_model, "model.onnx has changed"),
    (change_an_expected_output, "self-test failed: example 0, column 0 gives"),
    (drop_a_field, "manifest.json is not valid: task: Field required"),
    (truncate_the_model, "model.onnx has"),
    (truncate_and_seal, "model.onnx is not an ONNX file"),
    (remove_the_manifest, "manifest.json is missing"),
    (remove_the_examples, "examples.json is missing"),
    (swap_the_graph, "its output is value FP32 [-1, 1], not probability"),
    (put_in_a_failing_graph, "self-test failed: the graph fails on its examples"),
    (widen_the_tolerance, "examples.json is not valid: tolerance.absolute"),
]


@pytest.mark.parametrize(
    ("damage", "reason"), DAMAGES, ids=lambda part: getattr(part, "__name__", "")
)
def test_a_damaged_bundle_is_rejected_with_its_reason_and_the_others_serve(
    models: Path, damage: Callable[[Path], None], reason: str
) -> None:
    """The registry, the exception and the entry say the same; the neighbour is untouched."""
    damage(publish_admission(models))
    publish_price(models)

    registry = loaded(models)

    entry = registry.entry("admission")
    assert entry.state is State.UNAVAILABLE
    assert reason in entry.reason
    with pytest.raises(ModelNotReady, match="not ready"):
        in_memory(registry, "admission")
    assert in_memory(registry, "price").version == "1"
    assert registry.ready


def test_the_version_before_a_failed_one_serves(models: Path) -> None:
    """A newer version that fails its proof is told, and the older one answers."""
    publish_price(models, slope=2.0)
    flip_a_byte_of_the_model(publish_price(models, slope=3.0))

    registry = loaded(models)

    assert in_memory(registry, "price").version == "1"
    states = [(entry.version, entry.state) for entry in registry.versions("price")]
    assert states == [("2", State.UNAVAILABLE), ("1", State.READY)]
    with pytest.raises(ModelNotReady, match="has changed"):
        in_memory(registry, "price", "2")


def test_a_bare_model_is_served_by_its_graph(models: Path) -> None:
    """Names and shapes come from the graph where there is no manifest."""
    place_bare(models, "simple", sum_and_difference())

    model = in_memory(loaded(models), "simple")

    assert model.manifest is None
    assert [spec.name for spec in model.inputs] == ["INPUT0", "INPUT1"]


def test_unknown_models_and_versions_are_reported_with_what_there_is(models: Path) -> None:
    """A near miss is suggested; otherwise everything available is listed."""
    publish_admission(models)
    publish_price(models)
    registry = loaded(models)

    with pytest.raises(ModelNotFound, match=r"'admision' is not found; did you mean 'admission'"):
        in_memory(registry, "admision")
    with pytest.raises(ModelNotFound, match="available: admission, price"):
        in_memory(registry, "zebra")
    with pytest.raises(VersionNotFound, match=r"no version '7'; available: 1\."):
        in_memory(registry, "price", "7")


def test_only_numbered_folders_are_versions(models: Path) -> None:
    """Hidden folders, unfinished publications and stray files are left alone."""
    folder = publish_price(models)
    for stray in (".hidden", ".unfinished-x", "draft", "-1", "1.0"):
        folder.rename(folder.parent / stray)
        (folder.parent / stray).rename(folder)
        (folder.parent / stray).mkdir()
    (models / "README.md").write_text("for people")
    (models / ".git").mkdir()

    registry = loaded(models)

    assert registry.names == ["price"]
    assert [entry.version for entry in registry.versions("price")] == ["1"]


def test_an_empty_folder_is_not_ready(models: Path) -> None:
    """With nothing to serve, readiness is false."""
    assert not loaded(models).ready


def test_a_missing_folder_stops_the_start(tmp_path: Path) -> None:
    """The sentence names the folder and the setting."""
    with pytest.raises(NoModels, match=r"nowhere.*ONWARD_MODELS"):
        loaded(tmp_path / "nowhere")
