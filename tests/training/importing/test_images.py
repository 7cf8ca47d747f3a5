"""Models of images are imported with their preprocessing in the graph."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch import nn

from service.bundle.manifest import ClassesOutput, ImageInput, ValueOutput
from service.bundle.store import MODEL, read_bundle
from tests.image_models import pixel_graph, run_directly
from tests.images import encoded, photograph
from training.errors import DataError, ImportRejected
from training.export.onnx_export import export_module
from training.importing.images import ImageOptions, import_image_model, read_labels

CASES = Path(__file__).parents[4] / "shared" / "cases" / "onnx"
MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])

Pixels = npt.NDArray[np.uint8]
Normalize = Callable[[Pixels], npt.NDArray[Any]]


def imported(
    folder: Path, model: bytes, options: ImageOptions | None = None, **card: object
) -> tuple[Any, bytes]:
    """The manifest and the graph of the bundle of a model."""
    path = folder / "pics.onnx"
    path.write_bytes(model)
    published = import_image_model(path, options or ImageOptions(), card, folder / "models")
    read_bundle(published.folder)
    return published.manifest, (published.folder / MODEL).read_bytes()


def some_images(height: int, width: int, channels: int = 3, count: int = 5) -> Pixels:
    """Random pixels."""
    shape = count, height, width, channels
    return np.random.default_rng(7).integers(0, 256, shape, np.uint8)


def softmax(scores: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The probabilities of logits."""
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    result: npt.NDArray[Any] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return result


def agree(model: bytes, pixels: Pixels, expected: npt.NDArray[Any]) -> bool:
    """Whether the bundle's graph returns the expected numbers, singly and in a batch."""
    single = np.concatenate([run_directly(model, pixel[None]) for pixel in pixels])
    batch = run_directly(model, pixels)
    return np.allclose(single, expected, atol=2e-6) and np.allclose(batch, expected, atol=2e-6)


def test_a_graph_of_keras_takes_bytes_as_they_are(tmp_path: Path) -> None:
    """The graph divides by 255 itself, so the bundle predicts what it predicts for the pixels."""
    path = CASES / "k2_pics.onnx"
    if not path.exists():
        pytest.skip("the cases are not on this machine")
    original = path.read_bytes()
    manifest, graph = imported(tmp_path, original, ImageOptions(labels=tuple("abcde")))
    assert isinstance(manifest.input, ImageInput)
    assert (manifest.input.height, manifest.input.width, manifest.input.channels) == (16, 16, 3)
    assert manifest.output.labels == list("abcde")
    pixels = some_images(16, 16)
    assert agree(graph, pixels, run_directly(original, pixels))


def test_a_classifier_of_pytorch_predicts_what_the_module_predicts(tmp_path: Path) -> None:
    """Its logits for normalized images in NCHW become probabilities for bytes in NHWC."""
    torch.manual_seed(1)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 4),
    ).eval()
    model = export_module(module, torch.zeros(3, 3, 12, 20), "input", "logits")
    options = ImageOptions(scaling="imagenet", activation="softmax")
    manifest, graph = imported(tmp_path, model, options, name="birds", title="Birds")
    assert (manifest.name, manifest.input.height, manifest.input.width) == ("birds", 12, 20)
    assert manifest.output.labels == ["0", "1", "2", "3"]
    pixels = some_images(12, 20)
    normalized = (pixels / 255 - MEAN) / DEVIATION
    with torch.no_grad():
        logits = module(torch.tensor(normalized.transpose(0, 3, 1, 2), dtype=torch.float32))
    assert agree(graph, pixels, softmax(logits.numpy()))


def test_flat_rows_of_scikit_learn_are_images(tmp_path: Path) -> None:
    """The digits of scikit-learn are rows of 64 pixels from 0 to 16, with words as classes."""
    digits = load_digits()
    words = np.array(["zero", "one", "two", "three"])
    rows = digits.target < len(words)
    fitted = LogisticRegression(max_iter=200).fit(digits.data[rows], words[digits.target[rows]])
    model = to_onnx(fitted, initial_types=[("pixels", FloatTensorType([None, 64]))])
    options = ImageOptions(deviation=(1 / 16,))
    manifest, graph = imported(tmp_path, model.SerializeToString(), options)
    assert (manifest.input.height, manifest.input.width, manifest.input.channels) == (8, 8, 1)
    assert manifest.output.labels == sorted(words)
    pixels = some_images(8, 8, 1)
    expected = fitted.predict_proba(pixels.reshape(len(pixels), -1) / 255 * 16)
    assert agree(graph, pixels, expected)


@pytest.mark.parametrize(
    ("element", "dtype"),
    [
        (TensorProto.UINT8, np.uint8),
        (TensorProto.INT32, np.int32),
        (TensorProto.FLOAT, np.float32),
        (TensorProto.DOUBLE, np.float64),
        (TensorProto.FLOAT16, np.float16),
    ],
)
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("opset", [7, 17])
def test_every_type_and_layout_is_read_from_the_graph(
    tmp_path: Path, element: int, dtype: type[np.generic], layout: str, opset: int
) -> None:
    """A graph that divides by 255 needs no option, whatever the type of its input."""
    shape: list[int | str] = ["n", 3, 6, 9] if layout == "nchw" else ["n", 6, 9, 3]
    model = pixel_graph(shape, element, steps=[("Div", 255)], opset=opset)
    manifest, graph = imported(tmp_path, model)
    assert (manifest.input.height, manifest.input.width, manifest.input.channels) == (6, 9, 3)
    pixels = some_images(6, 9)
    values = pixels.transpose(0, 3, 1, 2) if layout == "nchw" else pixels
    assert agree(graph, pixels, run_directly(model, values.astype(dtype)))


@pytest.mark.parametrize(
    ("options", "normalize"),
    [
        (ImageOptions(scaling="none"), lambda pixels: pixels),
        (ImageOptions(scaling="0-1"), lambda pixels: pixels / 255),
        (ImageOptions(scaling="-1-1"), lambda pixels: pixels / 127.5 - 1),
        (ImageOptions(scaling="imagenet"), lambda pixels: (pixels / 255 - MEAN) / DEVIATION),
        (ImageOptions(mean=(0.5,), deviation=(0.25,)), lambda pixels: (pixels / 255 - 0.5) / 0.25),
        (
            ImageOptions(mean=(0.1, 0.2, 0.3)),
            lambda pixels: pixels / 255 - np.array([0.1, 0.2, 0.3]),
        ),
    ],
    ids=["none", "0-1", "-1-1", "imagenet", "one for all", "one for each"],
)
def test_a_stated_scaling_is_in_the_graph(
    tmp_path: Path, options: ImageOptions, normalize: Normalize
) -> None:
    """The original gets pixels that numpy has scaled as the option says."""
    model = pixel_graph(["n", 3, 8, 8], white=255 if options.scaling == "none" else 1)
    _, graph = imported(tmp_path, model, options)
    pixels = some_images(8, 8)
    values = normalize(pixels).transpose(0, 3, 1, 2).astype(np.float32)
    assert agree(graph, pixels, run_directly(model, values))


@pytest.mark.parametrize(
    ("steps", "normalize"),
    [
        ([("Mul", 1 / 255)], lambda pixels: pixels),
        ([("Mul", 1 / 127.5), ("Add", -1)], lambda pixels: pixels),
        ([("Sub", [103.939, 116.779, 123.68])], lambda pixels: pixels),
        ([("Sub", [0.485, 0.456, 0.406]), ("Div", 0.225)], lambda pixels: pixels / 255),
        ([("Sub", 0.5), ("Div", 0.5)], lambda pixels: pixels / 255),
    ],
    ids=["rescaling", "to -1 and 1", "caffe", "imagenet inside", "halves inside"],
)
def test_a_graph_that_normalizes_shows_what_it_takes(
    tmp_path: Path, steps: Sequence[tuple[str, npt.ArrayLike]], normalize: Normalize
) -> None:
    """The constants of the first step are those of pixels from 0 to 255, or from 0 to 1."""
    model = pixel_graph(["n", 8, 8, 3], steps=steps, white=100 if steps[0][0] == "Sub" else 1)
    _, graph = imported(tmp_path, model)
    pixels = some_images(8, 8)
    assert agree(graph, pixels, run_directly(model, normalize(pixels).astype(np.float32)))


def test_a_number_is_a_value_with_a_unit(tmp_path: Path) -> None:
    """A regressor of gray images becomes a model of values."""
    model = pixel_graph(["n", 1, 8, 8], classes=1, activation=None)
    target = {"name": "age", "unit": "years"}
    options = ImageOptions(scaling="0-1")
    manifest, graph = imported(tmp_path, model, options, target=target)
    assert isinstance(manifest.output, ValueOutput)
    assert (manifest.task, manifest.output.unit) == ("regression", "years")
    pixels = some_images(8, 8, 1)
    values = pixels.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    assert agree(graph, pixels, run_directly(model, values))


def test_a_graph_of_any_size_takes_the_stated_one(tmp_path: Path) -> None:
    """Fully convolutional networks have no size of their own; the option has it."""
    module = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Softmax(1))
    exported = torch.export.Dim
    program = torch.onnx.export(
        module.eval(),
        (torch.zeros(2, 3, 9, 11),),
        dynamo=True,
        dynamic_shapes=({0: exported("n"), 2: exported("h"), 3: exported("w")},),
        verbose=False,
    )
    assert program is not None
    model = program.model_proto.SerializeToString()
    with pytest.raises(ImportRejected, match=r"any size.*--size 224x224"):
        imported(tmp_path, model, ImageOptions(scaling="0-1"))
    manifest, _ = imported(tmp_path, model, ImageOptions(scaling="0-1", size=(10, 14)))
    assert (manifest.input.height, manifest.input.width) == (10, 14)
    assert isinstance(manifest.output, ClassesOutput)


def test_a_batch_of_one_is_opened_where_the_operators_allow_it(tmp_path: Path) -> None:
    """A graph exported for one image serves any number of them."""
    model = pixel_graph([1, 3, 8, 8])
    _, graph = imported(tmp_path, model, ImageOptions(scaling="0-1"))
    pixels = some_images(8, 8)
    values = pixels.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    expected = np.concatenate([run_directly(model, value[None]) for value in values])
    assert agree(graph, pixels, expected)


def test_images_of_a_folder_are_verified_too(tmp_path: Path) -> None:
    """They are read as the service reads them; a file that is no image is named."""
    folder = tmp_path / "photographs" / "cats"
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(encoded(photograph(30, 40)))
    (folder / "b.jpg").write_bytes(encoded(Image.fromarray(photograph(9, 9, 1)), "JPEG"))
    options = ImageOptions(scaling="0-1", folder=folder.parent)
    imported(tmp_path, pixel_graph(["n", 3, 8, 8]), options)
    (folder / "c.txt").write_text("no image")
    with pytest.raises(DataError, match=r"c\.txt is not used: "):
        imported(tmp_path, pixel_graph(["n", 3, 8, 8]), options)


@pytest.mark.parametrize("batch", [1, 4])
def test_a_reshape_to_a_fixed_number_of_images_is_opened(tmp_path: Path, batch: int) -> None:
    """PyTorch writes ``view(len(x), -1)`` so, if the export has no dynamic batch."""
    model = onnx.load_from_string(pixel_graph([batch, 3, 8, 8]))
    flat = next(tensor for tensor in model.graph.initializer if tensor.name == "flat")
    flat.CopyFrom(numpy_helper.from_array(np.array([batch, 192]), "flat"))
    _, graph = imported(tmp_path, model.SerializeToString(), ImageOptions(scaling="0-1"))
    pixels = some_images(8, 8, count=8)
    values = pixels.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    parts = [values[start : start + batch] for start in range(0, 8, batch)]
    original = model.SerializeToString()
    assert agree(graph, pixels, np.concatenate([run_directly(original, part) for part in parts]))


def test_operators_of_one_image_are_rejected_with_the_remedy(tmp_path: Path) -> None:
    """A graph that adds a row for one image cannot serve several."""
    model = onnx.load_from_string(pixel_graph([1, 3, 8, 8]))
    flat = next(tensor for tensor in model.graph.initializer if tensor.name == "flat")
    flat.CopyFrom(numpy_helper.from_array(np.array([192]), "flat"))
    last = helper.make_node("Reshape", ["score", "row_shape"], ["y"])
    model.graph.node.pop()
    model.graph.node.append(last)
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 3]), "row_shape"))
    options = ImageOptions(scaling="0-1", activation="softmax")
    with pytest.raises(ImportRejected, match=r"takes 1 image at a time.*dynamic_axes=\{'x'"):
        imported(tmp_path, model.SerializeToString(), options)


def test_predictions_that_depend_on_the_batch_are_rejected(tmp_path: Path) -> None:
    """Batch normalization in training mode subtracts the mean of the images that come together."""
    model = onnx.load_from_string(pixel_graph(["n", 3, 8, 8], activation=None))
    mean = helper.make_node("ReduceMean", ["score"], ["mean"], axes=[0])
    last = helper.make_node("Sub", ["score", "mean"], ["y"])
    model.graph.node.pop()
    model.graph.node.extend([mean, last, helper.make_node("Softmax", ["y"], ["z"])])
    model.graph.output[0].name = "z"
    with pytest.raises(ImportRejected, match=r"depend on the other images.*evaluation mode"):
        imported(tmp_path, model.SerializeToString(), ImageOptions(scaling="0-1"))


def test_images_in_folders_of_their_labels_are_measured(tmp_path: Path) -> None:
    """The accuracy is that of the original on the pixels that the service reads."""
    model = pixel_graph(["n", 8, 8, 3], steps=[("Div", 255)])
    labels, images = ("ant", "bee", "cow"), []
    for position in range(30):
        label = labels[position % 3]
        folder = tmp_path / "photographs" / label
        folder.mkdir(parents=True, exist_ok=True)
        pixels = some_images(8, 8, count=position + 1)[position]
        images.append((position % 3, pixels))
        (folder / f"{position}.png").write_bytes(encoded(pixels))
    options = ImageOptions(labels=labels, folder=tmp_path / "photographs")
    manifest, _ = imported(tmp_path, model, options)
    chosen = run_directly(model, np.stack([pixels for _, pixels in images]).astype(np.float32))
    right = chosen.argmax(axis=1) == [label for label, _ in images]
    assert manifest.evaluation.rows == 30
    assert manifest.evaluation.metrics["accuracy"] == pytest.approx(right.mean())


def test_folders_of_other_names_are_not_measured(tmp_path: Path) -> None:
    """A remark says how to name the labels as the folders."""
    path = tmp_path / "pics.onnx"
    path.write_bytes(pixel_graph(["n", 8, 8, 3], steps=[("Div", 255)]))
    for label in ("ant", "bee", "cow"):
        folder = tmp_path / "photographs" / label
        folder.mkdir(parents=True)
        (folder / "a.png").write_bytes(encoded(photograph(8, 8)))
    options = ImageOptions(folder=tmp_path / "photographs")
    published = import_image_model(path, options, {}, tmp_path / "models")
    assert published.manifest.evaluation is None
    assert "not the names of the folders (ant, bee, cow)" in published.remark


def test_a_scaling_that_the_graph_contradicts_is_remarked(tmp_path: Path) -> None:
    """A graph that divides by 255 itself usually takes pixels up to 255."""
    path = tmp_path / "pics.onnx"
    path.write_bytes(pixel_graph(["n", 8, 8, 3], steps=[("Div", 255)]))
    published = import_image_model(path, ImageOptions(scaling="0-1"), {}, tmp_path / "models")
    assert "normalize pixels from 0 to 255" in published.remark


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (pixel_graph(["n", 3, 8, 8]), ImageOptions(), r"how pixels are scaled.*--scaling=0-1"),
        (pixel_graph(["n", 3, 8, 3]), ImageOptions(), "either its first or its last.*--layout"),
        (pixel_graph(["n", 2, 8, 8]), ImageOptions(), "none of its axes.*--layout"),
        (pixel_graph(["n", 4, 8, 8]), ImageOptions(layout="nchw"), "4 channels.*1 or 3"),
        (pixel_graph(["n", 3, 8, 8]), ImageOptions(size=(9, 9)), "images of 8x8.*--size is 9x9"),
        (pixel_graph(["n", 60]), ImageOptions(scaling="0-1"), "60 columns.*no square.*--size"),
        (pixel_graph(["n", 192]), ImageOptions(scaling="0-1"), "flat rows of colored.*--layout"),
        (pixel_graph(["n", 3, 2, 8, 8]), ImageOptions(), r"\[\?, 3, 2, 8, 8\]; images are"),
        (
            pixel_graph(["n", 1, 8, 8]),
            ImageOptions(scaling="imagenet"),
            "1 channel,.*3 values: 0.485.*--mean",
        ),
        (
            pixel_graph(["n", 3, 8, 8], TensorProto.UINT8),
            ImageOptions(scaling="0-1"),
            "uint8.*leave --scaling",
        ),
        (
            pixel_graph(["n", 3, 8, 8], TensorProto.INT8),
            ImageOptions(),
            "int8; pixels are uint8",
        ),
        (
            pixel_graph(["n", 3, 8, 8]),
            ImageOptions(scaling="0-1", mean=(0.5,)),
            "both --scaling=0-1 and --mean",
        ),
        (pixel_graph(["n", 3, 8, 8]), ImageOptions(deviation=(0.0,)), "--std is 0.0.*above 0"),
        (
            pixel_graph(["n", 3, 8, 8]),
            ImageOptions(scaling="0-1", labels=("cat", "dog")),
            "3 classes, but 2 labels.*cat, dog",
        ),
        (
            pixel_graph(["n", 3, 8, 8]),
            ImageOptions(scaling="0-1", labels=("cat", "dog", "cat")),
            "'cat' names several classes",
        ),
        (pixel_graph(["n", 64]), ImageOptions(scaling="0-1", size=(0, 64)), "--size or --channels"),
        (pixel_graph(["n", 3, 8, 8]), ImageOptions(background=256), "--background is 256"),
        (
            pixel_graph(["n", 3, 8, 8], activation=None),
            ImageOptions(scaling="0-1"),
            "--activation softmax",
        ),
    ],
)
def test_what_the_graph_does_not_state_is_requested(
    tmp_path: Path, model: bytes, options: ImageOptions, message: str
) -> None:
    """The message names the file, what is unclear, and the option that states it."""
    with pytest.raises(ImportRejected, match=rf"(?s)^pics\.onnx cannot be imported: .*{message}"):
        imported(tmp_path, model, options)


def test_class_names_are_the_lines_of_a_file(tmp_path: Path) -> None:
    """Blanks around them and empty lines at the end do not count."""
    file = tmp_path / "classes.txt"
    file.write_text("cat\n dog \r\nKüken\n\n", encoding="utf-8")
    assert read_labels(file) == ("cat", "dog", "Küken")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\n\nb\n", "line 2, is empty"),
        ("a\nb\na\n", "'a' is in lines 1 and 3"),
        ("\n", "names no class"),
    ],
)
def test_a_list_of_classes_without_a_name_is_rejected(
    tmp_path: Path, text: str, message: str
) -> None:
    """Each line must name a class of its own."""
    file = tmp_path / "classes.txt"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_labels(file)
