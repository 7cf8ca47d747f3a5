"""What candidates cost when they are served."""

import time
from collections.abc import Mapping, Sequence

from service.bundle import provenance
from service.bundle.features import INPUT_NAME
from training.candidates import Candidate
from training.model.text import TableModel
from training.onnx_files import Array, Graph

_RUNS = 200
_REPEATS = 5


def list_measurable(candidates: Sequence[Candidate]) -> list[tuple[TableModel, int]]:
    """Return the models of the candidates after the first, with the number of their columns."""
    return [
        (one.predictor, one.row.shape[1])
        for one in candidates[1:]
        if one.predictor is not None and one.row is not None
    ]


def describe_candidates(
    candidates: Sequence[Candidate],
    graph: bytes,
    inputs: Mapping[str, Array],
    others: Sequence[bytes],
) -> list[provenance.Candidate]:
    """Return the entries of the manifest, with the size of each graph and the time of a row.

    Args:
        candidates: the first is published; others have the graph of their last fold.
        graph: that is published.
        inputs: of the graph by name, one row.
        others: the graphs of the models of `list_measurable`.
    """
    graphs = iter(others)
    described = []
    for k, candidate in enumerate(candidates):
        found: tuple[int | None, float | None] = None, None
        if k == 0:
            found = len(graph), _measure_row(graph, inputs)
        elif candidate.predictor is not None and candidate.row is not None:
            other = next(graphs)
            found = len(other), _measure_row(other, {INPUT_NAME: candidate.row})
        described.append(candidate.describe(*found))
    return described


def _measure_row(graph: bytes, inputs: Mapping[str, Array]) -> float:
    """Return the microseconds of one row: the fastest mean of several series."""
    session = Graph(graph)
    means = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        for _ in range(_RUNS):
            session.run(inputs)
        means.append((time.perf_counter() - started) / _RUNS)
    return float(f"{min(means) * 1e6:.2g}")
