"""The self-test of a bundle: its graph reproduces the outputs of training. Also times one row."""

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
from service.bundle.store import EXAMPLES, MANIFEST, MODEL, Bundle
from service.engine.repository import Labels
from service.engine.session import Session, new_control, summarize_error, terminate
from service.engine.tensors import DTYPES, Array, TensorSpec
from service.errors import LoadFailed

_TIMED_RUNS = 15

_CHECK_SECONDS = 0.1


class RunLimit:
    """A context manager that terminates runs which exceed their time limit.

    One thread watches all runs, because starting a timer for each would take longer than most runs.
    """

    def __init__(self) -> None:
        self.is_exceeded = False
        """Whether a run was terminated."""
        self._control: Any = new_control()
        self._deadline: float | None = None
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        """Start the thread."""
        threading.Thread(target=self._watch, name="run limit", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the thread."""
        self._stop.set()

    def start(self, seconds: float) -> Any:  # noqa: ANN401 - ONNX Runtime has no types
        """Start the time of a run; return the control to run it with."""
        self._deadline = monotonic() + seconds
        return self._control

    def stop(self) -> None:
        """Stop the time of the run."""
        self._deadline = None

    def _watch(self) -> None:
        while not self._stop.wait(_CHECK_SECONDS):
            deadline = self._deadline
            if deadline is not None and monotonic() > deadline:
                self.is_exceeded = True
                terminate(self._control)
                return


def run_self_test(session: Session, bundle: Bundle, deadline_seconds: float) -> bool:
    """Compare the outputs with the examples, row by row and for all rows at once.

    Args:
        session: the graph.
        bundle: its manifest and examples.
        deadline_seconds: limit of a run of one row, since no client waits longer.

    Returns:
        Whether each row gave the same bits alone and in the batch.

    Raises:
        LoadFailed: the graph does not match the manifest, fails, exceeds the limit, or returns
            other outputs.
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
        batch = _run(session, rows, limit, deadline_seconds * len(rows))
    _compare(batch, expected, examples, slice(None))
    return all(
        output.tobytes() == batch[row : row + 1].tobytes() for row, output in enumerate(outputs)
    )


def measure_row(session: Session, rows: Array) -> float:
    """Return the duration of the shortest of several runs of one row, in seconds.

    The other runs may be slower because requests are served at the same time.
    """
    row = rows[:1]
    least = math.inf
    for _ in range(_TIMED_RUNS):
        started = perf_counter()
        session.run((row,))
        least = min(least, perf_counter() - started)
    return least


def as_rows(tensor: Tensor) -> Array:
    """Return a tensor of the examples as an array; missing values are NaN."""
    values = [math.nan if value is None else value for value in tensor.data]
    return np.array(values, DTYPES[tensor.datatype]).reshape(tensor.shape)


def _check_signature(session: Session, manifest: Manifest) -> None:
    declared = (
        ("input", session.inputs, input_spec(manifest)),
        ("output", session.outputs, output_spec(manifest)),
    )
    for role, actual, expected in declared:
        if actual != (expected,):
            specs = ", ".join(f"{spec.name} {spec.datatype} {list(spec.shape)}" for spec in actual)
            raise LoadFailed(
                f"{MODEL} does not fit {MANIFEST}: its {role} is {specs or 'absent'}, not "
                f"{expected.name} {expected.datatype} {list(expected.shape)}"
            )


def _run(session: Session, rows: Array, limit: RunLimit, seconds: float) -> Array:
    try:
        (output,) = session.run((rows,), limit.start(seconds))
    except Exception as error:  # ONNX Runtime's errors share no narrower base class
        if limit.is_exceeded:
            raise LoadFailed(
                f"self-test failed: a run of {len(rows)} example rows takes longer than "
                f"{seconds:g} s, and clients wait no longer than ONWARD_DEADLINE_SECONDS for a row"
            ) from error
        reason = f"the graph fails on its examples: {summarize_error(error)}"
        raise LoadFailed(f"self-test failed: {reason}") from error
    finally:
        limit.stop()
    return output.astype(np.float32, copy=False)


def _compare(actual: Array, expected: Array, examples: Examples, rows: slice) -> None:
    """Reject outputs that deviate by more than the bundle's tolerance."""
    tolerance = examples.tolerance
    if actual.shape != expected.shape:
        raise LoadFailed(f"self-test failed: output is {actual.shape}, not {expected.shape}")
    close = np.isclose(actual, expected, rtol=tolerance.relative, atol=tolerance.absolute)
    if not close.all():
        row, column = map(int, np.argwhere(~close)[0])
        raise LoadFailed(
            f"self-test failed: example {(rows.start or 0) + row}, column {column} gives "
            f"{actual[row, column]:.6g}, {EXAMPLES} says {expected[row, column]:.6g}"
        )


def input_spec(manifest: Manifest) -> TensorSpec:
    """Return the input of a bundle's graph."""
    declared = manifest.input
    shape = (-1, *input_shape(declared))
    return TensorSpec(input_name(declared), input_datatype(declared), shape)


def output_spec(manifest: Manifest) -> TensorSpec:
    """Return the output of a bundle's graph."""
    output = manifest.output
    return TensorSpec(output_name(output), "FP32", (-1, output_width(output)))


def get_class_labels(manifest: Manifest) -> Labels:
    """Return the class labels of a bundle by output name."""
    output = manifest.output
    return {output_name(output): output.labels} if isinstance(output, ClassesOutput) else {}
