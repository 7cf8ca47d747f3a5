"""The report of an image model."""

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from matplotlib.image import imsave
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix
from torch import Generator
from torch.nn import functional

from service.bundle.manifest import BINARY, Calibration, ClassesOutput, Evaluation, Manifest
from service.numbertext import format_number
from service.predictions import label_probabilities, predict_labels
from service.spelling import format_count, join_names
from training.data.table import Float32s, Floats, Rows
from training.evaluation.metrics import describe_below_baseline
from training.fit import History
from training.images.augment import augment
from training.images.dataset import Bytes, ImageSet, choose_evenly_spaced
from training.images.folder import SkippedFile
from training.images.networks import build, to_unit_range
from training.model.thresholds import Ints, compute_probabilities, is_at_bound
from training.recipe.image import Augmentation, ImageRecipe
from training.recipe.loader import format_toml, parse_image_recipe
from training.report import figures
from training.report.drawing import Chart
from training.report.numbers import format_metrics
from training.report.page import format_command, render_page
from training.report.requests import format_curl_of_file, format_python
from training.report.tables import Tile, list_labels, list_metrics

_MAX_SKIPPED = 40
_MAX_PAIRS = 8
_FEW_IMAGES = 30
_MAX_NAMED = 8
_DOMINANT_SHARE = 0.8
_MAX_WORST = 24
_MAX_EXAMPLES = 24
_MAX_SMALL_EXAMPLES = 60
_MAX_EACH = 6
_MAX_CHANGED = 4
_AUGMENTED_COPIES = 4
# Images with sides up to this are shown pixel by pixel.
_MAX_UNSCALED_SIDE = 48
_LONGEST_SIDE = 128
_QUALITY = 80


@dataclass(frozen=True)
class TestSetPredictions:
    """The test set with the predictions of the model."""

    images: ImageSet
    predictions: Float32s
    """``[images, outputs]``."""


@dataclass(frozen=True)
class Pair:
    """A confusion of two classes."""

    true: str
    predicted: str
    times: int
    share: float
    """Of the images of the true class."""


@dataclass(frozen=True)
class MisclassifiedImage:
    """A test image with its prediction."""

    url: str
    name: str
    true: str
    predicted: str
    probability: float
    """Of the predicted label."""
    true_probability: float
    """The probability of the true label."""


@dataclass(frozen=True)
class ImageRow:
    """Several images in a row."""

    name: str
    urls: list[str]


def render(
    manifest: Manifest,
    recipe: ImageRecipe,
    tested: TestSetPredictions,
    history: History,
    skipped: Sequence[SkippedFile],
) -> bytes:
    """Render the page as HTML with embedded charts and images.

    The recipe is the one that was run, with local paths.
    """
    images, evaluation, output = tested.images, manifest.evaluation, manifest.output
    origin = manifest.provenance
    # The recipe in the manifest has no local paths.
    public = parse_image_recipe(origin.recipe, manifest.name) if origin else recipe
    calibration = output.calibration if isinstance(output, ClassesOutput) else None
    chosen = predict_labels(tested.predictions)
    shown = not recipe.data.private
    augmented = shown and recipe.augmentation != Augmentation()
    return render_page(
        "images.html.j2",
        thing="image",
        unused=[],
        curl=format_curl_of_file(manifest.name),
        python=format_python(manifest),
        manifest=manifest,
        provenance=origin,
        output=output,
        measured=_describe_test_set(images, chosen),
        caveats=[
            *filter(None, [describe_below_baseline(evaluation)]),
            *_describe_caveats(images, chosen, calibration),
        ],
        tiles=_create_tiles(evaluation, calibration),
        metrics=list_metrics(evaluation),
        intervals=[],
        labels=list_labels(evaluation, images.labels, images.target),
        worth=evaluation.metrics if evaluation else {},
        pairs=_find_confused_pairs(images, chosen),
        charts=_draw_charts(tested, calibration, history, recipe),
        worst=_find_worst(images, tested.predictions) if shown else [],
        examples=_choose_examples(images) if shown else [],
        augmented_examples=_create_augmented_examples(images, recipe.augmentation, recipe.seed)
        if augmented
        else [],
        private=recipe.data.private,
        exact=max(recipe.image.height, recipe.image.width) <= _MAX_UNSCALED_SIDE,
        skipped=skipped[:_MAX_SKIPPED],
        skipped_in_all=len(skipped),
        threshold=None,
        taken=manifest.input,
        plan=recipe,
        history=history,
        parameters=_count_parameters(recipe, images.classes),
        command=format_command(public),
        folder=public.data.folder,
        recipe=format_toml(public),
    )


def _describe_test_set(images: ImageSet, predicted: Ints) -> str:
    """Describe the size of the test set, and the confidence interval of the error rate."""
    wrong = int((predicted != images.target).sum())
    ends = binomtest(wrong, len(images)).proportion_ci(method="wilson")
    return (
        f"Measured on {format_count(len(images), 'held-out test image')}; "
        f"{format_count(wrong, 'prediction')} {'is' if wrong == 1 else 'are'} wrong. "
        f"The 95 % confidence interval of the error rate is {ends.low:.2%} to {ends.high:.2%} "
        "(Wilson, 1927)."
    )


def _create_tiles(evaluation: Evaluation | None, calibration: Calibration | None) -> list[Tile]:
    if evaluation is None:
        return []
    found, baseline = evaluation.metrics, evaluation.baseline.metrics
    right, wrong = found["accuracy"], round((1 - found["accuracy"]) * evaluation.rows)
    loss, constant_loss = format_metrics([found["log_loss"], baseline["log_loss"]])
    errors = [calibration.error_before] if calibration else []
    calibration_error, *before = format_metrics([found["calibration_error"], *errors])
    return [
        Tile("accuracy", f"{right:.2%}", f"baseline {baseline['accuracy']:.2%}"),
        Tile("error", f"{1 - right:.2%}", f"{wrong:,} of {evaluation.rows:,} wrong"),
        Tile("log loss", loss, f"baseline {constant_loss}"),
        Tile(
            "calibration error",
            calibration_error,
            "".join(f"{error} before the temperature" for error in before),
        ),
    ]


def _describe_caveats(
    images: ImageSet, predicted: Ints, calibration: Calibration | None
) -> list[str]:
    """List limits of the metrics, the most serious first."""
    counts = np.bincount(images.target, minlength=images.classes)
    hits = np.bincount(images.target[predicted == images.target], minlength=images.classes)
    named = list(zip(images.labels, counts.tolist(), hits.tolist(), strict=True))
    never_predicted = [label for label, count, hit in named if count and not hit]
    few = [f"{label} ({count})" for label, count, _ in named if count < _FEW_IMAGES]
    most_frequent = int(counts.argmax())
    share = counts[most_frequent] / counts.sum()
    found = []
    if never_predicted:
        found.append(f"Never predicted correctly: {join_names(never_predicted, _MAX_NAMED)}.")
    if share >= _DOMINANT_SHARE:
        found.append(
            f"{share:.1%} of the test images show {images.labels[most_frequent]!r}, so "
            "accuracy is misleading: see the recall and precision of each label."
        )
    if few:
        found.append(
            f"Fewer than {_FEW_IMAGES} test images show {join_names(few, _MAX_NAMED)}: the metrics "
            "of these labels are imprecise."
        )
    if calibration is None:
        found.append(
            "The probabilities are not calibrated: the validation set has too few images or no "
            "wrong prediction, so it gives no reason for a temperature other than 1."
        )
    elif is_at_bound(calibration.temperature):
        found.append(
            f"The temperature, {format_number(calibration.temperature)}, is at the bound of the "
            "search, so the probabilities may be too extreme or too even."
        )
    if calibration is not None and calibration.error_after > calibration.error_before:
        found.append(
            "The temperature chosen on the validation set made the calibration worse on "
            "the test set: the calibration error rose from "
            f"{format_number(calibration.error_before)} to "
            f"{format_number(calibration.error_after)}."
        )
    return found


def _find_confused_pairs(images: ImageSet, predicted: Ints) -> list[Pair]:
    """Return the most frequent confusions, the most frequent first."""
    counts = confusion_matrix(images.target, predicted, labels=range(images.classes))
    of_class = counts.sum(axis=1)
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:_MAX_PAIRS]
    positions = [
        (int(position) // images.classes, int(position) % images.classes) for position in order
    ]
    return [
        Pair(
            images.labels[true],
            images.labels[other],
            int(counts[true, other]),
            float(counts[true, other] / of_class[true]),
        )
        for true, other in positions
        if counts[true, other]
    ]


def _draw_charts(
    tested: TestSetPredictions,
    calibration: Calibration | None,
    history: History,
    recipe: ImageRecipe,
) -> list[Chart]:
    target, labels = tested.images.target, tested.images.labels
    probabilities, chosen = (
        compute_probabilities(tested.predictions),
        predict_labels(tested.predictions),
    )
    drawn = [figures.draw_confusion(target, chosen, labels)]
    if len(labels) == BINARY and len(np.unique(target)) == BINARY:
        drawn.append(figures.draw_roc_curves(target, probabilities, labels))
        drawn.append(figures.draw_precision_recall_curves(target, probabilities, labels))
    right = chosen == target
    confidences = {"as predicted": probabilities.max(axis=1)}
    if calibration is not None:
        confidences["before the temperature"] = _undo_calibration(
            probabilities, calibration.temperature
        )
    drawn.append(figures.draw_reliability({name: (c, right) for name, c in confidences.items()}))
    if history.training:
        curves = figures.draw_learning_curves([history], "loss")
        drawn.append(replace(curves, caption=f"{curves.caption}{_explain_losses(recipe)}"))
    return drawn


def _undo_calibration(probabilities: Floats, temperature: float) -> Floats:
    """Return the highest probability of each image before temperature scaling.

    Args:
        probabilities: ``[images, labels]``, from scores divided by the temperature.
        temperature: greater than zero.
    """
    undone = probabilities**temperature
    return np.asarray((undone / undone.sum(axis=1, keepdims=True)).max(axis=1))


def _explain_losses(recipe: ImageRecipe) -> str:
    """Explain why the training loss may be above the validation loss."""
    plan = recipe.training
    reasons = {
        "augmented images": recipe.augmentation != Augmentation(),
        "mixup": plan.mixup > 0,
        "label smoothing": plan.label_smoothing > 0,
        "dropout": recipe.network.dropout > 0,
    }
    active = [reason for reason, holds in reasons.items() if holds]
    return (
        f" The training loss includes {', '.join(active)}, so it may be higher." if active else ""
    )


def _count_parameters(recipe: ImageRecipe, classes: int) -> int:
    """Count the parameters; the meta device allocates no memory."""
    with torch.device("meta"):
        network = build(recipe, classes)
    return sum(weights.numel() for weights in network.parameters())


def _find_worst(images: ImageSet, predictions: Float32s) -> list[MisclassifiedImage]:
    """Return the test images with the lowest probability of their true label, lowest first."""
    probabilities, chosen = compute_probabilities(predictions), predict_labels(predictions)
    true_probability = label_probabilities(probabilities, images.target)
    return [
        MisclassifiedImage(
            url=_encode_data_url(images.pixels(np.array([row]))[0]),
            name=images.names[row],
            true=images.labels[images.target[row]],
            predicted=images.labels[chosen[row]],
            probability=float(probabilities[row, chosen[row]]),
            true_probability=float(true_probability[row]),
        )
        for row in np.argsort(true_probability, kind="stable")[:_MAX_WORST]
    ]


def _choose_examples(images: ImageSet) -> list[ImageRow]:
    """Show evenly spaced images of each class; of many classes, the first ones."""
    small = max(images.store.shape[1:3]) <= _MAX_UNSCALED_SIDE
    most = _MAX_SMALL_EXAMPLES if small else _MAX_EXAMPLES
    each = min(_MAX_EACH, max(1, most // images.classes))
    return [
        ImageRow(label, [_encode_data_url(image) for image in images.pixels(rows)])
        for label, rows in zip(images.labels, _choose_rows_of_classes(images, each), strict=True)
        if len(rows)
    ][:most]


def _create_augmented_examples(images: ImageSet, plan: Augmentation, seed: int) -> list[ImageRow]:
    """Show one image of each of some classes, followed by augmented copies."""
    rows = np.concatenate(_choose_rows_of_classes(images, 1))[:_MAX_CHANGED]
    before = images.pixels(rows)
    image = to_unit_range(torch.from_numpy(before))
    generator = Generator().manual_seed(seed)
    variants = [before]
    for _ in range(_AUGMENTED_COPIES):
        levels = (augment(image, plan, generator).clamp(0, 1) * 255).round().byte()
        variants.append(levels.permute(0, 2, 3, 1).numpy())
    return [
        ImageRow(
            images.labels[images.target[row]],
            [_encode_data_url(variant[k]) for variant in variants],
        )
        for k, row in enumerate(rows)
    ]


def _encode_data_url(pixels: Bytes) -> str:
    """Encode ``[height, width, channels]`` as a data URL: small images exactly, others as JPEG."""
    height, width, _ = pixels.shape
    colored = np.broadcast_to(pixels, (height, width, 3))
    file = io.BytesIO()
    if max(height, width) <= _MAX_UNSCALED_SIDE:
        imsave(file, colored, format="png", metadata={"Software": ""})
        return _format_data_url("png", file)
    imsave(file, _downsample(colored), format="jpeg", pil_kwargs={"quality": _QUALITY})
    return _format_data_url("jpeg", file)


def _format_data_url(kind: str, file: io.BytesIO) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def _downsample(pixels: Bytes) -> Bytes:
    """Downsample an image by block averages until it is small enough for a page."""
    height, width, _ = pixels.shape
    step = math.ceil(max(height, width) / _LONGEST_SIDE)
    block = (min(step, height), min(step, width))
    averages = functional.avg_pool2d(torch.tensor(pixels).permute(2, 0, 1).double(), block)
    return np.asarray(averages.round().byte().permute(1, 2, 0).numpy())


def _choose_rows_of_classes(images: ImageSet, count: int) -> list[Rows]:
    """Return up to ``count`` evenly spaced rows of each class."""
    found = []
    for label in range(images.classes):
        rows = np.flatnonzero(images.target == label)
        found.append(rows[choose_evenly_spaced(len(rows), count)])
    return found
