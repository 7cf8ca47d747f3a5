"""Decode images for a graph without a manifest whose only input is a tensor of pixels."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from service.bundle.manifest import MAX_SIDE, ImageInput
from service.bundle.pixel_range import PixelRange, find_pixel_range
from service.bundle.store import MODEL
from service.codecs.images import KEY, DecodingPool, ImageCodec, Pixels, Prefix
from service.codecs.json_reader import Numbers
from service.codecs.tensors import BASE64
from service.engine.model import ModelInfo
from service.engine.tensors import DTYPES, Array, Arrays, Inputs, TensorSpec
from service.errors import InvalidRequest
from service.imaging.preprocess import DECODER

# The batch, height, width and channels, in either order.
_RANK = 4
_CHANNELS = {1, 3}
_INTEGERS = {"UINT8", "UINT16", "UINT32", "UINT64", "INT16", "INT32", "INT64"}
_FLOATS = {"FP16", "FP32", "FP64"}
_WHITE = 255


@dataclass(frozen=True)
class GraphImages:
    """How the only input of a graph takes images."""

    spec: TensorSpec
    image: ImageInput
    """Its pixels, as for a bundle."""
    channels_first: bool
    """Whether the channels precede the rows and columns."""
    pixels: PixelRange | None
    """The range of its numbers; None if the file does not show it."""

    def convert(self, pixels: Pixels) -> Array:
        """Map pixels ``[images, height, width, channels]`` to the graph's input."""
        dtype = DTYPES[self.spec.datatype]
        values: Array = pixels
        if self.pixels == "0-1":
            values = (pixels / np.float32(_WHITE)).astype(dtype)
        if self.channels_first:
            values = values.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(values, dtype)


def find_images(inputs: Sequence[TensorSpec], folder: Path) -> GraphImages | None:
    """Return how a graph takes images; None if its inputs are not one tensor of pixels.

    Pixels have four axes, of which either the second or the last are one or three channels.

    Args:
        inputs: of the graph.
        folder: of the version, with the file of the graph.
    """
    if len(inputs) != 1 or len(inputs[0].shape) != _RANK:
        return None
    spec = inputs[0]
    _, first, middle, last = spec.shape
    channels_first = first in _CHANNELS
    if channels_first == (last in _CHANNELS):
        return None  # neither, or both
    channels, height, width = (first, middle, last) if channels_first else (last, first, middle)
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
        return None
    if spec.datatype not in _INTEGERS | _FLOATS:
        return None
    image = ImageInput(
        kind="image",
        height=height,
        width=width,
        channels=cast("Literal[1, 3]", channels),
        fit="stretch",
        decoder=DECODER,
    )
    pixels: PixelRange | None = "0-255"
    if spec.datatype in _FLOATS:
        pixels = _read_pixel_range(folder / MODEL, spec.name)
    return GraphImages(spec, image, channels_first, pixels)


def create_image_codec(info: ModelInfo, decoding: DecodingPool) -> "GraphImageCodec | None":
    """Return the codec of a graph without a manifest; None if it does not take images."""
    images = find_images(info.inputs, info.folder)
    return None if images is None else GraphImageCodec(images, decoding, info.name)


def _read_pixel_range(path: Path, name: str) -> PixelRange | None:
    try:
        with path.open("rb") as file:
            return find_pixel_range(file, path.stat().st_size, name)
    except OSError:
        return None  # removed since it was loaded


class GraphImageCodec(ImageCodec):
    """Decodes images into the only input of a graph; tensors are sent as for any other graph.

    Args:
        images: how the graph takes them.
        decoding: limits and threads.
        model: the name of the model, for messages.
    """

    def __init__(self, images: GraphImages, decoding: DecodingPool, model: str) -> None:
        super().__init__(images.image, decoding)
        self._images = images
        self._model = model
        self.names = frozenset({KEY, images.spec.name})

    def takes(self, values: Any) -> bool:  # noqa: ANN401 - JSON is any of its types
        """Return whether values are image files, rather than numbers of the graph's tensor."""
        is_list = isinstance(values, list) and bool(values)
        return is_list and isinstance(self._unwrap(values[0]), str | bytes)

    def decode(self, images: Sequence[Any] | Pixels, prefix: Prefix) -> Inputs:
        """Decode images into the input of the graph, as `ImageCodec.decode` does."""
        self._require_range()
        if not isinstance(images, np.ndarray):
            images = [self._unwrap(value) for value in images]
        decoded = super().decode(images, prefix)
        if isinstance(decoded, tuple):
            return self._convert(decoded)
        return partial(self._convert_later, decoded)

    def decode_file(self, content: bytes) -> Pixels | None:  # noqa: ARG002 - of the base class
        """Return None: every file is decoded and converted by `decode`."""
        return None

    def decode_numbers(self, rows: Numbers | None) -> Pixels | None:  # noqa: ARG002 - of the base class
        """Return None: numbers in JSON are the tensor of the graph, or decoded by `decode`."""
        return None

    def is_raw(self, content: memoryview) -> bool:
        """Return whether bytes are a tensor of one image, rather than an image file."""
        return len(content) == self._count * DTYPES[self._images.spec.datatype].itemsize

    async def _convert_later(self, decode: Callable[[], Awaitable[Arrays]]) -> Arrays:
        return self._convert(await decode())

    def _convert(self, arrays: Arrays) -> Arrays:
        return tuple(self._images.convert(pixels) for pixels in arrays)

    def _unwrap(self, value: Any) -> Any:  # noqa: ANN401 - JSON is any of its types
        """Return the value under the name of the input, or another key of images."""
        while isinstance(value, Mapping) and len(value) == 1:
            ((key, inner),) = value.items()
            if key not in self.names and key != BASE64:
                break
            value = inner
        return value

    def _require_range(self) -> None:
        """Reject an image if the range of the graph's numbers is not known."""
        if self._images.pixels is None:
            spec = self._images.spec
            raise InvalidRequest(
                f"Model {self._model!r} takes images as {spec.datatype} {list(spec.shape)}, and "
                "its file does not state how pixels are scaled. Import it with `onward import "
                f"{MODEL} --images --scaling=0-1` (or none, -1-1, imagenet), or send the tensor "
                f"itself to POST /v2/models/{self._model}/infer."
            )
