"""Verify that a bundle of images predicts what the original predicts, singly and in batches."""

from functools import cached_property

import numpy as np

from service.predictions import predict_labels
from training.data.table import Float32s
from training.errors import ImportRejected
from training.export.foreign_graph import ForeignGraph
from training.export.image_input import Bytes, ImageTensor
from training.export.output_mapping import OutputMapping
from training.importing.reference import find_differences
from training.onnx_files import Array, Graph

_BATCHES = (1, 2, 7)
# The largest difference: as a share of the prediction; between bundle and original, and between
# batches of the original, of a probability or as a share of the mean value.
_RELATIVE = 1e-4
_TOLERANCE = 1e-5
_APART = 1e-4
_SHOWN = 5
_BATCH_CAUSE = (
    "its predictions depend on the other images of a batch; export it in evaluation mode."
)


class OriginalImages:
    """The original model, run in its own type on images that numpy has normalized."""

    def __init__(self, foreign: ForeignGraph, tensor: ImageTensor) -> None:
        self.foreign = foreign
        self.tensor = tensor

    @cached_property
    def _graph(self) -> Graph:
        return Graph(self.foreign.model.SerializeToString())

    def run(self, pixels: Bytes, size: int) -> dict[str, Array]:
        """Return every output for images, in batches of at most ``size``.

        A graph that only takes a fixed number of images at a time gets as many. Raise
        `ImportRejected` if ONNX Runtime cannot run it, or an output has no row for each image.
        """
        values, size = self.tensor.normalize(pixels), self.tensor.batch or size
        parts: list[dict[str, Array]] = []
        for start in range(0, len(values), size):
            part = values[start : start + size]
            found = self._graph.run({self.tensor.name: self._fill(part)})
            parts.append({name: array[: len(part)] for name, array in found.items()})
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        for name, array in joined.items():
            if len(array) != len(pixels):
                raise ImportRejected(
                    f"its output {name!r} has {len(array)} rows for {len(pixels)} images; a "
                    "prediction needs one for each image."
                )
        return joined

    def _fill(self, values: Array) -> Array:
        """Repeat the last image until there are as many as the graph takes."""
        missing = (self.tensor.batch or len(values)) - len(values)
        return np.concatenate([values, values[-1:].repeat(missing, axis=0)])


def verify_images(
    graph: Graph, original: OriginalImages, mapping: OutputMapping, pixels: Bytes
) -> None:
    """Compare the graph of a bundle with the original, singly and in batches.

    Raise `ImportRejected` with the image and both predictions if they differ.
    """
    together = mapping.apply(original.run(pixels, len(pixels)))
    scale = 1.0 if mapping.labels else float(np.abs(together).mean())
    for size in (len(pixels), *_BATCHES):
        outputs = original.run(pixels, size)
        expected = mapping.apply(outputs)
        _require_same(
            expected, together, _APART * scale, f"{_BATCH_CAUSE} In batches of {size}, it"
        )
        try:
            found = graph.predict_in_batches(pixels, size)
        except ImportRejected as error:
            raise ImportRejected(f"{error}{_suggest_batch(original.tensor)}") from None
        what = f"In batches of {size}, the bundle"
        _require_same(found, expected, _TOLERANCE * scale, what)
        own = mapping.read_positions(outputs)
        predicted = predict_labels(found, mapping.chosen_threshold)
        if own is not None and (predicted != own).any():
            number = int(np.flatnonzero(predicted != own)[0])
            raise ImportRejected(
                f"for image {number + 1} of {len(pixels)}, its output {mapping.label_output!r} is "
                f"another label than the bundle would predict. Choose the label itself with "
                f"--output {mapping.label_output}."
            )


def _require_same(found: Float32s, expected: Float32s, tolerance: float, what: str) -> None:
    """Raise `ImportRejected` with the first image whose predictions differ."""
    differ = find_differences(found, expected, _RELATIVE, tolerance)
    if differ.any():
        number = int(np.flatnonzero(differ)[0])
        raise ImportRejected(
            f"{what} predicts {_format_numbers(found[number])} for image {number + 1} of "
            f"{len(found)}, instead of {_format_numbers(expected[number])}."
        )


def _suggest_batch(tensor: ImageTensor) -> str:
    """Return the remedy for a graph of a fixed number of images; empty for any other."""
    if tensor.batch is None:
        return ""
    return (
        f" Its input {tensor.name!r} takes {tensor.batch} image{'s' * (tensor.batch > 1)} at a "
        "time, and so do its operators. Export it again with a batch of any size: in PyTorch with "
        f"dynamic_axes={{'{tensor.name}': {{0: 'batch'}}}} or dynamic_shapes."
    )


def _format_numbers(numbers: Array) -> str:
    shown = ", ".join(f"{number:.6g}" for number in numbers[:_SHOWN])
    return f"{shown}, …" if len(numbers) > _SHOWN else shown
