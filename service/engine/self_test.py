"""The proof that a bundle's graph computes here what was trained, and how long a row takes."""

import math
from time import perf_counter

import numpy as np

from service.bundle.examples import Examples, Tensor
from service.bundle.manifest import Manifest
from service.bundle.store import EXAMPLES, MANIFEST, MODEL, Bundle
from service.engine.dtypes import DTYPES, Array
from service.engine.metadata import input_spec, output_spec
from service.engine.run_limit import RunLimit
from service.engine.session import Session
from service.errors import LoadFailed

_TIMED_RUNS = 15


def prove(session: Session, bundle: Bundle, deadline_seconds: float) -> bool:
    """Compare with the examples, one by one and all rows at once.

    Args:
        session: the graph.
        bundle: its manifest and examples.
        deadline_seconds: that a run of one row may take; no client would wait longer.

    Returns:
        Whether each row gave the same bits both ways.

    Raises:
        LoadFailed: the graph does not fit the manifest, fails, does not end in time, or computes
            something else.
    """
    _check_signature(session, bundle.manifest)
    examples = bundle.examples
    rows = as_rows(examples.input)
    expected = as_rows(examples.output)
    alone = []
    with RunLimit() as limit:
        for row in range(len(rows)):
            one = slice(row, row + 1)
            alone.append(_run(session, rows[one], limit, deadline_seconds))
            _compare(alone[row], expected[one], examples, one)
        together = _run(session, rows, limit, deadline_seconds * len(rows))
    _compare(together, expected, examples, slice(None))
    return all(
        output.tobytes() == together[row : row + 1].tobytes() for row, output in enumerate(alone)
    )


def row_seconds(session: Session, rows: Array, runs: int = _TIMED_RUNS) -> float:
    """The least time of so many runs of one row.

    Others are served meanwhile, and what they take is not the model's.
    """
    row = rows[:1]
    least = math.inf
    for _ in range(runs):
        started = perf_counter()
        session.run((row,))
        least = min(least, perf_counter() - started)
    return least


def as_rows(tensor: Tensor) -> Array:
    """An example's tensor as an array; what is missing is NaN."""
    values = [math.nan if value is None else value for value in tensor.data]
    return np.array(values, DTYPES[tensor.datatype]).reshape(tensor.shape)


def _check_signature(session: Session, manifest: Manifest) -> None:
    declared = (
        ("input", session.inputs, input_spec(manifest)),
        ("output", session.outputs, output_spec(manifest)),
    )
    for role, found, wanted in declared:
        if found != (wanted,):
            got = ", ".join(f"{spec.name} {spec.datatype} {list(spec.shape)}" for spec in found)
            raise LoadFailed(
                f"{MODEL} does not fit {MANIFEST}: its {role} is {got or 'absent'}, not "
                f"{wanted.name} {wanted.datatype} {list(wanted.shape)}"
            )


def _run(session: Session, rows: Array, limit: RunLimit, seconds: float) -> Array:
    try:
        (output,) = session.run((rows,), limit.start(seconds))
    except Exception as error:  # ONNX Runtime's errors share no narrower base
        if limit.exceeded:
            raise LoadFailed(
                f"self-test failed: a run of {len(rows)} example rows takes longer than "
                f"{seconds:g} s, and clients wait no longer than ONWARD_DEADLINE_SECONDS for a row"
            ) from error
        reason = str(error).partition("\n")[0]
        raise LoadFailed(f"self-test failed: the graph fails on its examples: {reason}") from error
    finally:
        limit.stop()
    return output.astype(np.float32, copy=False)


def _compare(
    got: Array,
    expected: Array,
    examples: Examples,
    rows: slice,
) -> None:
    """Refuse where an output strays further than the bundle allows."""
    tolerance = examples.tolerance
    if got.shape != expected.shape:
        raise LoadFailed(f"self-test failed: output is {got.shape}, not {expected.shape}")
    close = np.isclose(got, expected, rtol=tolerance.relative, atol=tolerance.absolute)
    if not close.all():
        row, column = map(int, np.argwhere(~close)[0])
        raise LoadFailed(
            f"self-test failed: example {(rows.start or 0) + row}, column {column} gives "
            f"{got[row, column]:.6g}, {EXAMPLES} says {expected[row, column]:.6g}"
        )
