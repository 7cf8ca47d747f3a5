"""The self-test of a bundle: its graph reproduces the outputs of training. Also times one row."""

import math
import threading
from collections.abc import Mapping, Sequence
from time import perf_counter

import numpy as np

from service.bundle.manifest import (
    ClassesOutput,
    Examples,
    Manifest,
    Tensor,
    list_inputs,
    output_name,
    output_width,
)
from service.bundle.store import EXAMPLES, MANIFEST, MODEL, Bundle
from service.engine.session import Session, new_control, summarize_error, terminate
from service.engine.tensors import DTYPES, Array, Arrays, TensorSpec
from service.errors import LoadFailed

_TIMED_RUNS = 15
# The limit of a run is never shorter, since a busy machine delays even quick runs.
_MIN_LIMIT_SECONDS = 0.1


def run_self_test(session: Session, bundle: Bundle, deadline_seconds: float) -> bool:
    """Compare the outputs with the examples, row by row and for all rows at once.

    No client waits longer than ``deadline_seconds``, so this is the limit of a run of one row.

    Returns:
        Whether each row gave the same bits alone and in the batch.

    Raises:
        LoadFailed: the graph does not match the manifest, fails, exceeds the limit, or returns
            other outputs.
    """
    _check_signature(session, bundle.manifest)
    examples = bundle.examples
    inputs = to_arrays(examples)
    expected = to_array(examples.output)
    outputs = []
    for row in range(len(expected)):
        one = slice(row, row + 1)
        inputs_of_row = tuple(array[one] for array in inputs)
        outputs.append(_run(session, inputs_of_row, deadline_seconds))
        _compare(outputs[row], expected[one], examples, one)
    batch = _run(session, inputs, deadline_seconds * len(expected))
    _compare(batch, expected, examples, slice(None))
    return all(
        output.tobytes() == batch[row : row + 1].tobytes() for row, output in enumerate(outputs)
    )


def measure_row(session: Session, inputs: Arrays) -> float:
    """Return the duration of the shortest of several runs of one row, in seconds.

    The other runs may be slower because requests are served at the same time.
    """
    row = tuple(array[:1] for array in inputs)
    least = math.inf
    for _ in range(_TIMED_RUNS):
        started = perf_counter()
        session.run(row)
        least = min(least, perf_counter() - started)
    return least


def to_arrays(examples: Examples) -> Arrays:
    """Return the inputs of the examples in the order of the graph's."""
    return tuple(map(to_array, examples.inputs))


def to_array(tensor: Tensor) -> Array:
    """Return a tensor of the examples as an array; missing values are NaN."""
    values = [math.nan if value is None else value for value in tensor.data]
    return np.array(values, DTYPES[tensor.datatype]).reshape(tensor.shape)


def _check_signature(session: Session, manifest: Manifest) -> None:
    declared = (
        ("input", session.inputs, get_input_specs(manifest)),
        ("output", session.outputs, (get_output_spec(manifest),)),
    )
    for role, actual, expected in declared:
        if actual != expected:
            raise LoadFailed(
                f"{MODEL} does not fit {MANIFEST}: its {role} is "
                f"{_describe_specs(actual) or 'absent'}, not {_describe_specs(expected)}"
            )


def _describe_specs(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{spec.name} {spec.datatype} {list(spec.shape)}" for spec in specs)


def _run(session: Session, inputs: Arrays, seconds: float) -> Array:
    control = new_control()
    limit = min(max(seconds, _MIN_LIMIT_SECONDS), threading.TIMEOUT_MAX)
    timer = threading.Timer(limit, terminate, [control])
    timer.daemon = True
    timer.start()
    try:
        (output,) = session.run(inputs, control)
    except Exception as error:  # ONNX Runtime's errors share no narrower base class
        if control.terminate:
            raise LoadFailed(
                f"self-test failed: a run of {len(inputs[0])} example rows takes longer than "
                f"{seconds:g} s, and clients wait no longer than ONWARD_DEADLINE_SECONDS for a row"
            ) from error
        reason = f"the graph fails on its examples: {summarize_error(error)}"
        raise LoadFailed(f"self-test failed: {reason}") from error
    finally:
        timer.cancel()
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


def get_input_specs(manifest: Manifest) -> tuple[TensorSpec, ...]:
    """Return the inputs of a bundle's graph in their order."""
    return tuple(
        TensorSpec(name, datatype, (-1, *shape))
        for name, datatype, shape in list_inputs(manifest.input)
    )


def get_output_spec(manifest: Manifest) -> TensorSpec:
    """Return the output of a bundle's graph."""
    output = manifest.output
    return TensorSpec(output_name(output), "FP32", (-1, output_width(output)))


def get_class_labels(manifest: Manifest) -> Mapping[str, Sequence[str]]:
    """Return the class labels of a bundle by output name."""
    output = manifest.output
    return {output_name(output): output.labels} if isinstance(output, ClassesOutput) else {}
