"""The report of an image model."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from service.bundle.manifest import Calibration, ClassesOutput, Manifest
from training.data.table import Float32s, Floats
from training.evaluation.metrics import decide, probabilities
from training.fit import History
from training.images.dataset import ImageSet
from training.images.folder import LeftOut
from training.images.networks import build
from training.recipe.image import Augmentation, ImageRecipe
from training.recipe.loader import parse_image_recipe, toml_of
from training.report import figures, gallery
from training.report import image_tables as summary
from training.report.drawing import Chart
from training.report.page import command_of, render_page
from training.report.tables import label_rows, metric_rows

_MAX_LEFT_OUT = 40
_BINARY = 2
_HALF = 0.5


@dataclass(frozen=True)
class TestedImages:
    """The test set with the predictions of the model."""

    images: ImageSet
    predictions: Float32s
    """``[images, outputs]``."""


def render(
    manifest: Manifest,
    recipe: ImageRecipe,
    tested: TestedImages,
    history: History,
    left_out: Sequence[LeftOut],
) -> bytes:
    """The page as HTML with embedded charts and images.

    Args:
        manifest: of the bundle, without digests of its files.
        recipe: as it was run, with local paths.
        tested: the test set with its predictions.
        history: of the fit.
        left_out: skipped files.
    """
    images, evaluation, output = tested.images, manifest.evaluation, manifest.output
    origin = manifest.provenance
    # The recipe in the manifest has no local paths.
    public = parse_image_recipe(origin.recipe, manifest.name) if origin else recipe
    calibration = output.calibration if isinstance(output, ClassesOutput) else None
    chosen = decide(tested.predictions, _HALF)
    shown = not recipe.data.private
    moved = shown and recipe.augmentation != Augmentation()
    return render_page(
        "images.html.j2",
        things="images",
        manifest=manifest,
        provenance=origin,
        output=output,
        measured=summary.measured(images, chosen),
        caveats=summary.caveats(images, chosen, calibration, len(left_out)),
        tiles=summary.tiles(evaluation, calibration),
        metrics=metric_rows(evaluation),
        intervals=[],
        labels=label_rows(evaluation, images.labels, images.target),
        worth=evaluation.metrics if evaluation else {},
        pairs=summary.confused(images, chosen),
        charts=_charts(tested, calibration, history, recipe),
        worst=gallery.worst(images, tested.predictions) if shown else [],
        examples=gallery.examples(images) if shown else [],
        changed=gallery.changed(images, recipe.augmentation, recipe.seed) if moved else [],
        private=recipe.data.private,
        exact=max(recipe.image.height, recipe.image.width) <= gallery.EXACT_SIDE,
        left_out=left_out[:_MAX_LEFT_OUT],
        left_out_in_all=len(left_out),
        threshold=None,
        taken=manifest.input,
        plan=recipe,
        history=history,
        parameters=_parameters(recipe, images.classes),
        command=command_of(public),
        folder=public.data.folder,
        recipe=toml_of(public),
    )


def _charts(
    tested: TestedImages, calibration: Calibration | None, history: History, recipe: ImageRecipe
) -> list[Chart]:
    target, labels = tested.images.target, tested.images.labels
    shares, chosen = probabilities(tested.predictions), decide(tested.predictions, _HALF)
    drawn = [figures.confusion(target, chosen, labels)]
    if len(labels) == _BINARY and len(np.unique(target)) == _BINARY:
        drawn.append(figures.roc_curves(target, shares, labels))
        drawn.append(figures.precision_recall_curves(target, shares, labels))
    right = chosen == target
    confidences = {"as predicted": shares.max(axis=1)}
    if calibration is not None:
        confidences["before the temperature"] = _before(shares, calibration.temperature)
    drawn.append(figures.reliability({name: (c, right) for name, c in confidences.items()}))
    if history.training:
        curves = figures.learning_curves([history], "loss")
        drawn.append(replace(curves, caption=f"{curves.caption}{_regularization_note(recipe)}"))
    return drawn


def _before(shares: Floats, temperature: float) -> Floats:
    """The highest probability of each image before temperature scaling.

    Args:
        shares: ``[images, labels]``, from scores divided by the temperature.
        temperature: greater than zero.
    """
    undone = shares**temperature
    return np.asarray((undone / undone.sum(axis=1, keepdims=True)).max(axis=1))


def _regularization_note(recipe: ImageRecipe) -> str:
    """Why the training loss may be above the validation loss."""
    plan = recipe.training
    reasons = {
        "augmented images": recipe.augmentation != Augmentation(),
        "mixup": plan.mixup > 0,
        "label smoothing": plan.label_smoothing > 0,
        "dropout": recipe.network.dropout > 0,
    }
    there = [reason for reason, holds in reasons.items() if holds]
    return f" The training loss includes {', '.join(there)}, so it may be higher." if there else ""


def _parameters(recipe: ImageRecipe, classes: int) -> int:
    """The number of parameters; the meta device allocates no memory."""
    with torch.device("meta"):
        network = build(recipe, classes)
    return sum(weights.numel() for weights in network.parameters())
