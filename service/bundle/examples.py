"""The bundle's proof: some inputs with the outputs that the trained module gave."""

from math import prod
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from service.bundle.features import Finite, Part
from service.bundle.inputs import input_datatype, input_name, input_shape
from service.bundle.manifest import Manifest
from service.bundle.outputs import output_name, output_width

_BYTES = set(map(float, range(256)))


class Tensor(Part):
    """A named array; ``data`` is flat, row by row, and null stands for NaN."""

    name: Annotated[str, Field(min_length=1)]
    datatype: Literal["FP32", "UINT8"] = "FP32"
    shape: list[Annotated[int, Field(ge=0)]]
    data: list[int | Finite | None]

    @model_validator(mode="after")
    def _sizes_agree(self) -> Self:
        if prod(self.shape) != len(self.data):
            msg = f"{self.name}: shape {self.shape} holds {prod(self.shape)} values, data has "
            raise ValueError(msg + str(len(self.data)))
        if self.datatype == "UINT8" and not set(self.data) <= _BYTES:
            msg = f"{self.name}: UINT8 holds whole numbers from 0 to 255"
            raise ValueError(msg)
        return self


class Tolerance(Part):
    """How far a device may stray: ``|got - expected| <= absolute + relative * |expected|``."""

    absolute: Annotated[Finite, Field(ge=0, le=1e-2)]
    relative: Annotated[Finite, Field(ge=0, le=1e-2)]


class Examples(Part):
    """The content of ``examples.json``."""

    input: Tensor
    output: Tensor
    tolerance: Tolerance

    def mismatch(self, manifest: Manifest) -> str | None:
        """What does not fit the manifest, or None."""
        rows = self.input.shape[0] if self.input.shape else 0
        expected = [
            (
                "input",
                self.input,
                input_name(manifest.input),
                [rows, *input_shape(manifest.input)],
            ),
            (
                "output",
                self.output,
                output_name(manifest.output),
                [rows, output_width(manifest.output)],
            ),
        ]
        if rows == 0:
            return "there is no example row"
        if self.input.datatype != input_datatype(manifest.input):
            return f"input is {self.input.datatype}, not {input_datatype(manifest.input)}"
        for role, tensor, name, shape in expected:
            if tensor.name != name or tensor.shape != shape:
                return (
                    f"{role} is {tensor.name!r} {tensor.shape}, the manifest says {name!r} {shape}"
                )
        return None
