"""From a folder to a model that has proved itself on the device it will really use."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from service.bundle.files import MODEL, Bundle, read_bundle
from service.engine.about import About
from service.engine.foreign import labels_beside
from service.engine.independence import is_feed_forward, probe, rows_are_independent
from service.engine.model import QUICK_SECONDS, Limits, ServedModel
from service.engine.peeking import is_bare, labels_of
from service.engine.plan import ChosenBy, Execution, Mode, Plan, planned
from service.engine.proving import as_rows, prove, row_seconds
from service.engine.repository import Candidate
from service.engine.session import Opening, Session
from service.engine.statistics import Statistics
from service.errors import GraphRefused, LoadFailed
from service.metrics import Metrics

# Below this more threads gain less than the second opening that trying them takes.
_THREADS_ABOVE_SECONDS = 0.000_5
# More threads take more time of all cores together, so they have to be worth it.
_WORTH_THREADS = 0.8
# A slower row of a model without examples is not tried: some hundred of them would be.
_LONGEST_PROBE_SECONDS = 0.005
# The first run takes longest, and one may be interrupted.
_PROBES = 3

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Opened:
    session: Session
    execution: Execution


def load(
    candidate: Candidate,
    plan: Plan,
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
    plan = planned(plan, candidate.folder.parent)
    if plan.max_batch_rows is not None:
        limits = replace(limits, max_batch_rows=plan.max_batch_rows)
    manifest = None
    if is_bare(candidate):
        opened = _open_bare(candidate, plan, limits)
        labels = labels_beside(candidate.folder.parent)
    else:
        bundle = read_bundle(candidate.folder)
        manifest = bundle.manifest
        labels = labels_of(manifest)
        opened = _open_bundle(bundle, plan, limits)
    session, execution = opened.session, opened.execution
    joined = limits.quick_rows if execution.mode == "inline" else limits.batch_rows
    about = About(
        name=candidate.name,
        version=candidate.version,
        folder=candidate.folder,
        device=session.device,
        manifest=manifest,
        inputs=session.inputs,
        outputs=session.outputs,
        labels=labels,
        max_batch_rows=limits.batch_rows,
        joined_rows=joined if manifest is not None or execution.rows_bitwise else 1,
        execution=execution,
        statistics=statistics or Statistics(),
    )
    return ServedModel(about, session, execution=execution.mode, limits=limits, metrics=metrics)


def _open_bare(candidate: Candidate, plan: Plan, limits: Limits) -> _Opened:
    path = candidate.folder / MODEL
    if path.exists() and not path.is_file():
        raise LoadFailed(f"{MODEL} is not a regular file")  # a pipe would be waited for
    try:
        model = path.read_bytes()
    except OSError as error:
        raise LoadFailed(f"{MODEL} cannot be read: {error.strerror}") from error
    try:
        session = _session(model, plan, limits, plan.threads or 1, candidate.folder)
    except LoadFailed as error:
        raise GraphRefused(str(error)) from error
    seconds = _bare_seconds(session, model)
    if seconds is None:
        # Nothing can be timed where nobody knows what it takes.
        mode, chosen_by = _mode(plan, None)
        return _Opened(session, Execution(mode, chosen_by, session.opening.threads))
    session.bind()
    mode, chosen_by = _mode(plan, seconds)
    told = Execution(mode, chosen_by, session.opening.threads, seconds, rows_bitwise=True)
    return _Opened(session, told)


def _bare_seconds(session: Session, model: bytes) -> float | None:
    """The time of a row of a bare model, where it is short and its rows are seen to be independent.

    None of any other, which nothing is known of, and which nobody but its callers runs.
    """
    if not is_feed_forward(model):
        return None
    try:
        row = probe(session)
        if row is None or row_seconds(session, row, _PROBES) > _LONGEST_PROBE_SECONDS:
            return None
        return row_seconds(session, row) if rows_are_independent(session) else None
    except Exception:  # noqa: BLE001 - ONNX Runtime's errors share no narrower base
        return None  # a row by chance is not what it takes


def _open_bundle(bundle: Bundle, plan: Plan, limits: Limits) -> _Opened:
    """The session with as many threads as are quickest, proved, and how it is best run."""
    session = _session(bundle.model, plan, limits, plan.threads or 1)
    bitwise = prove(session, bundle)
    rows = as_rows(bundle.examples.input)
    seconds = row_seconds(session, rows)
    tried = plan.most_threads if not plan.threads and plan.device == "cpu" else 1
    if tried > 1 and seconds > _THREADS_ABOVE_SECONDS:
        del session  # two at a time would take twice the memory
        session = _session(bundle.model, plan, limits, tried)
        threaded = row_seconds(session, rows)
        if threaded < seconds * _WORTH_THREADS:
            seconds = threaded
        else:
            del session
            session = _session(bundle.model, plan, limits, 1)
        bitwise = prove(session, bundle)
    session.bind()
    if seconds < _THREADS_ABOVE_SECONDS:  # else nothing is seen of it
        seconds = min(seconds, row_seconds(session, rows))
    mode, chosen_by = _mode(plan, seconds)
    opening = session.opening
    told = Execution(mode, chosen_by, opening.threads, seconds, bitwise, opening.graphs)
    return _Opened(session, told)


def _mode(plan: Plan, seconds: float | None) -> tuple[Mode, ChosenBy]:
    """Where the model runs, and who says so."""
    if plan.mode is not None:
        return plan.mode, plan.mode_by
    if seconds is None:
        return "batched", "graph"
    return ("inline" if seconds < QUICK_SECONDS else "batched"), "warm-up"


def _session(
    model: bytes, plan: Plan, limits: Limits, threads: int, folder: Path | None = None
) -> Session:
    """Open the graph; with captured runs where that was asked for and can be."""
    opening = Opening(
        threads=threads, kept_rows=limits.batch_rows, gpu_memory_mib=plan.gpu_memory_mib
    )
    if plan.graphs and plan.device == "cuda" and folder is None:
        try:
            captured = replace(opening, graphs=True)
            return Session.open(model, plan.device, threads, opening=captured)
        except LoadFailed as error:
            _log.warning("runs are not captured", extra={"reason": str(error)})
    return Session.open(model, plan.device, threads, folder, opening)
