"""The report of an image model."""

import base64
import io
import re
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.image import imread

from service.bundle.manifest import (
    FORMAT_VERSION,
    Baseline,
    Calibration,
    ClassesOutput,
    Evaluation,
    ImageInput,
    Manifest,
    find_task,
)
from service.bundle.provenance import DataOrigin
from service.predictions import predict_labels
from training.evaluation.metrics import measure_classes, measure_low_confidence
from training.export.manifest import describe_provenance
from training.fit import History
from training.images.dataset import ImageSet
from training.images.folder import SkippedFile
from training.model.thresholds import compute_confidence, compute_probabilities
from training.recipe.image import ImageRecipe
from training.report import images as report

_UNSURE_BELOW = 0.6


@dataclass(frozen=True)
class Scene:
    """Synthetic test images with the predictions of a model that is often correct."""

    labels: tuple[str, ...] = ("cat", "dog", "hen")
    side: int = 12
    count: int = 90
    channels: int = 3
    skipped: list[SkippedFile] = field(default_factory=list)
    folder: str = "pets"
    augmentation: dict[str, float] = field(default_factory=dict)

    @property
    def tested(self) -> report.TestSetPredictions:
        chance = np.random.default_rng(7)
        shape = (self.count, self.side, self.side, self.channels)
        pixels = chance.integers(0, 256, shape, dtype=np.uint8)
        target = np.arange(self.count, dtype=np.int64) % len(self.labels)
        scores = 2 * np.eye(len(self.labels))[target]
        scores += chance.normal(size=scores.shape)
        shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        predictions = shares[:, 1:] if len(self.labels) == 2 else shares
        names = [f"test/{k}.png" for k in range(self.count)]
        images = ImageSet(pixels, target, names, list(self.labels))
        return report.TestSetPredictions(images, predictions.astype(np.float32))

    @property
    def recipe(self) -> ImageRecipe:
        document = {
            "name": "pets",
            "title": "Which pet",
            "data": {"folder": self.folder},
            "target": {"name": "animal", "labels": list(self.labels)},
            "image": {"height": self.side, "width": self.side, "channels": self.channels},
            "augmentation": self.augmentation,
            "network": {"family": "layers", "layers": ["dense 8"]},
            "training": {"optimizer": "SGD", "learning_rate": 0.1, "epochs": 3},
        }
        return ImageRecipe.model_validate(document)

    @property
    def manifest(self) -> Manifest:
        tested, recipe = self.tested, self.recipe
        output = ClassesOutput(
            kind="classes",
            name="animal",
            labels=list(self.labels),
            unsure_below=_UNSURE_BELOW,
            calibration=Calibration(temperature=1.5, error_before=0.08, error_after=0.02),
        )
        pets = recipe.model_copy(update={"data": recipe.data.model_copy(update={"folder": "pets"})})
        origin = DataOrigin(source="pets", sha256="0" * 64, rows=self.count * 5)
        parts = (range(self.count * 3), range(self.count), range(self.count))
        return Manifest(
            format_version=FORMAT_VERSION,
            name=recipe.name,
            title=recipe.title,
            task=find_task(output),
            input=ImageInput(kind="image", decoder="one", **recipe.image.model_dump()),
            output=output,
            evaluation=_evaluation(tested),
            provenance=describe_provenance(pets, origin, parts, started=0.0),
            files={},
        )

    @property
    def page(self) -> str:
        history = History([1.0, 0.6, 0.5], [1.1, 0.7, 0.8], best_epoch=1)
        page = report.render(self.manifest, self.recipe, self.tested, history, self.skipped)
        return page.decode()


def _evaluation(tested: report.TestSetPredictions) -> Evaluation:
    target, predictions, labels = tested.images.target, tested.predictions, tested.images.labels
    shares = compute_probabilities(predictions)
    found = measure_classes(target, shares, predict_labels(predictions, 0.5), labels)
    seen = compute_confidence(target.astype(np.float64), predictions, 0.5)
    found |= measure_low_confidence(*seen, _UNSURE_BELOW)
    even = np.full(shares.shape, 1 / len(labels))
    naive = measure_classes(target, even, even.argmax(axis=1), labels)
    baseline = Baseline(name="the training shares of the labels", metrics=naive)
    return Evaluation(part="test", rows=len(target), metrics=found, baseline=baseline)


def _decoded(page: str) -> list[npt.NDArray[np.uint8]]:
    """Every PNG of the page, ``[height, width, 3]``."""
    texts = re.findall(r'src="data:image/png;base64,([^"]*)"', page)
    read = (imread(io.BytesIO(base64.b64decode(text)), format="png") for text in texts)
    return [np.asarray((image[..., :3] * 255).round(), np.uint8) for image in read]


@pytest.mark.parametrize("labels", [("cat", "dog"), ("cat", "dog", "hen")])
def test_a_report_loads_no_external_resources(labels: tuple[str, ...]) -> None:
    """It has no external URL and no script."""
    page = Scene(labels, augmentation={"rotation": 20}).page

    requests = page.replace("http://localhost:8000", "")
    for word in ("http://", "https://", "<script", "<link", "@import"):
        assert word not in requests
    assert set(re.findall(r"(?:url\(|href=\"|src=\")(.)", page)) <= {"#", "d"}  # inside, or data


@pytest.mark.parametrize("channels", [1, 3])
def test_the_worst_image_is_first(channels: int) -> None:
    """It has the lowest probability of its true label; every pixel is shown exactly."""
    scene = Scene(channels=channels)
    images, predictions = scene.tested.images, scene.tested.predictions
    believed = predictions[np.arange(len(images)), images.target]
    row = int(believed.argmin())

    page = scene.page

    expected = np.broadcast_to(images.pixels(slice(row, row + 1))[0], (12, 12, 3))
    np.testing.assert_array_equal(_decoded(page)[0], expected)
    first = page[page.index('<div class="card shown">') :].partition("</div>")[0]
    said = images.labels[int(predictions[row].argmax())]
    assert images.names[row] in first
    assert f"true <strong>{images.labels[images.target[row]]}</strong>" in first
    assert f"predicted {said} ({predictions[row].max():.1%})" in first


def test_every_class_has_examples() -> None:
    """Each label has six images of its class only."""
    scene = Scene()
    images = scene.tested.images

    shown = _decoded(scene.page)[24:]

    assert len(shown) == 18
    for k, image in enumerate(shown):
        same = (images.store == image).all(axis=(1, 2, 3))
        assert images.target[same].tolist() == [k // 6]


def test_augmented_images_are_next_to_the_original() -> None:
    """One image of each class, followed by four augmented copies."""
    scene = Scene(augmentation={"rotation": 40.0})
    images = scene.tested.images

    shown = _decoded(scene.page)[24 + 18 :]

    assert len(shown) == 15
    unchanged = [(images.store == image).all(axis=(1, 2, 3)).any() for image in shown]
    assert unchanged == [k % 5 == 0 for k in range(15)]


def test_the_metrics_of_each_class_are_those_of_the_manifest() -> None:
    """A table has precision, recall, specificity and F1 of each label."""
    scene = Scene()
    evaluation = scene.manifest.evaluation
    assert evaluation is not None

    page = scene.page

    for label in scene.labels:
        row = page[page.index(f"<tr><td>{label}</td><td class=") :]
        shown = re.findall(r'<td class="number">([0-9.]+)</td>', row)[:4]
        names = ("precision", "recall", "specificity", "f1")
        assert shown == [f"{evaluation.metrics[f'{name}[{label}]']:.3f}" for name in names]


def test_the_most_frequent_confusion_is_first() -> None:
    """It is the largest number outside the diagonal of the confusion matrix."""
    scene = Scene()
    target, said = scene.tested.images.target, predict_labels(scene.tested.predictions, 0.5)
    times = {
        (scene.labels[a], scene.labels[b]): int(((target == a) & (said == b)).sum())
        for a, b in np.ndindex(3, 3)
        if a != b
    }

    page = scene.page

    rows = re.findall(
        r'<tr><td>(\w+)</td><td>(\w+)</td><td class="number">(\d+)</td>',
        page[page.index("most often confused") :],
    )
    assert int(rows[0][2]) == max(times.values())
    assert {(true, predicted): int(count) for true, predicted, count in rows} == {
        pair: count for pair, count in times.items() if count
    }


def test_the_error_rates_of_unsure_predictions_are_reported() -> None:
    """With their share, and the error rate of the others."""
    scene = Scene()
    evaluation = scene.manifest.evaluation
    assert evaluation is not None
    found = evaluation.metrics

    page = scene.page

    assert f"This applies to {found['unsure_share']:.1%} of the test images" in page
    assert f"{found['wrong[unsure]']:.1%} of these predictions are wrong" in page
    assert f"{found['wrong[others]']:.2%} of the others" in page


def test_skipped_files_are_listed_with_their_reasons() -> None:
    """The first ones are listed, the others counted."""
    skipped = [SkippedFile(f"cat/{k}.txt", f"reason {k}") for k in range(40)]

    page = Scene(skipped=skipped).page
    longer = Scene(skipped=[*skipped, *skipped[:3]]).page

    for one in skipped:
        assert f"<code>{one.file}</code>" in page
        assert f">{one.reason}</td>" in page
    assert "and 3 more" in longer
    assert "43 files were" in longer
    assert "Skipped files" not in Scene().page


def test_a_file_name_in_another_encoding_is_shown_escaped() -> None:
    """Invalid bytes are shown as numbers."""
    name = b"cat/caf\xe9.txt".decode("utf-8", "surrogateescape")

    page = Scene(skipped=[SkippedFile(name, "no image")]).page

    assert "cat/caf\\udce9.txt" in page


def test_labels_are_escaped_in_html() -> None:
    """Labels are escaped in text, attributes and charts."""
    page = Scene(("<b>cat", '"><img src=x onerror=alert(1)>', "hen")).page

    assert "<b>cat" not in page
    assert "<img src=x" not in page
    assert "&lt;b&gt;cat" in page


def test_the_local_folder_is_not_recorded() -> None:
    """The report has the name of the folder, but not its path."""
    page = Scene(folder="/home/somebody/secret/pets").page

    assert "secret" not in page
    assert "folder = &#34;pets&#34;" in page
    assert "onward train pets.toml" in page


def test_the_number_of_parameters_is_counted() -> None:
    """A dense layer of 8 from 12 x 12 x 3 pixels, then three labels: 3,456 + 8 + 24 + 3."""
    assert "<dt>Parameters</dt><dd>3,491</dd>" in Scene().page


def test_few_images_and_a_worse_calibration_are_caveats() -> None:
    """Both caveats are displayed above the metrics."""
    scene = Scene(count=12)
    manifest = scene.manifest
    worse = Calibration(temperature=0.5, error_before=0.02, error_after=0.08)
    output = manifest.output.model_copy(update={"calibration": worse})
    manifest = manifest.model_copy(update={"output": output})

    page = report.render(manifest, scene.recipe, scene.tested, History(), []).decode()

    assert "Fewer than 30 test images show cat (4), dog (4), hen (4)" in page
    assert "the calibration error rose from 0.02 to 0.08" in page


@pytest.mark.parametrize(
    ("calibration", "caveat"),
    [
        (None, "The probabilities are not calibrated"),
        (Calibration(temperature=0.05, error_before=0.08, error_after=0), "at the bound of the"),
    ],
)
def test_a_temperature_without_evidence_is_a_caveat(
    calibration: Calibration | None, caveat: str
) -> None:
    """So is one at the bound of the search; without a temperature nothing was before it."""
    scene = Scene()
    output = scene.manifest.output.model_copy(update={"calibration": calibration})
    manifest = scene.manifest.model_copy(update={"output": output})

    page = report.render(manifest, scene.recipe, scene.tested, History(), []).decode()

    assert caveat in page
    assert ("before the temperature" in page) == (calibration is not None)
    assert caveat not in scene.page


@pytest.mark.parametrize(("side", "classes"), [(48, 10), (128, 2), (150, 60)])
def test_the_size_of_a_page_is_bounded(side: int, classes: int) -> None:
    """Even with noise, which cannot be compressed, it stays below 1.5 million bytes."""
    labels = tuple(f"a class of a rather long name {k}" for k in range(classes))
    scene = replace(Scene(labels, side, count=300), augmentation={"shift": 0.1})

    assert len(scene.page) < 1_500_000
