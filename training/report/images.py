"""The report of a model that sees pictures: one page, in the look of the tables' report."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from service.bundle.manifest import Calibration, ClassesOutput, Manifest
from training.data.table import Float32s, Floats
from training.evaluation.metrics import decide, probabilities
from training.fit import History
from training.images.dataset import PictureSet
from training.images.folder import LeftOut
from training.images.networks import build
from training.recipe.image import Augmentation, ImageRecipe
from training.recipe.loader import parse_image_recipe, toml_of
from training.report import figures, gallery
from training.report import image_tables as summary
from training.report.drawing import Picture
from training.report.page import command_of, render_page
from training.report.tables import label_rows, metric_rows

_MOST_LEFT_OUT = 40
_BINARY = 2
_HALF = 0.5


@dataclass(frozen=True)
class Tested:
    """The test part with what the model says of it."""

    pictures: PictureSet
    answers: Float32s
    """``[pictures, outputs]``."""


def render(
    manifest: Manifest,
    recipe: ImageRecipe,
    tested: Tested,
    history: History,
    left_out: Sequence[LeftOut],
) -> bytes:
    """The page as HTML with its figures and pictures inside; it loads nothing.

    Args:
        manifest: of the bundle, whose files are not yet digested.
        recipe: as it was run, perhaps with this machine's way to the folder.
        tested: the test part and what was answered.
        history: of the fit.
        left_out: files that were not learned from.
    """
    pictures, evaluation, output = tested.pictures, manifest.evaluation, manifest.output
    origin = manifest.provenance
    # The manifest's recipe tells nothing of this machine.
    public = parse_image_recipe(origin.recipe, manifest.name) if origin else recipe
    calibration = output.calibration if isinstance(output, ClassesOutput) else None
    chosen = decide(tested.answers, _HALF)
    shown = not recipe.data.private
    moved = shown and recipe.augmentation != Augmentation()
    return render_page(
        "images.html.j2",
        things="pictures",
        manifest=manifest,
        provenance=origin,
        output=output,
        measured=summary.measured(pictures, chosen),
        caveats=summary.caveats(pictures, chosen, calibration, len(left_out)),
        tiles=summary.tiles(evaluation, calibration),
        metrics=metric_rows(evaluation),
        intervals=[],
        labels=label_rows(evaluation, pictures.labels, pictures.target),
        worth=evaluation.metrics if evaluation else {},
        pairs=summary.confused(pictures, chosen),
        pictures=_figures(tested, calibration, history, recipe),
        worst=gallery.worst(pictures, tested.answers) if shown else [],
        examples=gallery.examples(pictures) if shown else [],
        changed=gallery.changed(pictures, recipe.augmentation, recipe.seed) if moved else [],
        private=recipe.data.private,
        exact=max(recipe.image.height, recipe.image.width) <= gallery.EXACT_SIDE,
        left_out=left_out[:_MOST_LEFT_OUT],
        left_out_in_all=len(left_out),
        threshold=None,
        taken=manifest.input,
        plan=recipe,
        history=history,
        parameters=_parameters(recipe, pictures.classes),
        command=command_of(public),
        folder=public.data.folder,
        recipe=toml_of(public),
    )


def _figures(
    tested: Tested, calibration: Calibration | None, history: History, recipe: ImageRecipe
) -> list[Picture]:
    target, labels = tested.pictures.target, tested.pictures.labels
    shares, chosen = probabilities(tested.answers), decide(tested.answers, _HALF)
    drawn = [figures.confusion(target, chosen, labels)]
    if len(labels) == _BINARY and len(np.unique(target)) == _BINARY:
        drawn.append(figures.roc_curves(target, shares, labels))
        drawn.append(figures.precision_recall_curves(target, shares, labels))
    right = chosen == target
    confidences = {"as answered": shares.max(axis=1)}
    if calibration is not None:
        confidences["before the temperature"] = _before(shares, calibration.temperature)
    drawn.append(figures.reliability({name: (c, right) for name, c in confidences.items()}))
    if history.training:
        curves = figures.learning_curves([history], "loss")
        drawn.append(replace(curves, caption=f"{curves.caption}{_harder(recipe)}"))
    return drawn


def _before(shares: Floats, temperature: float) -> Floats:
    """The greatest probabilities as they were: scores are probabilities' logarithms, but for a sum.

    Args:
        shares: ``[pictures, labels]``, from scores divided by the temperature.
        temperature: greater than nought.
    """
    undone = shares**temperature
    return np.asarray((undone / undone.sum(axis=1, keepdims=True)).max(axis=1))


def _harder(recipe: ImageRecipe) -> str:
    """Why the training loss may lie above the other."""
    plan = recipe.training
    reasons = {
        "pictures changed at random": recipe.augmentation != Augmentation(),
        "blended ones": plan.mixup > 0,
        "smoothed labels": plan.label_smoothing > 0,
        "units dropped": recipe.network.dropout > 0,
    }
    there = [reason for reason, holds in reasons.items() if holds]
    return (
        f" The training loss is of {', '.join(there)}; so it may be the greater." if there else ""
    )


def _parameters(recipe: ImageRecipe, classes: int) -> int:
    """How many numbers are fitted; the network is only imagined, without any memory."""
    with torch.device("meta"):
        network = build(recipe, classes)
    return sum(weights.numel() for weights in network.parameters())
