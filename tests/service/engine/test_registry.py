"""The registry lists which versions serve, which do not and why; failures affect no other model."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from service.bundle.store import EXAMPLES, MANIFEST, MODEL, compute_digest
from service.engine.reconciler import Reconciler
from service.engine.registry import Registry, State
from service.errors import ModelNotFound, ModelNotReady, NoModels, VersionNotFound
from service.observability.metrics import Metrics
from service.settings import Settings
from tests.models import (
    failing_graph,
    graph,
    in_memory,
    publish_admission,
    publish_bare,
    publish_price,
    sum_and_difference,
)


def load_registry(models: Path) -> Registry:
    """Return the registry of an app that has started with this folder."""
    settings, metrics = Settings(models=models, device="cpu"), Metrics()
    registry = Registry(settings.device)
    asyncio.run(Reconciler(settings, metrics, registry).start())
    return registry


def update_digests(folder: Path) -> None:
    """Write the digests of the current files to the manifest, as an attacker would."""
    manifest = json.loads((folder / MANIFEST).read_text())
    for name in manifest["files"]:
        manifest["files"][name] = compute_digest((folder / name).read_bytes()).model_dump()
    (folder / MANIFEST).write_text(json.dumps(manifest))


def flip_a_byte_of_the_model(folder: Path) -> None:
    content = bytearray((folder / MODEL).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / MODEL).write_bytes(content)


def change_an_expected_output(folder: Path) -> None:
    examples = json.loads((folder / EXAMPLES).read_text())
    examples["output"]["data"][0] += 0.01
    (folder / EXAMPLES).write_text(json.dumps(examples))
    update_digests(folder)


def drop_a_field(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest["task"]
    (folder / MANIFEST).write_text(json.dumps(manifest))


def truncate_the_model(folder: Path) -> None:
    content = (folder / MODEL).read_bytes()
    (folder / MODEL).write_bytes(content[:-10])


def truncate_and_update_digests(folder: Path) -> None:
    truncate_the_model(folder)
    update_digests(folder)


def remove_the_manifest(folder: Path) -> None:
    (folder / MANIFEST).unlink()


def remove_the_examples(folder: Path) -> None:
    (folder / EXAMPLES).unlink()


def swap_the_graph(folder: Path) -> None:
    (folder / MODEL).write_bytes(graph([[1.0], [1.0]], [0.0], "value"))
    update_digests(folder)


def replace_with_a_failing_graph(folder: Path) -> None:
    (folder / MODEL).write_bytes(failing_graph())
    update_digests(folder)


def widen_the_tolerance(folder: Path) -> None:
    change_an_expected_output(folder)
    examples = json.loads((folder / EXAMPLES).read_text())
    examples["tolerance"]["absolute"] = 1e9
    (folder / EXAMPLES).write_text(json.dumps(examples))
    update_digests(folder)


DAMAGES: list[tuple[Callable[[Path], None], str]] = [
    (flip_a_byte_of_the_model, "model.onnx has changed"),
    (change_an_expected_output, "self-test failed: example 0, column 0 gives"),
    (drop_a_field, "manifest.json is not valid: task: Field required"),
    (truncate_the_model, "model.onnx has"),
    (truncate_and_update_digests, "model.onnx is not an ONNX file"),
    (remove_the_manifest, "manifest.json is missing"),
    (remove_the_examples, "examples.json is missing"),
    (swap_the_graph, "its output is value FP32 [-1, 1], not probability"),
    (replace_with_a_failing_graph, "self-test failed: the graph fails on its examples"),
    (widen_the_tolerance, "examples.json is not valid: tolerance.absolute"),
]


@pytest.mark.parametrize(
    ("damage", "reason"), DAMAGES, ids=lambda part: getattr(part, "__name__", "")
)
def test_a_damaged_bundle_is_rejected_with_its_reason_and_the_others_serve(
    models: Path, damage: Callable[[Path], None], reason: str
) -> None:
    """The registry and the exception have the same reason; the other model is not affected."""
    damage(publish_admission(models))
    publish_price(models)

    registry = load_registry(models)

    entry = registry.entry("admission")
    assert entry.state is State.UNAVAILABLE
    assert reason in entry.reason
    with pytest.raises(ModelNotReady, match="not ready"):
        in_memory(registry, "admission")
    assert in_memory(registry, "price").version == "1"
    assert registry.is_ready


def test_the_previous_version_serves_if_the_newest_one_fails(models: Path) -> None:
    """The newer version is listed with its reason."""
    publish_price(models, slope=2.0)
    flip_a_byte_of_the_model(publish_price(models, slope=3.0))

    registry = load_registry(models)

    assert in_memory(registry, "price").version == "1"
    states = [(entry.version, entry.state) for entry in registry.versions("price")]
    assert states == [("2", State.UNAVAILABLE), ("1", State.READY)]
    with pytest.raises(ModelNotReady, match="has changed"):
        in_memory(registry, "price", "2")


def test_a_bare_model_is_described_by_its_graph(models: Path) -> None:
    """Names and shapes come from the graph, because there is no manifest."""
    publish_bare(models, "simple", sum_and_difference())

    model = in_memory(load_registry(models), "simple")

    assert model.manifest is None
    assert [spec.name for spec in model.info.inputs] == ["INPUT0", "INPUT1"]


def test_unknown_models_and_versions_are_reported_with_the_available_ones(models: Path) -> None:
    """A similar name is suggested; otherwise all available names are listed."""
    publish_admission(models)
    publish_price(models)
    registry = load_registry(models)

    with pytest.raises(ModelNotFound, match=r"'admision' is not found; did you mean 'admission'"):
        in_memory(registry, "admision")
    with pytest.raises(ModelNotFound, match="available: admission, price"):
        in_memory(registry, "zebra")
    with pytest.raises(VersionNotFound, match=r"no version '7'; available: 1\."):
        in_memory(registry, "price", "7")


def test_only_numbered_folders_are_versions(models: Path) -> None:
    """Hidden folders, unfinished publications and other files are ignored."""
    folder = publish_price(models)
    for stray in (".hidden", ".unfinished-x", "draft", "-1", "1.0"):
        folder.rename(folder.parent / stray)
        (folder.parent / stray).rename(folder)
        (folder.parent / stray).mkdir()
    (models / "README.md").write_text("for people")
    (models / ".git").mkdir()

    registry = load_registry(models)

    assert registry.names == ["price"]
    assert [entry.version for entry in registry.versions("price")] == ["1"]


def test_an_empty_folder_is_not_ready(models: Path) -> None:
    """A registry without models is not ready."""
    assert not load_registry(models).is_ready


def test_a_missing_folder_stops_the_start(tmp_path: Path) -> None:
    """The message names the folder and the setting."""
    with pytest.raises(NoModels, match=r"nowhere.*ONWARD_MODELS"):
        load_registry(tmp_path / "nowhere")
