"""A complete run on images: fitted, calibrated, verified, published."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from service.bundle.manifest import ClassesOutput, ImageInput
from service.bundle.store import MODEL, read_bundle
from service.imaging.preprocess import DECODER, read_image
from tests.conftest import StartApp
from training.data.sources import Folders
from training.errors import DataError
from training.image_run import run
from training.images.checkpoint import CheckpointOptions
from training.onnx_files import Graph
from training.recipe.image import ImageRecipe
from training.recipe.loader import toml_of

ROOT = Path(__file__).parents[3]


def test_a_run_publishes_a_model(recipe: ImageRecipe, folders: Folders, tmp_path: Path) -> None:
    """It classifies stripes, and its manifest specifies how an image becomes pixels."""
    outcome = run(recipe, tmp_path / "models", folders, CheckpointOptions(tmp_path / "runs"))

    manifest = outcome.manifest
    assert manifest.evaluation is not None
    assert manifest.evaluation.metrics["accuracy"] == 1
    assert manifest.evaluation.baseline.metrics["accuracy"] == pytest.approx(0.5)
    assert isinstance(manifest.input, ImageInput)
    assert manifest.input.decoder == DECODER
    assert isinstance(manifest.output, ClassesOutput)
    assert manifest.output.labels == ["lying", "standing"]
    assert manifest.output.calibration is not None
    assert manifest.provenance is not None
    assert manifest.provenance.recipe["data"] == {"folder": "stripes"}


def test_a_run_is_reproducible(recipe: ImageRecipe, folders: Folders, tmp_path: Path) -> None:
    """The same recipe, seed and images give the same graph, bit by bit."""
    first, again = (
        run(recipe, tmp_path / name, folders, CheckpointOptions(tmp_path / "runs")) for name in "ab"
    )

    assert (first.folder / MODEL).read_bytes() == (again.folder / MODEL).read_bytes()


def test_the_service_predicts_like_the_trained_model(
    recipe: ImageRecipe, stripes: Path, folders: Folders, tmp_path: Path, start: StartApp
) -> None:
    """A posted file gets the prediction of the graph for its pixels."""
    outcome = run(recipe, tmp_path / "models", folders, CheckpointOptions(tmp_path / "runs"))
    content = (stripes / "standing" / "07.png").read_bytes()
    bundle = read_bundle(outcome.folder)
    assert isinstance(bundle.manifest.input, ImageInput)
    pixels = read_image(content, bundle.manifest.input)
    expected = Graph(bundle.model).predict(pixels[np.newaxis])[0, 0]

    client = start(models=tmp_path / "models")
    prediction = client.post(
        "/models/stripes/predict", content=content, headers={"content-type": "image/png"}
    ).json()

    assert prediction["label"] == "standing"
    assert prediction["probability"] == pytest.approx(float(expected), abs=1e-6)


def test_a_bundle_contains_no_private_images(
    recipe: ImageRecipe, folders: Folders, tmp_path: Path
) -> None:
    """The report has no images, and the examples are noise; the model is the same."""
    data = recipe.data.model_copy(update={"private": True})
    kept = CheckpointOptions(tmp_path / "runs")
    shown = run(recipe, tmp_path / "shown", folders, kept)

    hidden = run(recipe.model_copy(update={"data": data}), tmp_path / "hidden", folders, kept)

    report = (hidden.folder / "report.html").read_text()
    assert "<img" in (shown.folder / "report.html").read_text()
    assert "<img" not in report
    assert (hidden.folder / MODEL).read_bytes() == (shown.folder / MODEL).read_bytes()
    assert read_bundle(hidden.folder).examples.input != read_bundle(shown.folder).examples.input


def test_a_killed_fit_resumes_with_the_same_result(
    recipe: ImageRecipe, folders: Folders, tmp_path: Path
) -> None:
    """``kill -9`` after the second epoch, then --resume: the result of an uninterrupted run."""
    whole = run(recipe, tmp_path / "whole", folders, CheckpointOptions(tmp_path / "other"))
    path = tmp_path / "stripes.toml"
    path.write_text(toml_of(recipe))
    command = [sys.executable, "-m", "training", str(path), "--models", str(tmp_path / "models")]
    command += ["--runs", str(tmp_path / "runs")]

    first = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert first.stderr is not None
    for line in first.stderr:
        if line.startswith("epoch 2/"):
            first.send_signal(signal.SIGKILL)
            break
    first.wait()
    first.stderr.close()
    assert not (tmp_path / "models" / "stripes").exists()
    second = subprocess.run(
        [*command, "--resume"], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert "epoch 1/" not in second.stderr
    resumed, expected = (
        read_bundle(folder) for folder in (tmp_path / "models" / "stripes" / "1", whole.folder)
    )
    assert resumed.manifest.evaluation == expected.manifest.evaluation
    pixels = np.random.default_rng(1).integers(0, 256, (50, 12, 12, 1), np.uint8)
    found, wanted = (Graph(bundle.model).predict(pixels) for bundle in (resumed, expected))
    assert np.array_equal(found, wanted)


def test_a_checkpoint_of_another_recipe_is_rejected(
    recipe: ImageRecipe, folders: Folders, tmp_path: Path
) -> None:
    """A run cannot be resumed with other settings."""
    keeping = CheckpointOptions(tmp_path / "runs")
    run(recipe, tmp_path / "models", folders, keeping)
    other = recipe.model_copy(update={"seed": 2})

    with pytest.raises(DataError, match="another recipe or other images"):
        run(other, tmp_path / "models", folders, CheckpointOptions(tmp_path / "runs", resume=True))


def test_new_drafts_and_trains_a_recipe_for_a_folder(stripes: Path, tmp_path: Path) -> None:
    """It reports skipped files, and publishes a model that works."""
    (stripes / "lying" / "notes.txt").write_text("not an image")
    words = ["new", "--images", str(stripes), "--size", "16", "--models", str(tmp_path / "m")]

    done = subprocess.run(
        [sys.executable, "-m", "training", *words, "--runs", str(tmp_path / "runs")],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert "lying/notes.txt: " in done.stdout
    assert (tmp_path / "stripes.toml").exists()
    manifest = json.loads((tmp_path / "m" / "stripes" / "1" / "manifest.json").read_text())
    assert manifest["input"]["channels"] == 1
    assert manifest["evaluation"]["metrics"]["accuracy"] > 0.9
