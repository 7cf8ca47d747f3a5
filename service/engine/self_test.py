"""The self-test of a bundle: its graph computes here what was trained; and how long a row takes."""

import math
import threading
from time import monotonic, perf_counter
from typing import Any, Self

import numpy as np

from service.bundle.manifest import (
    ClassesOutput,
    Examples,
    Manifest,
    Tensor,
    input_datatype,
    input_name,
    input_shape,
    output_name,
    output_width,
)
from service.bundle.store import (
    EXAMPLES,
    MANIFEST,
    MODEL,
    Bundle,
)
from service.engine.repository import Labels
from service.engine.session import Session, new_control, terminate
from service.engine.tensors import DTYPES, Array, TensorSpec
from service.errors import LoadFailed

_TIMED_RUNS = 15

_CHECK_SECONDS = 0.1


class RunLimit:
    """A context manager that watches the runs of one thread from another.

    One thread for all runs: starting a timer for each would take longer than most of them.
    """

    def __init__(self) -> None:
        self.exceeded = False
        """Whether a run was terminated."""
        self._control: Any = new_control()
        self._deadline: float | None = None
        self._done = threading.Event()

    def __enter__(self) -> Self:
        """Start the watching thread."""
        threading.Thread(target=self._watch, name="run limit", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the watching thread."""
        self._done.set()

    def start(self, seconds: float) -> Any:  # noqa: ANN401 - the runtime has no types
        """Begin a run; returns the control to run it with."""
        self._deadline = monotonic() + seconds
        return self._control

    def stop(self) -> None:
        """End the run."""
        self._deadline = None

    def _watch(self) -> None:
        while not self._done.wait(_CHECK_SECONDS):
            deadline = self._deadline
            if deadline is not None and monotonic() > deadline:
                self.exceeded = True
                terminate(self._control)
                return


def run_self_test(session: Session, bundle: Bundle, deadline_seconds: float) -> bool:
    """Compare the outputs with the examples, row by row and for all rows at once.

    Args:
        session: the graph.
        bundle: its manifest and examples.
        deadline_seconds: limit of a run of one row; no client would wait longer.

    Returns:
        Whether each row gave the same bits both ways.

    Raises:
        LoadFailed: the graph does not match the manifest, fails, exceeds the limit, or gives other
            outputs.
    """
    _check_signature(session, bundle.manifest)
    examples = bundle.examples
    rows = as_rows(examples.input)
    expected = as_rows(examples.output)
    outputs = []
    with RunLimit() as limit:
        for row in range(len(rows)):
            one = slice(row, row + 1)
            outputs.append(_run(session, rows[one], limit, deadline_seconds))
            _compare(outputs[row], expected[one], examples, one)
        together = _run(session, rows, limit, deadline_seconds * len(rows))
    _compare(together, expected, examples, slice(None))
    return all(
        output.tobytes() == together[row : row + 1].tobytes() for row, output in enumerate(outputs)
    )


def measure_row(session: Session, rows: Array, runs: int = _TIMED_RUNS) -> float:
    """The shortest of so many runs of one row, in seconds.

    The shortest, since other requests are served at the same time.
    """
    row = rows[:1]
    least = math.inf
    for _ in range(runs):
        started = perf_counter()
        session.run((row,))
        least = min(least, perf_counter() - started)
    return least


def as_rows(tensor: Tensor) -> Array:
    """An example's tensor as an array; missing values are NaN."""
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
    """Reject outputs that deviate by more than the bundle's tolerance."""
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


def input_spec(manifest: Manifest) -> TensorSpec:
    """The input of a bundle's graph."""
    taken = manifest.input
    return TensorSpec(input_name(taken), input_datatype(taken), (-1, *input_shape(taken)))


def output_spec(manifest: Manifest) -> TensorSpec:
    """The output of a bundle's graph."""
    output = manifest.output
    return TensorSpec(output_name(output), "FP32", (-1, output_width(output)))


def labels_of(manifest: Manifest) -> Labels:
    """The class labels of a bundle, by output."""
    output = manifest.output
    return {output_name(output): output.labels} if isinstance(output, ClassesOutput) else {}
