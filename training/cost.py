"""What candidates cost when they are served."""

import time
from collections.abc import Mapping, Sequence

from service.bundle import provenance
from service.bundle.features import INPUT_NAME
from training.candidates import Candidate
from training.export.onnx_export import export
from training.onnx_files import Array, Graph

_OUTPUT = "output"
_RUNS = 200
_REPEATS = 5


def describe_candidates(
    candidates: Sequence[Candidate], graph: bytes, inputs: Mapping[str, Array]
) -> list[provenance.Candidate]:
    """Return the entries of the manifest, with the size of each graph and the time of a row.

    Args:
        candidates: the first is published; others have the graph of their last fold.
        graph: that is published.
        inputs: of the graph by name, one row.
    """
    described = []
    for k, candidate in enumerate(candidates):
        if k == 0:
            found: tuple[int | None, float | None] = len(graph), _measure_row(graph, inputs)
        elif candidate.predictor is None or candidate.row is None:
            found = None, None
        else:
            other = export(candidate.predictor, _OUTPUT, candidate.row.shape[1])
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
