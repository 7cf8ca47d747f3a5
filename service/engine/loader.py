"""From a folder to a model that has proved itself on the device it will really use."""

import logging
from dataclasses import dataclass, replace

from service.bundle.errors import BundleError, NotOnnx
from service.bundle.onnx_file import GraphFacts, OnnxFile, read_onnx
from service.bundle.store import MODEL, Bundle, read_bundle
from service.engine.execution_plan import ChosenBy, Execution, Mode, Plan, planned
from service.engine.foreign import batching_beside, labels_beside
from service.engine.metadata import is_bare, labels_of
from service.engine.model import QUICK_SECONDS, Limits, ServedModel
from service.engine.model_info import About
from service.engine.repository import Candidate
from service.engine.self_test import as_rows, prove, row_seconds
from service.engine.session import Opening, Session
from service.engine.statistics import Statistics
from service.engine.weights import Weights, read_weights
from service.errors import GraphRefused, LoadFailed
from service.observability.metrics import Metrics

# Below this more threads gain less than the second opening that trying them takes.
_THREADS_ABOVE_SECONDS = 0.000_5
# More threads take more time of all cores together, so they have to be worth it.
_WORTH_THREADS = 0.8

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
    home = candidate.folder.parent
    plan = planned(plan, home)
    if plan.max_batch_rows is not None:
        limits = replace(limits, max_batch_rows=plan.max_batch_rows)
    manifest = None
    joins = True
    if is_bare(candidate):
        configured = batching_beside(home)
        joins = _joins_bare(plan, configured)
        if plan.max_batch_rows is None and configured:
            limits = replace(limits, max_batch_rows=min(configured, limits.batch_rows))
        opened = _open_bare(candidate, plan, limits)
        labels = labels_beside(home)
    else:
        bundle = read_bundle(candidate.folder)
        manifest = bundle.manifest
        labels = labels_of(manifest)
        opened = _open_bundle(candidate, bundle, plan, limits)
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
        joined_rows=joined if joins else 1,
        execution=execution,
        statistics=statistics or Statistics(),
    )
    return ServedModel(about, session, execution=execution.mode, limits=limits, metrics=metrics)


def _joins_bare(plan: Plan, configured: int | None) -> bool:
    """Whether the rows of several requests share a run of a bare graph.

    Nothing but the operator's word says that they are independent of each other.

    Args:
        plan: has what ``tuning.json`` says, which comes first.
        configured: what ``config.pbtxt`` says, as `batching_beside` has it.
    """
    if plan.max_batch_rows is not None:
        return plan.max_batch_rows > 1
    return configured is not None or (plan.mode == "batched" and plan.mode_by == "tuning.json")


def _open_bare(candidate: Candidate, plan: Plan, limits: Limits) -> _Opened:
    """The session, run in a thread unless the operator says otherwise.

    Raises:
        BundleError: there is no file that can be read.
        GraphRefused: it is not an ONNX file, its weights cannot be read, or the runtime refuses it.
    """
    try:
        onnx = read_onnx(candidate.folder / MODEL)
    except NotOnnx as error:
        raise GraphRefused(str(error)) from error
    try:
        weights = read_weights(candidate.folder, onnx.graph)
        session = _session(onnx, plan, limits, plan.threads or 1, weights)
    except (BundleError, LoadFailed) as error:
        raise GraphRefused(str(error)) from error
    mode, chosen_by = _mode(candidate, plan, None, _obstacle(session, onnx.graph))
    return _Opened(session, Execution(mode, chosen_by, session.opening.threads))


def _open_bundle(candidate: Candidate, bundle: Bundle, plan: Plan, limits: Limits) -> _Opened:
    """The session with as many threads as are quickest, proved, and how it is best run."""
    onnx = OnnxFile(bundle.model, bundle.graph)
    session = _session(onnx, plan, limits, plan.threads or 1)
    bitwise = prove(session, bundle, limits.deadline_seconds)
    rows = as_rows(bundle.examples.input)
    seconds = row_seconds(session, rows)
    tried = plan.most_threads if not plan.threads and plan.device == "cpu" else 1
    if tried > 1 and seconds > _THREADS_ABOVE_SECONDS:
        del session  # two at a time would take twice the memory
        session = _session(onnx, plan, limits, tried)
        threaded = row_seconds(session, rows)
        if threaded < seconds * _WORTH_THREADS:
            seconds = threaded
        else:
            del session
            session = _session(onnx, plan, limits, 1)
        bitwise = prove(session, bundle, limits.deadline_seconds)
    mode, chosen_by = _mode(candidate, plan, seconds, _obstacle(session, bundle.graph))
    execution = Execution(mode, chosen_by, session.opening.threads, seconds, bitwise)
    return _Opened(session, execution)


def _mode(
    candidate: Candidate, plan: Plan, seconds: float | None, obstacle: str
) -> tuple[Mode, ChosenBy]:
    """Where the model runs, and who says so.

    Args:
        candidate: the version.
        plan: what the operator says.
        seconds: the time of a row; None where it was not measured.
        obstacle: why it may not run on the event loop, whoever says so; or empty.
    """
    if obstacle:
        if plan.mode == "inline":
            facts = {"model": candidate.name, "version": candidate.version}
            reason = f"{plan.mode_by} says inline, and {obstacle}; it runs in a thread"
            _log.warning("not run on the event loop", extra=facts | {"reason": reason})
        return "batched", "graph"
    if plan.mode is not None:
        return plan.mode, plan.mode_by
    if seconds is None:
        return "batched", "graph"
    return ("inline" if seconds < QUICK_SECONDS else "batched"), "warm-up"


def _obstacle(session: Session, graph: GraphFacts) -> str:
    """Why clients could make a run of the graph take any time; empty where they cannot.

    Such a graph never runs on the event loop, where everybody would wait for it.
    """
    if graph.unbounded:
        return f"the values that its operator {graph.unbounded} is given decide how long it takes"
    for spec in session.inputs:
        # Without axes it is a scalar, or a tensor whose rank the graph does not tell.
        if not spec.shape or min(spec.shape[1:], default=0) < 0:
            return f"its input {spec.name!r} has another axis of any length than that of the rows"
    return ""


def _session(
    onnx: OnnxFile, plan: Plan, limits: Limits, threads: int, weights: Weights | None = None
) -> Session:
    """Open the graph."""
    opening = Opening(
        threads=threads,
        # How much memory a run takes is then no matter of its rows.
        kept_rows=0 if onnx.graph.unbounded else limits.batch_rows,
        gpu_memory_mib=plan.gpu_memory_mib,
    )
    return Session.open(onnx.content, plan.device, threads, weights, opening)
