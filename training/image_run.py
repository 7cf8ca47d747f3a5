"""One training run on pictures, top to bottom: from a recipe to a published bundle."""

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from service.bundle import manifest as contract
from service.bundle.manifest import (
    IMAGE_NAME,
    Calibration,
    ClassesOutput,
    ImageInput,
    output_name,
    task_of,
)
from service.bundle.store import EXAMPLES, MODEL, to_json
from service.imaging.preprocess import DECODER
from training.data.sources import Folders
from training.data.table import Float32s
from training.evaluation.calibration import (
    best_temperature,
    choose_unsure,
    error_of,
    unsure_metrics,
)
from training.evaluation.metrics import class_metrics, confidence, decide, probabilities, rounded
from training.export import manifest as describe
from training.export import onnx_export
from training.export.comparison import Measured, compare_images
from training.export.folding import folded_classifier
from training.export.publish import check_folder, publish
from training.images.checkpoint import Checkpoint, Keeping
from training.images.dataset import Bytes, PictureSet
from training.images.fit import fit, scores_of
from training.images.networks import Classifier, Pixels, build
from training.images.sources import Found, load_pictures, split_images
from training.onnx_files import Array
from training.recipe.image import ImageRecipe, Pictures
from training.report import images as report
from training.run import REPORT, Outcome

_MOST_FOR_STATISTICS = 10_000
_UNSURE_RATIO = 10.0
_AT_ONCE = 256
_HALF = 0.5
_STAND_INS = 8
_COARSE = 6
_LEAST_DEVIATION = 1e-3


def run(
    recipe: ImageRecipe, models: Path, folders: Folders, keeping: Keeping, *, force: bool = False
) -> Outcome:
    """Train the recipe's model and publish it as the next version below `models`.

    Args:
        recipe: what to train.
        models: where bundles are published.
        folders: where public data sets may lie.
        keeping: where each epoch leaves what a later run needs to go on.
        force: serve the version even if it is clearly worse than the one that serves.

    Raises:
        TrainingError: the run cannot go on; nothing has been published.
    """
    started = time.perf_counter()
    check_folder(models, recipe.name)
    image = ImageInput(kind="image", decoder=DECODER, **recipe.image.model_dump())
    found = load_pictures(recipe.data, recipe.target.labels, image, folders)
    training, validation, test = split_images(found, recipe)

    classifier = unfitted(recipe, training)
    file = keeping.folder / f"{recipe.name}.pt"
    keeper = Checkpoint(file, _fingerprint(recipe, found), resume=keeping.resume)
    history = fit(classifier, recipe, training, validation, keeper)
    started -= keeper.earlier_seconds
    output = _calibrated(classifier, recipe, validation, test)

    proof = test.pixels(slice(None))
    answers = predict(classifier, proof)
    prover = Prover(classifier)
    name = output_name(output)
    graph = onnx_export.to_graph(
        folded_classifier(classifier), torch.from_numpy(proof[:3]), IMAGE_NAME, name
    )
    onnx_export.prove(graph, prover, proof)
    replayed = stand_ins(proof.shape, recipe.seed) if recipe.data.private else proof
    examples = onnx_export.example_rows(prover, replayed, name, IMAGE_NAME)

    sizes = contract.SplitSizes(training=len(training), validation=len(validation), test=len(test))
    origin = contract.DataOrigin(source=found.name, sha256=found.sha256, rows=found.pictures)
    manifest = contract.Manifest(
        format_version=contract.FORMAT_VERSION,
        name=recipe.name,
        title=recipe.title,
        description=recipe.description,
        task=task_of(output),
        input=image,
        output=output,
        evaluation=evaluate(answers, training, test, output.unsure_below),
        provenance=describe.provenance(_portable(recipe), origin, sizes, started),
        files={},
    )
    page = report.render(manifest, recipe, report.Tested(test, answers), history, found.left_out)
    files = {MODEL: graph, EXAMPLES: to_json(examples), REPORT: page}
    measured = Measured(test.target.astype(np.float64), answers)
    comparison = compare_images(models, manifest, proof, measured)
    return Outcome(publish(models, manifest, files, comparison, force=force), None)


def unfitted(recipe: ImageRecipe, training: PictureSet) -> Classifier:
    """The network before its first step; the same seed and pictures give the same."""
    some = np.linspace(0, len(training) - 1, min(len(training), _MOST_FOR_STATISTICS)).astype(int)
    pixels = training.pixels(np.unique(some)).reshape(-1, recipe.image.channels) / 255
    mean, deviation = (
        torch.tensor(values, dtype=torch.float32)
        for values in (pixels.mean(0), pixels.std(0) + _LEAST_DEVIATION)
    )
    torch.manual_seed(recipe.seed)
    network = build(recipe, training.classes)
    return Classifier(Pixels(mean, deviation), network, binary=training.classes == 2)  # noqa: PLR2004


def predict(classifier: Classifier, pixels: Bytes) -> Float32s:
    """The answers to ``[pictures, height, width, channels]``, as the exported graph gives them."""
    with torch.no_grad():
        parts = [classifier(part) for part in torch.split(torch.from_numpy(pixels), _AT_ONCE)]
    return np.asarray(torch.cat(parts).numpy(), dtype=np.float32)


def stand_ins(shape: tuple[int, ...], seed: int) -> Bytes:
    """Pictures of smooth noise, for a proof that shows none of those that were learned from.

    Args:
        shape: of the pictures, ``(pictures, height, width, channels)``; a few are made.
        seed: the same seed makes the same.
    """
    _, height, width, channels = shape
    draw = np.random.default_rng(seed)
    coarse = torch.from_numpy(draw.uniform(0, 255, (_STAND_INS, channels, _COARSE, _COARSE)))
    smooth = functional.interpolate(coarse, (height, width), mode="bilinear")
    return smooth.permute(0, 2, 3, 1).round().to(torch.uint8).numpy()


def evaluate(
    answers: Float32s, training: PictureSet, test: PictureSet, unsure_below: float | None
) -> contract.Evaluation:
    """Metrics on the test part, beside always answering with the training part's shares."""
    counts = np.bincount(training.target, minlength=training.classes)
    chosen = decide(answers, _HALF)
    found = class_metrics(test.target, probabilities(answers), chosen, test.labels)
    if unsure_below is not None:
        found |= unsure_metrics(*confidence(test.target, answers, _HALF), unsure_below)
    shares = np.tile(counts / counts.sum(), (len(test), 1))
    naive = class_metrics(test.target, shares, shares.argmax(1), test.labels)
    return contract.Evaluation(
        part="test",
        rows=len(test),
        metrics=rounded(found),
        baseline=contract.Baseline(
            name="the training shares of the labels", metrics=rounded(naive)
        ),
    )


@dataclass(frozen=True)
class Prover:
    """The classifier as an export is proved against it."""

    classifier: Classifier
    source = "PyTorch"

    def predict(self, rows: Array) -> Float32s:
        """``[pictures, height, width, channels]``, uint8, to the answers."""
        return predict(self.classifier, rows)


def _calibrated(
    classifier: Classifier, recipe: ImageRecipe, validation: PictureSet, test: PictureSet
) -> ClassesOutput:
    """The answer's description, once the probabilities have been set right in the graph itself."""
    before = predict(classifier, test.pixels(slice(None)))
    scores = scores_of(classifier, classifier.network, validation)
    temperature = best_temperature(scores, validation.target)
    classifier.temperature.fill_(temperature)
    after = predict(classifier, test.pixels(slice(None)))
    watched = predict(classifier, validation.pixels(slice(None)))
    threshold = choose_unsure(
        *confidence(validation.target, watched, _HALF), least_ratio=_UNSURE_RATIO
    )
    errors = [error_of(answers, test.target) for answers in (before, after)]
    return ClassesOutput(
        kind="classes",
        name=recipe.target.name,
        description=recipe.target.description,
        labels=list(test.labels),
        unsure_below=threshold,
        calibration=Calibration(
            temperature=temperature, error_before=errors[0], error_after=errors[1]
        ),
    )


def _fingerprint(recipe: ImageRecipe, found: Found) -> str:
    # Where the pictures lie may change on the way; what they are may not.
    said = recipe.model_dump_json(exclude={"title", "description", "data"})
    return hashlib.sha256((said + found.sha256).encode()).hexdigest()


def _portable(recipe: ImageRecipe) -> ImageRecipe:
    """Without the way to the folder: that is this machine's affair."""
    if recipe.data.folder is None:
        return recipe
    name = Path(recipe.data.folder).resolve().name
    return recipe.model_copy(update={"data": Pictures(folder=name, private=recipe.data.private)})
