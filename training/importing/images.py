"""Import an ONNX model of images of another library as a bundle, verified against the original."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from service.bundle import manifest as contract
from service.bundle.manifest import (
    IMAGE_NAME,
    ClassesOutput,
    ImageInput,
    ValueOutput,
    find_task,
    output_name,
)
from service.bundle.store import EXAMPLES, MODEL, REPORT, to_json
from service.imaging.preprocess import DECODER
from service.spelling import format_count
from training.autorecipe.draft import derive_model_name
from training.errors import DataError, ImportRejected
from training.export.foreign_graph import ForeignGraph
from training.export.image_input import (
    WHITE,
    Bytes,
    Channels,
    Layout,
    Normalization,
    Scaling,
    choose_scaling,
    read_image_tensor,
)
from training.export.image_wrapping import free_batch, wrap_images
from training.export.onnx_export import create_examples
from training.export.output_choice import find_output
from training.export.output_mapping import OutputMapping
from training.export.publish import Publication, publish
from training.importing.image_files import ImageFolder, generate_images
from training.importing.image_verification import OriginalImages, verify_images
from training.importing.publication import read_model
from training.onnx_files import Graph
from training.recipe.image import ImageCard
from training.recipe.loader import parse_image_card
from training.report.imported import describe_origin, render


@dataclass(frozen=True)
class ImageOptions:
    """Choices for an import of a model of images; what is None is read from the graph."""

    layout: Layout | None = None
    """The order of the axes of the graph's input."""
    size: tuple[int, int] | None = None
    """Height and width."""
    channels: Channels | None = None
    """1: gray; 3: red, green and blue."""
    scaling: Scaling | None = None
    """How the graph expects its pixels, unless by ``mean`` and ``deviation``."""
    mean: tuple[float, ...] = ()
    """Subtracted from pixels from 0 to 1; one for each channel, or one for all."""
    deviation: tuple[float, ...] = ()
    """What the difference is divided by."""
    fit: Literal["stretch", "crop", "pad"] = "stretch"
    """How images of other sizes are fitted to that of the model."""
    background: int = 255
    """The gray around padded images and behind transparent pixels."""
    labels: tuple[str, ...] = ()
    """Names of the classes, in the order of the graph."""
    output: str | None = None
    """The output of the graph to serve; by default the one that fits the labels."""
    activation: Literal["softmax", "sigmoid"] | None = None
    """What the bundle applies to the output, for a graph that returns logits."""
    folder: Path | None = None
    """Images to verify the bundle with, in addition to generated ones."""

    @property
    def normalization(self) -> Normalization | None:
        """The stated scaling; None if none is stated.

        Raise `ImportRejected` if two are stated, or one that cannot be computed.
        """
        if not self.mean and not self.deviation:
            return None if self.scaling is None else choose_scaling(self.scaling)
        if self.scaling is not None:
            raise ImportRejected(
                f"both --scaling={self.scaling} and --mean or --std are given; leave one out."
            )
        if any(not np.isfinite(value) for value in (*self.mean, *self.deviation)):
            raise ImportRejected("--mean and --std must be finite numbers.")
        if any(value <= 0 for value in self.deviation):
            raise ImportRejected(
                f"--std is {', '.join(map(str, self.deviation))}; deviations are above 0."
            )
        return Normalization(WHITE, self.mean or None, self.deviation or None)


def import_image_model(
    path: Path, options: ImageOptions, document: dict[str, Any], models: Path
) -> Publication:
    """Wrap a model of images into a bundle and publish it as the next version below ``models``.

    Args:
        path: the ONNX file.
        options: how the graph takes images, and what it returns.
        document: an `ImageCard` as parsed from TOML; missing parts have defaults.
        models: the folder of published models.

    Raises:
        TrainingError: the model cannot be wrapped, or its predictions changed.
    """
    defaults = {"name": derive_model_name(path.stem), "title": path.stem}
    card = parse_image_card(defaults | document, path.name)
    try:
        manifest, files, remark = _create_bundle(path, card, options)
    except ImportRejected as error:
        raise ImportRejected(f"{path.name} cannot be imported: {error}") from None
    return replace(publish(models, manifest, files), remark=remark)


def read_labels(path: Path) -> tuple[str, ...]:
    """Read the names of classes from a file with one in each line.

    Raise `DataError` if it cannot be read, or a name is empty or repeats.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} cannot be read: byte {error.start} is not UTF-8; save it in that encoding."
        ) from None
    labels = [line.strip() for line in lines]
    while labels and not labels[-1]:
        labels.pop()
    first: dict[str, int] = {}
    for number, label in enumerate(labels, 1):
        if not label:
            raise DataError(f"{path.name}, line {number}, is empty; each line names a class.")
        if first.setdefault(label, number) != number:
            raise DataError(
                f"{path.name}: {label!r} is in lines {first[label]} and {number}; each class needs "
                "a name of its own."
            )
    if not labels:
        raise DataError(f"{path.name} names no class; write one in each line.")
    return tuple(labels)


def _create_bundle(
    path: Path, card: ImageCard, options: ImageOptions
) -> tuple[contract.Manifest, dict[str, bytes], str]:
    """Return the manifest and the files of the bundle, and a remark for the user."""
    model = read_model(path)
    labels = list(options.labels) or card.target.labels
    _check(options, labels)
    tensor = read_image_tensor(
        model,
        layout=options.layout,
        size=options.size,
        channels=options.channels,
        normalization=options.normalization,
    )
    image = ImageInput(
        kind="image",
        height=tensor.height,
        width=tensor.width,
        channels=tensor.channels,
        fit=options.fit,
        background=options.background,
        decoder=DECODER,
    )
    generated = generate_images(image)
    folder = None if options.folder is None else ImageFolder(options.folder, image)
    pixels = generated if folder is None else np.concatenate([generated, folder.read_some()])

    original = OriginalImages(ForeignGraph(model, takes_images=True), tensor)
    mapping = find_output(
        original.run(pixels, len(pixels)),
        original.foreign.known_labels,
        labels,
        output=options.output,
        activation=options.activation,
    )
    output = _describe_output(card, mapping)
    output_tensor = output_name(output)
    graph = _wrap(original, mapping, output_tensor, pixels)
    served = Graph(graph)
    evaluation, unmeasured = None, ""
    if folder is not None and isinstance(output, ClassesOutput):
        evaluation, unmeasured = folder.measure(output, served.predict)

    manifest = contract.Manifest(
        format_version=contract.FORMAT_VERSION,
        name=card.name,
        title=card.title,
        description=_describe_model(card, original),
        task=find_task(output),
        input=image,
        output=output,
        evaluation=evaluation,
        files={},
    )
    examples = create_examples(served, generated, output_tensor, input_name=IMAGE_NAME)
    remarks = list(filter(None, (mapping.remark, unmeasured, tensor.remark)))
    origin = describe_origin(path, original.foreign.producer, format_count(len(pixels), "image"))
    html = render(manifest, origin, remarks=remarks)
    return manifest, {MODEL: graph, EXAMPLES: to_json(examples), REPORT: html}, " ".join(remarks)


def _wrap(
    original: OriginalImages, mapping: OutputMapping, output_tensor: str, pixels: Bytes
) -> bytes:
    """Return the verified graph of the bundle; raise `ImportRejected` if it is not the original."""
    model, tensor = original.foreign.model, original.tensor
    graph = wrap_images(model, tensor, mapping, output_tensor)
    try:
        verify_images(Graph(graph), original, mapping, pixels)
    except ImportRejected:
        if tensor.batch is None:
            raise
        graph = wrap_images(free_batch(model, tensor), tensor, mapping, output_tensor)
        verify_images(Graph(graph), original, mapping, pixels)
    return graph


def _check(options: ImageOptions, labels: Sequence[str]) -> None:
    """Raise `ImportRejected` for choices that no model can have."""
    if not 0 <= options.background <= WHITE:
        raise ImportRejected(f"--background is {options.background}; grays are 0 to 255.")
    repeated = [label for label, count in Counter(labels).items() if count > 1]
    if repeated:
        raise ImportRejected(f"{repeated[0]!r} names several classes; give each its own name.")
    if "" in labels:
        raise ImportRejected("the name of a class is empty; give each its own name.")


def _describe_model(card: ImageCard, original: OriginalImages) -> str:
    producer = original.foreign.producer or "an unnamed program"
    origin = f"Imported from ONNX; the file was written by {producer}."
    about = card.description.strip(), origin, original.tensor.normalization.describe()
    return "\n".join(filter(None, about))


def _describe_output(card: ImageCard, mapping: OutputMapping) -> ValueOutput | ClassesOutput:
    target = card.target
    description = f"{target.description} {mapping.remark}".strip()
    if not mapping.labels:
        return ValueOutput(
            kind="value", name=target.name, description=description, unit=target.unit
        )
    return ClassesOutput(
        kind="classes",
        name=target.name,
        description=description,
        labels=mapping.labels,
        threshold=mapping.threshold,
    )
