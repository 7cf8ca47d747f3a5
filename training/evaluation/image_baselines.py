"""What each shipped model of pictures must reach, measured anew on its untouched test part."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from service.bundle.manifest import ClassesOutput, ImageInput
from service.bundle.store import Bundle, read_bundle, versions_in
from training.data.sources import Folders
from training.errors import DataError
from training.evaluation.baselines import Figure
from training.evaluation.calibration import unsure_metrics
from training.evaluation.image_calibration import error_of
from training.evaluation.metrics import confidence, decide
from training.export.runtime import Graph
from training.images.run import divide
from training.images.sources import load_pictures
from training.recipe.loader import parse_image_recipe

_MEBI = 1_000_000
_AT_ONCE = 256
_HALF = 0.5
_RATIO = 3.0


@dataclass(frozen=True)
class Bar:
    """What a recipe must reach."""

    wrong: float
    """Share of the test pictures at most."""
    bytes: float | None = None
    """Size of ``model.onnx`` below which it must stay."""
    ratio: float = _RATIO
    """How many times as often wrong as the others unsure answers must be."""


BARS = {
    "digits_sigmoid": Bar(0.03),
    "digits_small": Bar(0.016, ratio=10),
    "digits_mlp": Bar(0.016, ratio=10),
    "digits_conv": Bar(0.012, ratio=10),
    "digits_cnn": Bar(0.003, 2 * _MEBI, ratio=10),
    "fashion_mlp": Bar(0.10),
    "fashion_cnn": Bar(0.06, 4 * _MEBI),
    "cats_dogs": Bar(0.14, 4 * _MEBI),
    "cats_dogs_course": Bar(0.25),
}


def picture_figures(bundle: Bundle, folders: Folders) -> Iterator[Figure]:
    """The claims of a published model of pictures.

    Raises:
        TrainingError: its pictures cannot be had.
    """
    manifest = bundle.manifest
    taken, output, made = manifest.input, manifest.output, manifest.provenance
    if not isinstance(taken, ImageInput) or not isinstance(output, ClassesOutput) or made is None:
        raise DataError(f"{manifest.name} was not trained on pictures here.")
    recipe = parse_image_recipe(made.recipe, f"in the manifest of {manifest.name}")
    _, _, test = divide(load_pictures(recipe.data, recipe.target.labels, taken, folders), recipe)
    graph = Graph(bundle.model)
    answers = np.concatenate(
        [
            graph.predict(test.pixels(slice(start, start + _AT_ONCE)))
            for start in range(0, len(test), _AT_ONCE)
        ]
    )
    bar = BARS.get(manifest.name)
    wrong = float((decide(answers, _HALF) != test.target).mean())
    if bar is not None:
        claim = f"wrong on at most {bar.wrong:.2%} of {len(test):,} test pictures"
        yield Figure(claim, f"{wrong:.2%}", wrong <= bar.wrong)
        size = manifest.files["model.onnx"].bytes
        if bar.bytes is not None:
            claim = f"smaller than {bar.bytes / _MEBI:g} MB"
            yield Figure(claim, f"{size / _MEBI:.2f} MB", size < bar.bytes)
    if output.calibration is not None:
        before, after = output.calibration.error_before, error_of(answers, test.target)
        claim = f"calibration error no greater than before the temperature, {before:.4f}"
        yield Figure(claim, f"{after:.4f}", after <= before)
    if output.unsure_below is not None:
        worth = unsure_metrics(*confidence(test.target, answers, _HALF), output.unsure_below)
        unsure, others = worth.get("wrong[unsure]", np.nan), worth.get("wrong[others]", np.nan)
        ratio = unsure / others if others else np.inf
        measured = (
            f"{ratio:.0f} times: {unsure:.1%} of the {worth['unsure_share']:.1%} unsure, "
            f"{others:.2%} of the others"
        )
        least = bar.ratio if bar else _RATIO
        claim = f"unsure answers wrong at least {least:g} times as often as the others"
        yield Figure(claim, measured, bool(ratio >= least))


def picture_bundle(models: Path, name: str) -> Bundle | None:
    """The newest version of a model, where it takes pictures.

    Raises:
        BundleError: it breaks the contract.
    """
    bundle = read_bundle(models / name / str(versions_in(models / name)[-1]))
    return bundle if isinstance(bundle.manifest.input, ImageInput) else None
