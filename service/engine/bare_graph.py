"""Opens the graph of a version without a manifest, with the class names of its outputs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from service.bundle.errors import BundleError, InvalidOnnxFile
from service.bundle.graph_outputs import drop_declared_types, expose_tensors
from service.bundle.onnx_file import GraphSummary, OnnxFile
from service.bundle.runtime_messages import is_type_conflict
from service.bundle.store import MODEL, read_onnx
from service.engine.session import Session, Weights, read_weights
from service.engine.tensors import TensorSpec
from service.errors import GraphRejected, LoadFailed

OpenSession = Callable[[OnnxFile, Weights], Session]
_ROWS_AND_CLASSES = 2


@dataclass(frozen=True)
class BareGraph:
    """An open graph, and the class names of each output that has some, by output name."""

    session: Session
    graph: GraphSummary
    labels: Mapping[str, Sequence[str]]


def open_bare_graph(folder: Path, open_session: OpenSession) -> BareGraph:
    """Open the graph in a version's folder. The file on disk remains as it is.

    Raises:
        GraphRejected: the graph is malformed, its weights cannot be read, or ONNX Runtime rejects
            it.
        BundleError: the file is missing, or cannot be read.
    """
    try:
        onnx = read_onnx(folder / MODEL)
    except InvalidOnnxFile as error:
        raise GraphRejected(str(error)) from error
    exposed = expose_tensors(onnx.content)
    onnx = replace(onnx, content=exposed.content)
    try:
        weights = read_weights(folder, onnx.graph)
        session = _open(onnx, weights, open_session)
    except (BundleError, LoadFailed) as error:
        raise GraphRejected(str(error)) from error
    labels = {
        spec.name: exposed.labels[spec.name]
        for spec in session.outputs
        if _fits(spec, exposed.labels.get(spec.name, ()))
    }
    return BareGraph(session, onnx.graph, labels)


def _open(onnx: OnnxFile, weights: Weights, open_session: OpenSession) -> Session:
    """Open a graph as it is, or without the types that it declares if they are wrong."""
    try:
        return open_session(onnx, weights)
    except LoadFailed as error:
        if not is_type_conflict(str(error.__cause__)):
            raise
    return open_session(replace(onnx, content=drop_declared_types(onnx.content)), weights)


def _fits(spec: TensorSpec, classes: Sequence[str]) -> bool:
    """Return whether an output has a column for each class, as far as the graph declares it."""
    if not classes or spec.datatype == "BYTES":
        return False
    is_matrix = len(spec.shape) == _ROWS_AND_CLASSES and spec.shape[1] in {-1, len(classes)}
    return is_matrix or not spec.shape
