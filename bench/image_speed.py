"""Measure an epoch of the networks for digits, compared with Keras 3.

Both use PyTorch and get the same images, layers, optimizer and batch size. They run alternately,
several times, so that other load affects both equally. Run it by ``python -m bench.image_speed``.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch

from bench.page import replace_section
from service.bundle.manifest import ImageInput
from service.imaging.preprocess import DECODER
from training.data.sources import Folders
from training.image_run import build_classifier
from training.images.checkpoint import Checkpoint
from training.images.dataset import ImageSet
from training.images.fit import fit
from training.images.sources import load_images
from training.recipe.image import Augmentation, ImageRecipe
from training.recipe.loader import read_any

# Keras reads its backend when it is imported; PyTorch is the one that this project uses.
os.environ["KERAS_BACKEND"] = "torch"
os.environ["KERAS_HOME"] = os.devnull

import keras

_CACHE = Path.home() / ".cache" / "onward"
_IMAGES = 20_000
_VALIDATION = 500
_ROUNDS = 3


def main() -> int:
    """Measure both networks, and write the table into ``RESULTS.md``."""
    data = Path(os.environ["ONWARD_DATA"]) if "ONWARD_DATA" in os.environ else None
    folders = Folders(data, _CACHE)
    torch.set_num_threads(os.cpu_count() or 1)
    lines = [
        f"Made by `python -m bench.image_speed`: one epoch over {_IMAGES:,} images of MNIST,",
        f"float32, medians of {_ROUNDS} rounds, {os.cpu_count()} cores. The second line of",
        "each network augments all images (shift, rotation, scale, shear, elastic, stroke, blur).",
        "",
        "| network | by | seconds per epoch | relative to ours |",
        "|---|---|---|---|",
    ]
    for name, batch in (("digits_mlp", 100), ("digits_conv", 128)):
        recipe = _without_augmentation(name, batch)
        images = _images(recipe, folders)
        shipped = _shipped("digits_mlp")
        augmented = recipe.model_copy(update={"augmentation": shipped.augmentation})
        runs = {
            "ours": partial(_ours, recipe, images),
            "ours, with augmentation": partial(_ours, augmented, images),
            "Keras": partial(_keras, name, images, batch),
        }
        lines += _rows(name, runs)
    sys.stdout.write(replace_section("Training on images", lines))
    return 0


def _shipped(name: str) -> ImageRecipe:
    recipe = read_any(name)
    assert isinstance(recipe, ImageRecipe)  # noqa: S101 - tells the type checker
    return recipe


def _without_augmentation(name: str, batch: int) -> ImageRecipe:
    recipe = _shipped(name)
    changes = {"epochs": 1, "batch_size": batch, "ema_momentum": 0.0, "schedule": "constant"}
    training = recipe.training.model_copy(update=changes)
    return recipe.model_copy(update={"training": training, "augmentation": Augmentation()})


def _images(recipe: ImageRecipe, folders: Folders) -> ImageSet:
    image = ImageInput(kind="image", decoder=DECODER, **recipe.image.model_dump())
    found = load_images(recipe.data, recipe.target.labels, image, folders)
    return found.training.subset(np.arange(_IMAGES))


def _ours(recipe: ImageRecipe, images: ImageSet) -> None:
    validation = images.subset(np.arange(_VALIDATION))
    fit(
        build_classifier(recipe, images),
        recipe,
        images,
        validation,
        Checkpoint(None, "", resume=False),
    )


def _keras(name: str, images: ImageSet, batch: int) -> None:
    layers, optimizer = _KERAS[name]()
    model = keras.Sequential([*layers, keras.layers.Dense(10, activation="softmax")])
    model.compile(optimizer=optimizer, loss="sparse_categorical_crossentropy")
    x = images.pixels(slice(None)).astype(np.float32) / 255
    validation = (x[:_VALIDATION], images.target[:_VALIDATION])
    model.fit(x, images.target, epochs=1, batch_size=batch, validation_data=validation, verbose=0)


def _dense() -> tuple[list[keras.Layer], keras.Optimizer]:
    hidden = [keras.layers.Dense(1024, activation="relu") for _ in range(3)]
    return [keras.layers.Flatten(), *hidden], keras.optimizers.SGD(0.1, momentum=0.9)


def _convolutional() -> tuple[list[keras.Layer], keras.Optimizer]:
    stage = [
        layer
        for _ in range(2)
        for layer in (keras.layers.Conv2D(32, 3, activation="relu"), keras.layers.MaxPooling2D())
    ]
    layers = [*stage, keras.layers.Flatten(), keras.layers.Dense(128, activation="relu")]
    return layers, keras.optimizers.Adam(0.001)


_KERAS = {"digits_mlp": _dense, "digits_conv": _convolutional}


def _rows(network: str, runs: Mapping[str, Callable[[], None]]) -> list[str]:
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(_ROUNDS):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    ours = medians["ours"]
    return [
        f"| {network} | {name} | {median:.3g} | {median / ours:.2g} |"
        for name, median in medians.items()
    ]


if __name__ == "__main__":
    sys.exit(main())
