"""One ONNX graph from raw units to the final answer, proved against its maker before it is used."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, Protocol

import numpy as np
import onnx
import torch
from torch import nn

from service.bundle.features import INPUT_NAME
from service.bundle.manifest import Examples, Tensor, Tolerance
from training.data.table import Float32s
from training.errors import ExportError
from training.export.folding import folded
from training.export.trimming import trim
from training.model.estimators import Estimator
from training.model.predictor import Predictor
from training.onnx_files import Array, Graph, strip

_RELATIVE = 1e-4
_ABSOLUTE = 1e-5
_BATCHES = (1, 2, 7)
_OPSET = 18
_LARGEST_BATCH = 16_384
_MOST_RUNS = 20_000
_EXAMPLE_ROWS = 8
_MOST_EXAMPLE_VALUES = 100_000


class Answering(Protocol):
    """Whatever a graph is proved against."""

    @property
    def source(self) -> str:
        """Whose answers these are, for people."""

    def predict(self, rows: Array) -> Float32s:
        """Rows in raw units, or pictures as bytes, to the answers, ``[rows, outputs]``."""


def export(predictor: Predictor | Estimator, output: str, columns: int) -> bytes:
    """The predictor as an ONNX file's bytes: input ``features``, one output, any batch size.

    The same weights give the same bytes on any machine: nothing of where or when is left inside.
    """
    if isinstance(predictor, Estimator):
        return predictor.graph(output)
    return to_graph(folded(predictor), torch.zeros(3, columns), INPUT_NAME, output)


def to_graph(module: nn.Module, probe: torch.Tensor, taken: str, given: str) -> bytes:
    """A module as an ONNX file's bytes, for any batch size.

    Args:
        module: fitted and in its state for answering.
        probe: some input, whose first dimension is the batch.
        taken: what its input is called.
        given: what its output is called.
    """
    with _quiet():
        program = torch.onnx.export(
            module,
            (probe,),
            dynamo=True,
            input_names=[taken],
            output_names=[given],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=_OPSET,
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise ExportError("PyTorch's exporter returned no graph; nothing was published.")
    graph: onnx.ModelProto = program.model_proto
    trim(graph)
    strip(graph)
    onnx.checker.check_model(graph, full_check=True)
    return bytes(graph.SerializeToString(deterministic=True))


def prove(model: bytes, predictor: Answering, rows: Array) -> None:
    """Refuse a graph whose answers differ from the predictor's on these rows, batched in any way.

    Raises:
        ExportError: naming the row and both answers.
    """
    graph = Graph(model)
    expected = predictor.predict(rows)
    for size in (_LARGEST_BATCH, *_BATCHES):
        tested = rows if size == _LARGEST_BATCH else rows[: _MOST_RUNS * size]
        parts = [
            graph.predict(tested[start : start + size]) for start in range(0, len(tested), size)
        ]
        _compare(np.concatenate(parts), expected[: len(tested)], size, predictor.source)


def example_rows(
    predictor: Answering, rows: Array, output: str, taken: str = INPUT_NAME
) -> Examples:
    """The first rows with the predictor's answers, which the service replays before it serves."""
    size = int(np.prod(rows.shape[1:]))
    chosen = rows[: min(_EXAMPLE_ROWS, max(_MOST_EXAMPLE_VALUES // size, 2))]
    return Examples(
        input=_tensor(taken, chosen),
        output=_tensor(output, predictor.predict(chosen)),
        tolerance=Tolerance(
            absolute=min(_absolute(predictor.predict(rows)), 1e-2), relative=_RELATIVE
        ),
    )


def _compare(found: Float32s, expected: Float32s, size: int, source: str) -> None:
    bound = _absolute(expected) + _RELATIVE * np.abs(expected)
    # Written so that a NaN on either side counts as a difference.
    with np.errstate(invalid="ignore"):
        differ = ~(np.abs(found - expected) <= bound).all(axis=1)
    if differ.any():
        row = int(np.flatnonzero(differ)[0])
        raise ExportError(
            f"ONNX Runtime and {source} disagree on {int(differ.sum())} of {len(expected)} rows in "
            f"batches of {size}: row {row + 1} is {found[row].tolist()}, {source} says "
            f"{expected[row].tolist()}. Nothing was published."
        )


def _absolute(answers: Float32s) -> float:
    """What rounding may do to an answer near nought: in proportion to the answers' own size."""
    return _ABSOLUTE * max(1.0, float(np.abs(answers).mean()))


def _tensor(name: str, array: Array) -> Tensor:
    kind: Literal["FP32", "UINT8"] = "UINT8" if array.dtype == np.uint8 else "FP32"
    data = [None if number != number else number for number in array.ravel().tolist()]  # noqa: PLR0124 - NaN alone differs from itself
    return Tensor(name=name, datatype=kind, shape=list(array.shape), data=data)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's own chatter from the terminal; its errors still raise."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
