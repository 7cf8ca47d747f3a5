"""Small image models whose outputs are their input pixels."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper, numpy_helper

from service.bundle.manifest import (
    ClassesOutput,
    Examples,
    ImageInput,
    Manifest,
    Tensor,
    Tolerance,
    input_shape,
)
from tests.images import Pixels
from tests.models import assembled, publish


def publish_mirror(models: Path, rule: ImageInput, name: str = "mirror") -> Path:
    """Publish a model whose probabilities are its pixels divided by 255."""
    count = int(np.prod(input_shape(rule)))
    model_manifest = Manifest(
        format_version=1,
        name=name,
        title=name.capitalize(),
        description=f"The {name} of the tests.",
        task="multiclass",
        input=rule,
        output=ClassesOutput(
            kind="classes", name="number", labels=[str(pixel) for pixel in range(count)]
        ),
        files={},
    )
    pixels = np.arange(count) % 256
    self_test = Examples(
        input=Tensor(
            name="image",
            datatype="UINT8",
            shape=[1, *input_shape(rule)],
            data=pixels.astype(float).tolist(),
        ),
        output=Tensor(name="probabilities", shape=[1, count], data=(pixels / 255).tolist()),
        tolerance=Tolerance(absolute=1e-6, relative=1e-6),
    )
    return publish(models, model_manifest, _mirror(rule, count), self_test)


def seen_by(response: dict[str, Any], rule: ImageInput) -> Pixels:
    """The pixels in a response of the native protocol."""
    return pixels_of(list(response["probabilities"].values()), rule)


def pixels_of(shares: npt.ArrayLike, rule: ImageInput) -> Pixels:
    """The pixels of a model's probabilities."""
    pixels: Pixels = np.rint(np.array(shares) * 255).astype(np.uint8)
    return pixels.reshape(input_shape(rule))


def _mirror(rule: ImageInput, count: int) -> bytes:
    constants = [
        numpy_helper.from_array(np.array([-1, count], np.int64), "flat"),
        numpy_helper.from_array(np.array(255, np.float32), "white"),
    ]
    nodes = [
        helper.make_node("Cast", ["image"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["numbers", "flat"], ["row"]),
        helper.make_node("Div", ["row", "white"], ["probabilities"]),
    ]
    shape: list[int | str | None] = ["batch", *input_shape(rule)]
    inputs = [helper.make_tensor_value_info("image", TensorProto.UINT8, shape)]
    outputs = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", count])]
    return assembled(nodes, inputs, outputs, constants)
