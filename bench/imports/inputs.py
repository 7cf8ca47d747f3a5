"""Random inputs of graphs: one matrix, or a column each, of any type, with gaps and words."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]

ROWS = 60
"""Rows of the table that the import is verified with."""
FRESH_ROWS = 40
"""Further rows, which only the served bundle gets."""

_WORDS = (
    ["red", "green", "blue"],
    ["north", " east", "west "],
    ["None", "some", "NA"],
    ["Größe", "größe", "GRÖSSE"],
    ["1", "2", "10"],
    ["a,b", 'say "x"', "c;d"],
)
NUMBERS: dict[int, Any] = {
    TensorProto.FLOAT: np.float32,
    TensorProto.DOUBLE: np.float64,
    TensorProto.INT64: np.int64,
    TensorProto.INT32: np.int32,
    TensorProto.BOOL: np.bool_,
}


class InputBuilder:
    """Adds inputs to a graph, and operators that encode them as one matrix of floats."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.columns: dict[str, Array] = {}
        self.shape: list[str] = []
        self.arguments: list[str] = []
        self.count = 0

    def _chance(self, share: float) -> bool:
        return bool(self.random.random() < share)

    def _one_of(self, choices: Sequence[Any]) -> Any:  # noqa: ANN401 - of the choices' type
        return choices[int(self.random.integers(len(choices)))]

    def _node(self, operator: str, inputs: Sequence[str], outputs: int = 1, **options: Any) -> str:  # noqa: ANN401 - attributes
        """Add an operator, and return the name of its first output."""
        self.count += 1
        names = [f"t{self.count}_{k}" for k in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, **options))
        return names[0]

    def _constant(self, values: Array) -> str:
        self.count += 1
        name = f"w{self.count}"
        if values.dtype == object or values.dtype.kind in "US":
            tensor = helper.make_tensor(
                name,
                TensorProto.STRING,
                values.shape,
                [str(one).encode() for one in values.ravel()],  # type: ignore[misc] # of bytes
            )
        else:
            tensor = numpy_helper.from_array(values, name)
        self.weights.append(tensor)
        return name

    def _output(self, tensor: str, name: str, kind: int, shape: Sequence[Any]) -> None:
        self.nodes.append(helper.make_node("Identity", [tensor], [name]))
        self.outputs.append(helper.make_tensor_value_info(name, kind, shape))

    def _draw(self, kind: int, *, gaps: bool) -> Array:
        """Draw a column of numbers; half of them are on a grid, which makes ties."""
        rows = ROWS + FRESH_ROWS
        if kind == TensorProto.BOOL:
            return self.random.integers(0, 2, rows).astype(np.bool_)
        if kind in (TensorProto.INT32, TensorProto.INT64):
            large = kind == TensorProto.INT64 and self._chance(0.2)
            ends = (2**40, 2**40 + 60) if large else (-9, 60)
            if large:
                self.shape.append("large whole numbers")
            return self.random.integers(*ends, rows).astype(NUMBERS[kind])
        values = self.random.normal(0, 2, rows)
        values = np.where(self.random.random(rows) < 0.5, np.round(values * 2) / 2, values)  # noqa: PLR2004 - half
        values = np.asarray(values.round(6).astype(NUMBERS[kind]))
        if gaps:
            values[self.random.random(rows) < 0.15] = np.nan  # noqa: PLR2004 - some gaps
            values[:2] = 0.5, np.nan
        return values

    def add_matrix(self) -> tuple[str, int]:
        """Add one input of some columns; return the matrix and its width."""
        width = int(self.random.integers(1, 6))
        kind = self._one_of([TensorProto.FLOAT] * 3 + [TensorProto.DOUBLE, TensorProto.INT64])
        gaps = kind != TensorProto.INT64 and self._chance(0.25)
        name = self._one_of(["X", "input", "float_input", "features"])
        self.shape.append(f"matrix of {TensorProto.DataType.Name(kind).lower()}")
        self.inputs.append(helper.make_tensor_value_info(name, kind, ["N", width]))
        for k in range(width):
            self.columns[f"c{k}"] = self._draw(kind, gaps=gaps)
        if gaps:
            self.arguments += ["--optional", ",".join(self.columns)]
        tensor = name if kind == TensorProto.FLOAT else self._node("Cast", [name], to=1)
        return (self._fill_gaps(tensor, width) if gaps else tensor), width

    def add_columns(self) -> tuple[str, int]:
        """Add an input for each column; return the encoded matrix and its width."""
        parts, width, optional = [], 0, []
        kinds = [*NUMBERS, TensorProto.STRING, TensorProto.STRING]
        flat = self._chance(0.15)
        for k in range(int(self.random.integers(1, 5))):
            name, kind = f"c{k}", self._one_of(kinds)
            self.inputs.append(
                helper.make_tensor_value_info(name, kind, ["N"] if flat else ["N", 1])
            )
            tensor = (
                self._node("Unsqueeze", [name, self._constant(np.array([1]))]) if flat else name
            )
            if kind == TensorProto.STRING:
                encoded, wide = self._add_words(name, tensor)
            else:
                gaps = kind in (TensorProto.FLOAT, TensorProto.DOUBLE) and self._chance(0.25)
                self.columns[name] = self._draw(kind, gaps=gaps)
                encoded = self._node("Cast", [tensor], to=TensorProto.FLOAT)
                wide = 1
                if gaps:
                    optional.append(name)
                    encoded = self._fill_gaps(encoded, 1)
            parts.append(encoded)
            width += wide
        if optional:
            self.arguments += ["--optional", ",".join(optional)]
        kinds_used = {TensorProto.DataType.Name(i.type.tensor_type.elem_type) for i in self.inputs}
        self.shape.append(f"columns of {', '.join(sorted(kinds_used)).lower()}" + " flat" * flat)
        return self._node("Concat", parts, axis=1), width

    def _add_words(self, name: str, tensor: str) -> tuple[str, int]:
        """Add a column of words, which the graph encodes."""
        words = list(self._one_of(_WORDS))
        self.random.shuffle(words)
        # The table may lack some of the words.
        shown = words[:-1] if self._chance(0.3) else words
        drawn = [self._one_of(shown) for _ in range(ROWS)]
        drawn += [self._one_of(words) for _ in range(FRESH_ROWS)]
        self.columns[name] = np.array(drawn, dtype=object)
        if self._chance(0.5):
            encoder: dict[str, Any] = {"cats_strings": words, "zeros": 1, "domain": "ai.onnx.ml"}
            encoded = self._node("OneHotEncoder", [tensor], **encoder)
            flat = self._node("Reshape", [encoded, self._constant(np.array([-1, len(words)]))])
            return flat, len(words)
        values = [float(k) for k in range(len(words))]
        return self._node(
            "LabelEncoder",
            [tensor],
            keys_strings=words,
            values_floats=values,
            default_float=-1.0,
            domain="ai.onnx.ml",
        ), 1

    def _fill_gaps(self, tensor: str, width: int) -> str:
        self.shape.append("gaps")
        return self._node(
            "Imputer",
            [tensor],
            imputed_value_floats=[0.25] * width,
            replaced_value_float=float("nan"),
            domain="ai.onnx.ml",
        )
