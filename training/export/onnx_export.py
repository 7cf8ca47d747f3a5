"""Export to one ONNX graph, verified against the trained model before it is published."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
import onnx
import torch
from onnx import compose
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from torch import nn

from service.bundle.features import INPUT_NAME
from service.bundle.manifest import Examples, Tensor, Tolerance
from training.data.table import Column, Float32s, Inputs, to_graph_inputs
from training.errors import ExportError
from training.export.folding import fold_head, fold_scaler
from training.export.foreign_graph import ForeignGraph
from training.export.merging import merge
from training.export.output_choice import find_output
from training.export.splitting import ModuleNames, split
from training.export.text_input import add_texts
from training.export.trees import append_exponential, compare_with_edges, join_members
from training.export.trimming import trim
from training.export.wrapping import Datatype, wrap
from training.model.blend import Blend
from training.model.boosting import BoostedTrees
from training.model.estimators import Estimator
from training.model.text import TableModel, TextModel
from training.onnx_files import Array, Graph, strip

_RELATIVE = 1e-4
_ABSOLUTE = 1e-5
_BATCHES = (1, 2, 7)
_OPSET = 18
_OPSETS = {"": _OPSET, "ai.onnx.ml": 3}
_COLUMNS = "columns"
_ENCODED_COLUMNS = "encoded_columns"
_LARGEST_BATCH = 16_384
_MAX_RUNS = 20_000
_EXAMPLE_ROWS = 8
_MAX_EXAMPLE_VALUES = 100_000


class PredictingModel(Protocol):
    """A model that predicts rows as the graph of a bundle gets them."""

    def predict(self, rows: Array) -> Float32s:
        """Map rows in raw units, or images as uint8, to predictions ``[rows, outputs]``."""


class ReferenceModel(PredictingModel, Protocol):
    """A model that a graph is verified against."""

    @property
    def source(self) -> str:
        """The name of the model or its library, for messages."""


@dataclass(frozen=True)
class _Part:
    """A fitted module to export, with an example input whose first dimension is the batch."""

    module: nn.Module
    probe: torch.Tensor
    input_name: str
    output_name: str


def export(predictor: TableModel, output: str, columns: int) -> bytes:
    """Export the predictor as ONNX: input ``features`` or ``text`` or both, one output.

    The graph takes any batch size. Its bytes only depend on the weights; paths and times are
    removed.
    """
    return export_all([(predictor, columns)], output)[0]


def export_all(predictors: Sequence[tuple[TableModel, int]], output: str) -> list[bytes]:
    """Export several predictors, each with the number of its columns, as `export` does.

    PyTorch's exporter needs more than a second for each call, so there is one for all networks.
    """
    parts = [part for one, columns in predictors for part in _list_parts(one, columns, output)]
    graphs = iter(_export_parts(parts) if parts else [])
    return [_assemble(predictor, graphs, output) for predictor, _ in predictors]


def _list_parts(predictor: TableModel, columns: int, output: str) -> Iterator[_Part]:
    """Yield the modules of a predictor that PyTorch exports, in the order of `_assemble`."""
    if isinstance(predictor, TextModel):
        yield from _list_parts(predictor.model, predictor.width, output)
    elif isinstance(predictor, Blend):
        for member in predictor.members:
            yield from _list_parts(member, columns, output)
    elif not isinstance(predictor, Estimator):
        probe = torch.zeros(3, columns, dtype=predictor.preprocessing.input_dtype)
        yield _Part(fold_head(fold_scaler(predictor)), probe, INPUT_NAME, output)
    elif isinstance(predictor.fitted, BoostedTrees) and predictor.fitted.columns.encodes:
        rows = torch.from_numpy(_create_probe(predictor))
        yield _Part(predictor.fitted.columns, rows, "raw_columns", _ENCODED_COLUMNS)


def _assemble(predictor: TableModel, parts: Iterator[onnx.ModelProto], output: str) -> bytes:
    """Return the graph of a predictor from those of its modules."""
    if isinstance(predictor, TextModel):
        return add_texts(_assemble(predictor.model, parts, output), predictor)
    if isinstance(predictor, Blend):
        graphs = [_assemble(member, parts, output) for member in predictor.members]
        return merge(graphs, predictor.weights, output)
    if isinstance(predictor, Estimator):
        return _convert_estimator(predictor, parts, output)
    return _serialize(next(parts))


def _create_probe(estimator: Estimator) -> Inputs:
    """Return example rows, of 64 bits if there are dates."""
    columns = estimator.recipe.features
    has_dates = any(feature.type == "datetime" for feature in columns)
    shape = (3, len(columns))
    return np.zeros(shape, np.float64) if has_dates else np.zeros(shape, np.float32)


def _convert_estimator(
    estimator: Estimator, parts: Iterator[onnx.ModelProto], output: str
) -> bytes:
    """Convert a scikit-learn estimator, and wrap its graph like that of an imported model."""
    columns, labels = estimator.recipe.features, estimator.recipe.target.labels
    probe = _create_probe(estimator)
    datatype: Datatype = "FP64" if probe.dtype == np.float64 else "FP32"
    fitted = estimator.fitted
    is_boosted = isinstance(fitted, BoostedTrees)
    model = _convert_trees(fitted, parts) if is_boosted else _convert(fitted, len(columns))
    if estimator.recipe.target.log:
        append_exponential(model)
    foreign = ForeignGraph(model)
    mapping = find_output(foreign.run(probe, columns), foreign.known_labels, labels)
    # The service chooses the label by the recipe's threshold, not the graph.
    mapping = replace(mapping, label_output=None)
    return wrap(foreign, columns, mapping, output, datatype)


def _convert(fitted: Any, columns: int) -> onnx.ModelProto:  # noqa: ANN401 - scikit-learn ships no types
    """Convert a scikit-learn estimator to a graph whose input ``columns`` has 32 bits."""
    kind = FloatTensorType([None, columns])
    with _silence_exporter():  # it writes booleans as integers, which protobuf deprecates
        model: onnx.ModelProto = to_onnx(
            fitted, initial_types=[(_COLUMNS, kind)], target_opset=_OPSETS
        )
    return model


def _convert_trees(fitted: BoostedTrees, parts: Iterator[onnx.ModelProto]) -> onnx.ModelProto:
    """Convert trees, and connect them to the graph that encodes their columns, the next part."""
    models = [_convert(member, len(fitted.edges)) for member in fitted.members]
    join_members(models)
    trees = models[0]
    compare_with_edges(trees, fitted.edges)
    if not fitted.columns.encodes:
        return trees
    before = next(parts)
    version = max(before.ir_version, trees.ir_version)
    before.ir_version = trees.ir_version = version
    return compose.merge_models(
        before, trees, io_map=[(_ENCODED_COLUMNS, _COLUMNS)], prefix1="encoding/"
    )


def export_module(
    module: nn.Module, probe: torch.Tensor, input_name: str, output_name: str
) -> bytes:
    """Export a fitted module in evaluation mode as ONNX, for any batch size.

    The first dimension of ``probe``, an example input, is the batch.
    """
    return _serialize(*_export_parts([_Part(module, probe, input_name, output_name)]))


class _Parts(nn.Module):
    """Modules side by side, each with its own input and output."""

    def __init__(self, parts: Sequence[_Part]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(part.module for part in parts)

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Map the input of each module to its output."""
        return tuple(part(x) for part, x in zip(self.parts, inputs, strict=True))


def _export_parts(parts: Sequence[_Part]) -> list[onnx.ModelProto]:
    """Export modules in one call, and return a graph of each."""
    names = [
        ModuleNames(f"input_{k}", f"output_{k}", part.input_name, part.output_name, f"parts.{k}.")
        for k, part in enumerate(parts)
    ]
    with _silence_exporter():
        program = torch.onnx.export(
            _Parts(parts).eval(),
            tuple(part.probe for part in parts),
            dynamo=True,
            input_names=[one.input_name for one in names],
            output_names=[one.output_name for one in names],
            dynamic_shapes=(tuple({0: torch.export.Dim("batch")} for _ in parts),),
            opset_version=_OPSET,
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise ExportError("PyTorch's exporter returned no graph; nothing was published.")
    graphs = split(program.model_proto, names)
    for graph in graphs:
        trim(graph)
        strip(graph)
    return graphs


def _serialize(graph: onnx.ModelProto) -> bytes:
    onnx.checker.check_model(graph, full_check=True)
    return bytes(graph.SerializeToString(deterministic=True))


def verify(
    model: bytes, predictor: ReferenceModel, rows: Array, columns: Sequence[Column] = ()
) -> None:
    """Reject a graph whose predictions differ on these rows, at several batch sizes.

    ``columns`` are those of the rows, if they are a table. Raise `ExportError` with the row and
    both predictions.
    """
    graph = Graph(model)
    expected = predictor.predict(rows)
    for size in (_LARGEST_BATCH, *_BATCHES):
        tested = rows if size == _LARGEST_BATCH else rows[: _MAX_RUNS * size]
        inputs = to_graph_inputs(columns, tested) if columns else tested
        found = graph.predict_in_batches(inputs, size)
        _compare(found, expected[: len(tested)], size, predictor.source)


def create_examples(
    predictor: PredictingModel,
    rows: Array,
    output: str,
    columns: Sequence[Column] = (),
    input_name: str = INPUT_NAME,
) -> Examples:
    """Return the first rows with their predictions, which the self-test of the service replays.

    ``columns`` are those of the rows, if they are a table.
    """
    size = int(np.prod(rows.shape[1:]))
    chosen = rows[: min(_EXAMPLE_ROWS, max(_MAX_EXAMPLE_VALUES // size, 2))]
    inputs = to_graph_inputs(columns, chosen) if columns else {input_name: chosen}
    first, *others = [_create_tensor(name, array) for name, array in inputs.items()]
    return Examples(
        input=first,
        text=others[0] if others else None,
        output=_create_tensor(output, predictor.predict(chosen)),
        tolerance=Tolerance(
            absolute=min(_compute_absolute_tolerance(predictor.predict(rows)), 1e-2),
            relative=_RELATIVE,
        ),
    )


def _compare(found: Float32s, expected: Float32s, size: int, source: str) -> None:
    bound = _compute_absolute_tolerance(expected) + _RELATIVE * np.abs(expected)
    # NaN on either side counts as a difference.
    with np.errstate(invalid="ignore"):
        differ = ~(np.abs(found - expected) <= bound).all(axis=1)
    if differ.any():
        row = int(np.flatnonzero(differ)[0])
        raise ExportError(
            f"ONNX Runtime and {source} disagree on {int(differ.sum())} of {len(expected)} rows in "
            f"batches of {size}: row {row + 1} is {found[row].tolist()}, {source} returned "
            f"{expected[row].tolist()}. Nothing was published."
        )


def _compute_absolute_tolerance(predictions: Float32s) -> float:
    """Return the absolute tolerance, in proportion to the size of the predictions."""
    return _ABSOLUTE * max(1.0, float(np.abs(predictions).mean()))


def _create_tensor(name: str, array: Array) -> Tensor:
    if array.dtype == np.object_:
        texts = array.ravel().tolist()
        return Tensor(name=name, datatype="BYTES", shape=list(array.shape), data=texts)
    kind: Literal["FP32", "FP64", "UINT8"] = "UINT8" if array.dtype == np.uint8 else "FP32"
    if array.dtype == np.float64:
        kind = "FP64"
    data = [None if number != number else number for number in array.ravel().tolist()]  # noqa: PLR0124 - NaN alone differs from itself
    return Tensor(name=name, datatype=kind, shape=list(array.shape), data=data)


@contextmanager
def _silence_exporter() -> Iterator[None]:
    """Silence warnings of the exporter; its errors still raise."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
