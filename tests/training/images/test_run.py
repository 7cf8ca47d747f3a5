"""A complete run on images: fitted, calibrated, verified, published."""

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from service.bundle.manifest import ClassesOutput, ImageInput
from service.bundle.store import MODEL, read_bundle
from service.imaging.preprocess import DECODER, read_image
from tests.conftest import StartApp
from tests.training.images.conftest import SIDE
from training.__main__ import main
from training.data.sources import Folders
from training.errors import DataError
from training.export.publish import Publication
from training.image_run import run
from training.images.checkpoint import CheckpointOptions
from training.onnx_files import Graph
from training.recipe.image import ImageRecipe
from training.recipe.loader import format_toml

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Trained:
    """One finished run, which several tests read and none changes."""

    outcome: Publication
    models: Path
    checkpoints: Path


@pytest.fixture(scope="module")
def trained(
    recipe: ImageRecipe, folders: Folders, tmp_path_factory: pytest.TempPathFactory
) -> Trained:
    """The recipe, trained and published once."""
    folder = tmp_path_factory.mktemp("trained")
    models, checkpoints = folder / "models", folder / "runs"
    outcome = run(recipe, models, folders, CheckpointOptions(checkpoints))
    return Trained(outcome, models, checkpoints)


def test_a_run_publishes_a_model(trained: Trained) -> None:
    """It classifies stripes, and its manifest specifies how an image becomes pixels."""
    manifest = trained.outcome.manifest
    assert manifest.evaluation is not None
    assert manifest.evaluation.metrics["accuracy"] == 1
    assert manifest.evaluation.baseline.metrics["accuracy"] == pytest.approx(0.5)
    assert isinstance(manifest.input, ImageInput)
    assert manifest.input.decoder == DECODER
    assert isinstance(manifest.output, ClassesOutput)
    assert manifest.output.labels == ["horizontal", "vertical"]
    assert manifest.output.calibration is None  # few validation images, and all are correct
    assert manifest.provenance is not None
    assert manifest.provenance.recipe["data"] == {"folder": "stripes"}


def test_perfectly_separated_images_do_not_make_a_blank_image_certain(trained: Trained) -> None:
    """The exported graph has the probabilities of the network, not of scores times twenty."""
    graph = Graph(read_bundle(trained.outcome.folder).model)

    gray = graph.predict(np.full((1, SIDE, SIDE, 1), 128, np.uint8))[0, 0]

    assert 0.01 < gray < 0.99


def test_the_service_predicts_like_the_trained_model(
    trained: Trained, stripes: Path, start: StartApp
) -> None:
    """A posted file gets the prediction of the graph for its pixels."""
    content = (stripes / "vertical" / "07.png").read_bytes()
    bundle = read_bundle(trained.outcome.folder)
    assert isinstance(bundle.manifest.input, ImageInput)
    pixels = read_image(content, bundle.manifest.input)
    expected = Graph(bundle.model).predict(pixels[np.newaxis])[0, 0]

    client = start(models=trained.models)
    prediction = client.post(
        "/models/stripes/predict", content=content, headers={"content-type": "image/png"}
    ).json()

    assert prediction["label"] == "vertical"
    assert prediction["probability"] == pytest.approx(float(expected), abs=1e-6)


def test_a_second_run_on_private_images_gives_the_same_model_without_them(
    trained: Trained, recipe: ImageRecipe, folders: Folders, tmp_path: Path
) -> None:
    """The same graph, bit by bit; the report has no images, and the examples are noise."""
    data = recipe.data.model_copy(update={"private": True})
    private_recipe = recipe.model_copy(update={"data": data})

    outcome = run(private_recipe, tmp_path / "models", folders, CheckpointOptions(tmp_path))

    public, private = trained.outcome.folder, outcome.folder
    assert "<img" in (public / "report.html").read_text()
    assert "<img" not in (private / "report.html").read_text()
    assert (private / MODEL).read_bytes() == (public / MODEL).read_bytes()
    assert read_bundle(private).examples.input != read_bundle(public).examples.input


def test_a_killed_fit_resumes_to_the_same_result(
    trained: Trained, recipe: ImageRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``kill -9`` after the second epoch, then --resume: the result of an uninterrupted run."""
    path = tmp_path / "stripes.toml"
    path.write_text(format_toml(recipe))
    options = [str(path), "--models", str(tmp_path / "models"), "--runs", str(tmp_path / "runs")]

    first = subprocess.Popen(
        [sys.executable, "-m", "training", *options], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    assert first.stderr is not None
    for line in first.stderr:
        if line.startswith("epoch 2/"):
            first.send_signal(signal.SIGKILL)
            break
    first.wait()
    first.stderr.close()
    assert not (tmp_path / "models" / "stripes").exists()
    assert main([*options, "--resume"]) == 0

    assert "epoch 1/" not in capsys.readouterr().err
    resumed, expected = (
        read_bundle(folder)
        for folder in (tmp_path / "models" / "stripes" / "1", trained.outcome.folder)
    )
    assert resumed.manifest.evaluation == expected.manifest.evaluation
    pixels = np.random.default_rng(1).integers(0, 256, (50, 12, 12, 1), np.uint8)
    found, wanted = (Graph(bundle.model).predict(pixels) for bundle in (resumed, expected))
    assert np.array_equal(found, wanted)


def test_a_checkpoint_of_another_recipe_is_rejected(
    trained: Trained, recipe: ImageRecipe, folders: Folders, tmp_path: Path
) -> None:
    """A run cannot be resumed with other settings."""
    other = recipe.model_copy(update={"seed": 2})
    resuming = CheckpointOptions(trained.checkpoints, resume=True)

    with pytest.raises(DataError, match="another recipe or other images"):
        run(other, tmp_path / "models", folders, resuming)


def test_new_drafts_and_trains_a_recipe_for_a_folder(
    stripes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It reports skipped files, and publishes a model that works."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "stripes"
    for label in ("horizontal", "vertical"):
        (folder / label).mkdir(parents=True)
        for file in (stripes / label).glob("[01]*.png"):
            (folder / label / file.name).write_bytes(file.read_bytes())
    (folder / "horizontal" / "notes.txt").write_text("not an image")
    words = ["new", "--images", str(folder), "--size", "16", "--models", str(tmp_path / "m")]

    assert main([*words, "--runs", str(tmp_path / "runs")]) == 0

    assert "horizontal/notes.txt: " in capsys.readouterr().out
    assert (tmp_path / "stripes.toml").exists()
    manifest = json.loads((tmp_path / "m" / "stripes" / "1" / "manifest.json").read_text())
    assert manifest["input"]["channels"] == 1
    assert manifest["evaluation"]["metrics"]["accuracy"] > 0.9
