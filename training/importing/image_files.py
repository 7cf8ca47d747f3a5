"""The images that an imported model is verified with, and measured on."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from service.bundle import manifest as contract
from service.bundle.manifest import ClassesOutput, ImageInput
from service.imaging.limits import InvalidImage
from service.imaging.preprocess import read_image
from service.predictions import predict_labels
from service.spelling import join_names
from training.data.table import Float32s
from training.errors import DataError
from training.evaluation.metrics import compute_label_shares, measure_classes, round_metrics
from training.export.image_input import Bytes
from training.images.dataset import choose_evenly_spaced
from training.model.thresholds import compute_probabilities

GENERATED_IMAGES = 8
_COARSE = 4
_MAX_VERIFIED = 24
_MAX_MEASURED = 2000
_BATCH = 16
_SHOWN = 8


class ImageFolder:
    """Image files below a folder, possibly in a folder for each class.

    Raise `DataError` if there is no file.
    """

    def __init__(self, folder: Path, image: ImageInput) -> None:
        self._folder = folder
        self._image = image
        self._files = sorted(path for path in folder.rglob("*") if self._is_visible(path))
        if not self._files:
            raise DataError(
                f"{folder} holds no image; give a folder with images like those of the model."
            )

    def read_some(self) -> Bytes:
        """Read a few of the images, evenly spaced by name, as the service reads them.

        Raise `DataError` if one cannot be read.
        """
        chosen = choose_evenly_spaced(len(self._files), _MAX_VERIFIED)
        return np.stack([self._read(self._files[k]) for k in chosen])

    def measure(
        self, output: ClassesOutput, predict: Callable[[Bytes], Float32s]
    ) -> tuple[contract.Evaluation | None, str]:
        """Compute metrics if the folders are named as the labels, and a remark if they are not.

        Args:
            output: the labels of the model.
            predict: maps images to predictions.

        Raises:
            DataError: an image cannot be read.
        """
        classes = sorted({name for path in self._files if (name := self._class_of(path))})
        if not classes or not set(classes) <= set(output.labels):
            return None, self._describe_unmeasured(classes, output.labels)
        labeled = [path for path in self._files if self._class_of(path)]
        files = [labeled[k] for k in choose_evenly_spaced(len(labeled), _MAX_MEASURED)]
        target = np.array([output.labels.index(self._class_of(path)) for path in files])
        predictions = np.concatenate([predict(pixels) for pixels in self._read_batches(files)])
        shares = compute_label_shares(target, len(output.labels))
        baseline = np.tile(shares, (len(files), 1))
        predicted = predict_labels(predictions, output.decision_threshold)
        probabilities = compute_probabilities(predictions)
        found = measure_classes(target, probabilities, predicted, output.labels)
        constant = np.full(len(files), shares.argmax())
        evaluation = contract.Evaluation(
            part="given",
            rows=len(files),
            metrics=round_metrics(found),
            baseline=contract.Baseline(
                name="the shares of the labels in these images",
                metrics=round_metrics(measure_classes(target, baseline, constant, output.labels)),
            ),
        )
        return evaluation, ""

    def _describe_unmeasured(self, classes: Sequence[str], labels: Sequence[str]) -> str:
        """Return a remark on folders that are not named as the labels."""
        if len(classes) != len(labels):
            return ""
        names = join_names(classes, _SHOWN)
        return (
            f"The model is not measured, since its labels ({join_names(labels, _SHOWN)}) are not "
            f"the names of the folders ({names}). If they are in the order of these names, as "
            "Keras and torchvision number them, name them with --labels."
        )

    def _is_visible(self, path: Path) -> bool:
        parts = path.relative_to(self._folder).parts
        return path.is_file() and not any(part.startswith(".") for part in parts)

    def _class_of(self, path: Path) -> str:
        """Return the name of the folder of an image; empty if it is in none."""
        return path.parent.name if path.parent != self._folder else ""

    def _read_batches(self, files: Sequence[Path]) -> Iterator[Bytes]:
        for start in range(0, len(files), _BATCH):
            yield np.stack([self._read(path) for path in files[start : start + _BATCH]])

    def _read(self, path: Path) -> Bytes:
        try:
            return read_image(path.read_bytes(), self._image)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}.") from None
        except InvalidImage as error:
            raise DataError(f"{path} is not used: {error}") from None


def generate_images(image: ImageInput) -> Bytes:
    """Generate images of a size: black, white, noise, and blocks of color with a little noise."""
    random = np.random.default_rng(0)
    shape = image.height, image.width, image.channels
    images = [np.zeros(shape, np.uint8), np.full(shape, 255, np.uint8)]
    images.append(random.integers(0, 256, shape, np.uint8))
    coarse = [np.arange(side) * _COARSE // side for side in shape[:2]]
    while len(images) < GENERATED_IMAGES:
        blocks = random.integers(0, 256, (_COARSE, _COARSE, image.channels), np.uint8)
        noise = random.integers(-16, 17, shape)
        images.append((blocks[np.ix_(*coarse)] + noise).clip(0, 255).astype(np.uint8))
    return np.stack(images)
