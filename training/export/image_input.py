"""The image input of an imported graph: its axes, its size, and the scaling of its pixels."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from service.bundle.manifest import MAX_SIDE
from service.bundle.pixel_range import find_pixel_range_of
from training.errors import ImportRejected
from training.onnx_files import Array

Layout = Literal["nchw", "nhwc"]
"""Where an image's channels are: before its rows and columns, or after them."""
Scaling = Literal["none", "0-1", "-1-1", "imagenet"]
Channels = Literal[1, 3]

SCALINGS: Mapping[Scaling, str] = {
    "none": "0 to 255",
    "0-1": "0 to 1",
    "-1-1": "-1 to 1",
    "imagenet": "0 to 1, normalized with the mean and deviation of ImageNet",
}
"""The pixels that a graph takes with each scaling."""
IMAGENET_MEAN = 0.485, 0.456, 0.406
IMAGENET_DEVIATION = 0.229, 0.224, 0.225
WHITE = 255.0

# Rows, columns and channels, and the batch.
_RANK = 4
_FLOATS: Mapping[int, type[np.generic]] = {
    TensorProto.FLOAT: np.float32,
    TensorProto.DOUBLE: np.float64,
    TensorProto.FLOAT16: np.float16,
}
_INTEGERS: Mapping[int, type[np.generic]] = {
    TensorProto.UINT8: np.uint8,
    TensorProto.UINT16: np.uint16,
    TensorProto.INT16: np.int16,
    TensorProto.INT32: np.int32,
    TensorProto.INT64: np.int64,
}
_DTYPES = {**_FLOATS, **_INTEGERS}
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Normalization:
    """How pixels from 0 to 255 are scaled: ``(pixel / divisor - mean) / deviation``.

    ``mean`` and ``deviation`` have a value for each channel, or one for all; None is no such step.
    """

    divisor: float | None = None
    mean: tuple[float, ...] | None = None
    deviation: tuple[float, ...] | None = None

    def describe(self) -> str:
        """Describe the steps in a sentence; empty if there are none."""
        steps = [] if self.divisor is None else [f"divided by {self.divisor:g}"]
        if self.mean is not None:
            steps.append(f"reduced by {', '.join(f'{value:g}' for value in self.mean)}")
        if self.deviation is not None:
            steps.append(f"divided by {', '.join(f'{value:g}' for value in self.deviation)}")
        return f"Its pixels are {', then '.join(steps)}." if steps else ""


@dataclass(frozen=True)
class ImageTensor:
    """The input of a graph that takes images, and what it expects in it."""

    name: str
    element: int
    """A data type of `onnx.TensorProto`."""
    rank: int
    layout: Layout
    height: int
    width: int
    channels: Channels
    normalization: Normalization
    batch: int | None
    """The only number of images that the file allows at a time; None if it allows any."""
    remark: str = ""
    """A note on pixels that the graph seems not to expect."""

    @property
    def dtype(self) -> type[np.generic]:
        """The type of the input as numpy's."""
        return _DTYPES[self.element]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image in the graph's input."""
        pixels = self.height * self.width * self.channels
        if self.rank < _RANK:
            return (pixels,) if self.rank == 2 else (self.height, self.width)  # noqa: PLR2004 - flat rows
        if self.layout == "nchw":
            return self.channels, self.height, self.width
        return self.height, self.width, self.channels

    def normalize(self, pixels: Bytes) -> Array:
        """Map pixels ``[images, height, width, channels]`` to the input of the graph."""
        rule = self.normalization
        # Half precision is too coarse for the steps.
        working = np.float32 if self.element == TensorProto.FLOAT16 else self.dtype
        values: Array = pixels.astype(working)
        if rule.divisor is not None:
            values = values / np.array(rule.divisor, working)
        if rule.mean is not None:
            values = values - np.array(rule.mean, working)
        if rule.deviation is not None:
            values = values / np.array(rule.deviation, working)
        if self.layout == "nchw":
            values = values.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(values.reshape(len(pixels), *self.shape), self.dtype)


def read_image_tensor(
    model: onnx.ModelProto,
    *,
    layout: Layout | None,
    size: tuple[int, int] | None,
    channels: Channels | None,
    normalization: Normalization | None,
) -> ImageTensor:
    """Find the image input of a graph; what is None is read from the graph.

    Args:
        model: the graph.
        layout: of the axes.
        size: height and width.
        channels: 1 for gray, 3 for red, green and blue.
        normalization: how the graph expects its pixels.

    Raises:
        ImportRejected: the graph takes no images, or something must be stated; the message names
            the option.
    """
    value = _find_only_input(model)
    tensor = value.type.tensor_type
    batch, *axes = [dim.dim_value or None for dim in tensor.shape.dim] or [None]
    rank = len(axes) + 1
    if rank == _RANK:
        layout, sides = _split_axes(value.name, axes, layout, channels)
        found_channels, found_size = sides[0], (sides[1], sides[2])
    elif rank == _RANK - 1 and (batch is None or batch == 1):
        layout, found_channels, found_size = layout or "nhwc", 1, (axes[0], axes[1])
    elif rank == 2:  # noqa: PLR2004 - flat rows
        found_channels, found_size = _split_pixels(value.name, axes[0], size, channels)
        layout = _require_flat_layout(value.name, found_channels, layout)
    else:
        raise ImportRejected(
            f"its input {value.name!r} is {_format_shape(batch, axes)}; images are [batch, "
            "channels, height, width], [batch, height, width, channels], or flat rows of pixels."
        )
    height, width = _choose_size(value.name, found_size, size)
    chosen_channels = _choose_channels(value.name, found_channels, channels)
    rule, remark = _choose_normalization(model, value, normalization)
    _require_values_for_channels(rule, chosen_channels)
    return ImageTensor(
        value.name,
        tensor.elem_type,
        rank,
        layout,
        height,
        width,
        chosen_channels,
        rule,
        batch,
        remark,
    )


def _find_only_input(model: onnx.ModelProto) -> onnx.ValueInfoProto:
    initializers = {tensor.name for tensor in model.graph.initializer}
    inputs: list[onnx.ValueInfoProto] = [
        value for value in model.graph.input if value.name not in initializers
    ]
    if len(inputs) != 1:
        names = ", ".join(repr(value.name) for value in inputs) or "none"
        raise ImportRejected(
            f"a model of images has one input, and it has {len(inputs)}: {names}. If these are "
            "columns of a table, leave out --images."
        )
    kind = inputs[0].type.tensor_type.elem_type
    if kind not in _DTYPES:
        raise ImportRejected(
            f"its input {inputs[0].name!r} is of type {_name_type(kind)}; pixels are uint8, or "
            "larger integers, or floating-point numbers."
        )
    return inputs[0]


def _split_axes(
    name: str, axes: Sequence[int | None], layout: Layout | None, channels: Channels | None
) -> tuple[Layout, tuple[int | None, int | None, int | None]]:
    """Return the layout, and the channels, height and width that the graph fixes."""
    first, middle, last = axes
    accepted = (channels,) if channels else get_args(Channels)
    if layout is None:
        fits: list[Layout] = []
        if first in accepted:
            fits.append("nchw")
        if last in accepted:
            fits.append("nhwc")
        if len(fits) != 1:
            reason = "either its first or its last axis" if fits else "none of its axes"
            raise ImportRejected(
                f"its input {name!r} is {_format_shape(None, axes)}, and {reason} can be the "
                "channels of an image, which are 1 or 3. State the order with --layout nchw or "
                "--layout nhwc."
            )
        layout = fits[0]
    if layout == "nchw":
        return layout, (first, middle, last)
    return layout, (last, first, middle)


def _split_pixels(
    name: str,
    count: int | None,
    size: tuple[int, int] | None,
    channels: Channels | None,
) -> tuple[int, tuple[int, int]]:
    """Return the channels and the size of images that are flat rows."""
    if count is None and size is None:
        raise ImportRejected(
            f"its input {name!r} is flat rows of any length; state the size of the images with "
            "--size HEIGHTxWIDTH."
        )
    if size is not None:
        pixels = math.prod(size)
        found = channels or (3 if count == 3 * pixels else 1)
        if count is not None and count != found * pixels:
            raise ImportRejected(
                f"its input {name!r} has {count} columns, and {size[0]}x{size[1]} images with "
                f"{found} channel{'s' * (found > 1)} have {found * pixels}. Correct --size or "
                "--channels."
            )
        return found, size
    for found in (channels,) if channels else (1, 3):
        side = math.isqrt((count or 0) // found)
        if side * side * found == count:
            return found, (side, side)
    raise ImportRejected(
        f"its input {name!r} has {count} columns, which are no square image; state the size with "
        "--size HEIGHTxWIDTH."
    )


def _require_flat_layout(name: str, channels: int, layout: Layout | None) -> Layout:
    if layout is None and channels > 1:
        raise ImportRejected(
            f"its input {name!r} is flat rows of colored pixels; state whether the colors of a "
            "pixel follow each other (--layout nhwc) or each color is an image of its own "
            "(--layout nchw)."
        )
    return layout or "nhwc"


def _choose_size(
    name: str, found: tuple[int | None, int | None], size: tuple[int, int] | None
) -> tuple[int, int]:
    if size is None:
        height, width = found
        if height is None or width is None:
            raise ImportRejected(
                f"its input {name!r} takes images of any size; state the one that it was trained "
                "with, as --size 224x224."
            )
        size = height, width
    for side, fixed in zip(size, found, strict=True):
        if fixed not in (None, side):
            raise ImportRejected(
                f"its input {name!r} takes images of {found[0] or 'any'}x{found[1] or 'any'} "
                f"pixels, and --size is {size[0]}x{size[1]}. Leave --size out."
            )
    if not all(1 <= side <= MAX_SIDE for side in size):
        raise ImportRejected(
            f"the size of its images is {size[0]}x{size[1]} pixels; the sides of a bundle's images "
            f"have 1 to {MAX_SIDE}."
        )
    return size


def _choose_channels(name: str, found: int | None, channels: Channels | None) -> Channels:
    chosen = found if found is not None else channels
    if chosen is None:
        raise ImportRejected(
            f"its input {name!r} takes any number of channels; state it with --channels 1 or "
            "--channels 3."
        )
    if chosen not in get_args(Channels) or channels not in (None, chosen):
        wanted = "images have 1 or 3" if channels in (None, chosen) else f"--channels is {channels}"
        raise ImportRejected(
            f"its input {name!r} has {chosen} channels, and {wanted}. If another axis is that of "
            "the channels, state the order with --layout nchw or --layout nhwc."
        )
    return cast("Channels", chosen)


def _require_values_for_channels(rule: Normalization, channels: int) -> None:
    for values in (rule.mean, rule.deviation):
        if values is not None and len(values) not in (1, channels):
            raise ImportRejected(
                f"it takes images with {channels} channel{'s' * (channels > 1)}, and they are to "
                f"be scaled with {len(values)} values: {', '.join(map(str, values))}. State one "
                "for each channel with --mean and --std."
            )


def _choose_normalization(
    model: onnx.ModelProto, value: onnx.ValueInfoProto, given: Normalization | None
) -> tuple[Normalization, str]:
    """Return the scaling of pixels, and a remark if the graph shows another one."""
    kind = value.type.tensor_type.elem_type
    if kind in _INTEGERS:
        if given not in (None, Normalization()):
            raise ImportRejected(
                f"its input {value.name!r} is of type {_name_type(kind)}, which takes pixels from "
                "0 to 255 as they are; leave --scaling, --mean and --std out."
            )
        return Normalization(), ""
    found = find_pixel_range_of(model.SerializeToString(), value.name)
    shown = None if found is None else choose_scaling("none" if found == "0-255" else found)
    if given is not None:
        remark = ""
        if found is not None and given != shown:
            remark = (
                f"The graph itself seems to normalize pixels from {found.replace('-', ' to ')}, "
                "and it gets others: check --scaling, --mean and --std."
            )
        return given, remark
    if shown is None:
        raise ImportRejected(
            f"its input {value.name!r} is of type {_name_type(kind)}, and the file does not state "
            "how pixels are scaled. State what it was trained with: "
            + ", ".join(f"--scaling={name} ({text})" for name, text in SCALINGS.items())
            + ", or --mean and --std of pixels from 0 to 1."
        )
    return shown, ""


def choose_scaling(scaling: Scaling) -> Normalization:
    """Return the steps of a scaling."""
    return {
        "none": Normalization(),
        "0-1": Normalization(WHITE),
        # As Keras computes it.
        "-1-1": Normalization(WHITE / 2, mean=(1.0,)),
        "imagenet": Normalization(WHITE, IMAGENET_MEAN, IMAGENET_DEVIATION),
    }[scaling]


def _name_type(kind: int) -> str:
    return str(TensorProto.DataType.Name(kind)).lower()


def _format_shape(batch: int | None, axes: Sequence[int | None]) -> str:
    return f"[{', '.join(str(axis or '?') for axis in (batch, *axes))}]"
