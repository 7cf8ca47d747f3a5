"""One training run on images, from a recipe to a published bundle."""

import hashlib
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from service.bundle import manifest as contract
from service.bundle import provenance
from service.bundle.manifest import (
    BINARY,
    IMAGE_NAME,
    Calibration,
    ClassesOutput,
    ImageInput,
    find_task,
    output_name,
)
from service.bundle.store import EXAMPLES, MODEL, REPORT, to_json
from service.imaging.preprocess import DECODER
from service.predictions import predict_labels
from training.data.sources import Folders
from training.data.table import Float32s
from training.evaluation.metrics import (
    SHARES_BASELINE,
    compute_calibration_error,
    compute_label_shares,
    measure_classes,
    measure_low_confidence,
    round_metrics,
)
from training.export import onnx_export
from training.export.comparison import TestPredictions, compare_images
from training.export.folding import fold_pixel_scaling
from training.export.manifest import describe_provenance
from training.export.publish import Publication, check_folder, publish
from training.images.checkpoint import Checkpoint, CheckpointOptions
from training.images.dataset import Bytes, ImageSet, choose_evenly_spaced
from training.images.fit import compute_scores, fit
from training.images.folder import LoadedImages
from training.images.networks import Classifier, Pixels, build
from training.images.sources import load_images, split_images
from training.model.thresholds import (
    choose_low_confidence,
    choose_temperature,
    compute_confidence,
    compute_probabilities,
)
from training.recipe.image import ImageRecipe
from training.report import images as report

_MAX_FOR_STATISTICS = 10_000
_UNSURE_RATIO = 10.0
_SYNTHETIC_IMAGES = 8
_COARSE = 6
_MIN_DEVIATION = 1e-3


def run(
    recipe: ImageRecipe,
    models: Path,
    folders: Folders,
    checkpoints: CheckpointOptions,
    *,
    force: bool = False,
) -> Publication:
    """Train the recipe's model and publish it as the next version below ``models``.

    With ``force``, it serves even if it is clearly worse than the version that serves. Raise
    `TrainingError` if the run fails; nothing is published then.
    """
    started = time.perf_counter()
    check_folder(models, recipe.name)
    image = ImageInput(kind="image", decoder=DECODER, **recipe.image.model_dump())
    found = load_images(recipe.data, recipe.target.labels, image, folders)
    training, validation, test = split_images(found, recipe)

    classifier = build_classifier(recipe, training)
    file = checkpoints.folder / f"{recipe.name}.pt"
    checkpoint = Checkpoint(file, _compute_fingerprint(recipe, found), resume=checkpoints.resume)
    history = fit(classifier, recipe, training, validation, checkpoint)
    started -= checkpoint.earlier_seconds
    output = _calibrate(classifier, recipe, validation, test)

    check_rows = test.pixels(slice(None))
    predictions = classifier.predict(check_rows)
    graph, examples = _export(classifier, recipe, check_rows, output_name(output))

    origin = provenance.DataOrigin(source=found.name, sha256=found.sha256, rows=found.images)
    manifest = contract.Manifest(
        format_version=contract.FORMAT_VERSION,
        name=recipe.name,
        title=recipe.title,
        description=recipe.description,
        task=find_task(output),
        input=image,
        output=output,
        evaluation=evaluate(predictions, training, test, output.unsure_below),
        provenance=describe_provenance(recipe, origin, (training, validation, test), started),
        files={},
    )
    tested = report.TestSetPredictions(test, predictions)
    page = report.render(manifest, recipe, tested, history, found.skipped)
    files = {MODEL: graph, EXAMPLES: to_json(examples), REPORT: page}
    measured = TestPredictions(test.target.astype(np.float64), predictions)
    comparison = compare_images(models, manifest, check_rows, measured)
    return publish(models, manifest, files, comparison, force=force)


def _export(
    classifier: Classifier, recipe: ImageRecipe, check_rows: Bytes, name: str
) -> tuple[bytes, contract.Examples]:
    """Export the graph, compare it with PyTorch on these images, and create its examples."""
    sample = torch.from_numpy(check_rows[:3])
    graph = onnx_export.export_module(fold_pixel_scaling(classifier), sample, IMAGE_NAME, name)
    onnx_export.verify(graph, classifier, check_rows)
    replayed = generate_images(check_rows.shape, recipe.seed) if recipe.data.private else check_rows
    return graph, onnx_export.create_examples(classifier, replayed, name, input_name=IMAGE_NAME)


def build_classifier(recipe: ImageRecipe, training: ImageSet) -> Classifier:
    """Build the untrained classifier; the same seed and images give the same weights."""
    sample = choose_evenly_spaced(len(training), _MAX_FOR_STATISTICS)
    pixels = training.pixels(sample).reshape(-1, recipe.image.channels) / 255
    mean, deviation = (
        torch.tensor(values, dtype=torch.float32)
        for values in (pixels.mean(0), pixels.std(0) + _MIN_DEVIATION)
    )
    torch.manual_seed(recipe.seed)
    network = build(recipe, training.classes)
    return Classifier(Pixels(mean, deviation), network, binary=training.classes == BINARY)


def generate_images(shape: tuple[int, ...], seed: int) -> Bytes:
    """Generate a few images of smooth noise, for examples without any image of the data set.

    The shape is that of the data set, ``(images, height, width, channels)``.
    """
    _, height, width, channels = shape
    draw = np.random.default_rng(seed)
    coarse = torch.from_numpy(draw.uniform(0, 255, (_SYNTHETIC_IMAGES, channels, _COARSE, _COARSE)))
    smooth = functional.interpolate(coarse, (height, width), mode="bilinear")
    return smooth.permute(0, 2, 3, 1).round().to(torch.uint8).numpy()


def evaluate(
    predictions: Float32s, training: ImageSet, test: ImageSet, unsure_below: float | None
) -> contract.Evaluation:
    """Compute test metrics, and those of always predicting the training set's class shares."""
    chosen = predict_labels(predictions)
    found = measure_classes(test.target, compute_probabilities(predictions), chosen, test.labels)
    if unsure_below is not None:
        found |= measure_low_confidence(*compute_confidence(test.target, predictions), unsure_below)
    probabilities = np.tile(compute_label_shares(training.target, training.classes), (len(test), 1))
    baseline = measure_classes(
        test.target, probabilities, predict_labels(probabilities), test.labels
    )
    return contract.Evaluation(
        part="test",
        rows=len(test),
        metrics=round_metrics(found),
        baseline=contract.Baseline(name=SHARES_BASELINE, metrics=round_metrics(baseline)),
    )


def _calibrate(
    classifier: Classifier, recipe: ImageRecipe, validation: ImageSet, test: ImageSet
) -> ClassesOutput:
    """Calibrate the classifier in place, and describe its output."""
    test_pixels = test.pixels(slice(None))
    before = classifier.predict(test_pixels)
    scores = compute_scores(classifier, classifier.network, validation)
    temperature = choose_temperature(scores, validation.target)
    classifier.temperature.fill_(temperature)
    after = classifier.predict(test_pixels)
    validation_predictions = classifier.predict(validation.pixels(slice(None)))
    threshold = choose_low_confidence(
        *compute_confidence(validation.target, validation_predictions), min_ratio=_UNSURE_RATIO
    )
    errors = [
        compute_calibration_error(*compute_confidence(test.target, predictions))
        for predictions in (before, after)
    ]
    return ClassesOutput(
        kind="classes",
        name=recipe.target.name,
        description=recipe.target.description,
        labels=list(test.labels),
        unsure_below=threshold,
        calibration=None
        if temperature == 1
        else Calibration(temperature=temperature, error_before=errors[0], error_after=errors[1]),
    )


def _compute_fingerprint(recipe: ImageRecipe, found: LoadedImages) -> str:
    # A resumed run may find the same images in another folder.
    content = recipe.model_dump_json(exclude={"title", "description", "data"})
    return hashlib.sha256((content + found.sha256).encode()).hexdigest()
