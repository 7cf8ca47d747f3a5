"""From a folder to a model that has proved itself on the device it will really use."""

import math
from collections.abc import Iterator
from time import perf_counter

import numpy as np

from service.bundle.examples import Examples, Tensor
from service.bundle.files import EXAMPLES, MANIFEST, MODEL, Bundle, read_bundle
from service.bundle.manifest import Manifest
from service.engine.about import About
from service.engine.datatypes import DTYPES, Array
from service.engine.foreign import labels_beside
from service.engine.model import Execution, Limits, ServedModel
from service.engine.peeking import input_spec, is_bare, labels_of, output_spec
from service.engine.repository import Candidate
from service.engine.session import ActualDevice, Session
from service.engine.statistics import Statistics
from service.errors import GraphRefused, LoadFailed
from service.metrics import Metrics

# Handing a call to a thread and back costs some 25 to 40 microseconds; a model a few times slower
# than that is better off there, where callers are joined and the event loop stays free.
_INLINE_BELOW_SECONDS = 0.000_15
_TIMED_RUNS = 15


def load(  # noqa: PLR0913, PLR0917 - what a model is made of
    candidate: Candidate,
    device: ActualDevice,
    threads: int,
    limits: Limits,
    metrics: Metrics,
    statistics: Statistics | None = None,
) -> ServedModel:
    """Open a version, prove it, and warm it.

    A folder that holds a ``model.onnx`` and nothing of a bundle is served by its graph alone.

    Raises:
        BundleError: the bundle breaks the contract.
        LoadFailed: the runtime refuses the graph, or it does not compute what was trained.
    """
    manifest: Manifest | None = None
    execution: Execution = "batched"
    if is_bare(candidate):
        session = _open_bare(candidate, device, threads)
        labels = labels_beside(candidate.folder.parent)
    else:
        bundle = read_bundle(candidate.folder)
        manifest = bundle.manifest
        labels = labels_of(manifest)
        session = Session.open(bundle.model, device, threads)
        execution = _prove(session, bundle)
    about = About(
        name=candidate.name,
        version=candidate.version,
        folder=candidate.folder,
        device=session.device,
        manifest=manifest,
        inputs=session.inputs,
        outputs=session.outputs,
        labels=labels,
        max_batch_rows=limits.max_batch_rows,
        statistics=statistics or Statistics(),
    )
    return ServedModel(about, session, execution=execution, limits=limits, metrics=metrics)


def _open_bare(candidate: Candidate, device: ActualDevice, threads: int) -> Session:
    path = candidate.folder / MODEL
    if path.exists() and not path.is_file():
        raise LoadFailed(f"{MODEL} is not a regular file")  # a pipe would be waited for
    try:
        model = path.read_bytes()
    except OSError as error:
        raise LoadFailed(f"{MODEL} cannot be read: {error.strerror}") from error
    try:
        return Session.open(model, device, threads, candidate.folder)
    except LoadFailed as error:
        raise GraphRefused(str(error)) from error


def _prove(session: Session, bundle: Bundle) -> Execution:
    """Compare with the examples, all rows at once and one by one; tell how it is best run."""
    _check_signature(session, bundle.manifest)
    examples = bundle.examples
    rows = _array(examples.input)
    expected = _array(examples.output)
    _compare(_run(session, rows), expected, examples, slice(None))
    for row in range(len(rows)):
        one = slice(row, row + 1)
        _compare(_run(session, rows[one]), expected[one], examples, one)
    # The least of them: others are served meanwhile, and what they take is not the model's.
    seconds = min(_timed(session, rows[:1]))
    return "inline" if seconds < _INLINE_BELOW_SECONDS else "batched"


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


def _run(session: Session, rows: Array) -> Array:
    try:
        (output,) = session.run((rows,))
    except Exception as error:  # ONNX Runtime's errors share no narrower base
        reason = str(error).partition("\n")[0]
        raise LoadFailed(f"self-test failed: the graph fails on its examples: {reason}") from error
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


def _timed(session: Session, row: Array) -> Iterator[float]:
    for _ in range(_TIMED_RUNS):
        started = perf_counter()
        session.run((row,))
        yield perf_counter() - started


def _array(tensor: Tensor) -> Array:
    values = [math.nan if value is None else value for value in tensor.data]
    return np.array(values, DTYPES[tensor.datatype]).reshape(tensor.shape)
