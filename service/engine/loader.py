"""From a folder to a model that has proved itself on the device it will really use."""

import asyncio
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from time import perf_counter

from service.bundle.errors import BundleError, NotOnnx
from service.bundle.onnx_file import GraphFacts, OnnxFile
from service.bundle.store import MODEL, Bundle, read_bundle, read_onnx
from service.engine.execution_plan import ChosenBy, Execution, Mode, Plan, plan_for, planned
from service.engine.model import QUICK_SECONDS, About, Limits, ServedModel, Statistics
from service.engine.model_cache import Memory, Occupant
from service.engine.registry import Entry, State, refused
from service.engine.repository import Candidate, batching_beside, fingerprint, labels_beside
from service.engine.sandbox import PATIENCE_SECONDS, Rehearsal
from service.engine.self_test import as_rows, is_bare, labels_of, peek, prove, row_seconds
from service.engine.session import Opening, Session
from service.engine.threads import in_daemon_thread
from service.engine.weights import Weights, read_weights
from service.errors import GraphRefused, LoadFailed
from service.observability.metrics import Metrics
from service.settings import Settings

# Below this more threads gain less than the second opening that trying them takes.
_THREADS_ABOVE_SECONDS = 0.000_5
# More threads take more time of all cores together, so they have to be worth it.
_WORTH_THREADS = 0.8

# Two, so that one model's long load does not hold up another's, and the start is not a stampede.
_AT_ONCE = 2
ASLEEP = "its first request loads it"

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


class Opener:
    """Opens, checks, proves and warms versions on one device."""

    device: str = "cpu"

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.memory = Memory(settings.memory_budget_mib, settings.max_loaded_models, metrics)
        self._settings = settings
        self._limits = Limits(
            settings.max_batch_rows, settings.max_queued_rows, settings.deadline_seconds
        )
        self._metrics = metrics
        self._turns = asyncio.Semaphore(_AT_ONCE)
        isolated = settings.load_isolation == "process"
        self._rehearsal = Rehearsal(settings.threads or 1) if isolated else None

    async def open(
        self,
        candidate: Candidate,
        statistics: Statistics,
        occupant: Callable[[ServedModel], Occupant],
        beside: Collection[ServedModel] = (),
    ) -> Entry:
        """The version as READY, or as UNAVAILABLE with the reason; nothing is raised.

        Args:
            candidate: the version.
            statistics: where it goes on counting.
            occupant: how its model is to leave memory.
            beside: the models that stay in memory until it is open.
        """
        room = await self.memory.enter(candidate, beside)
        model = None
        try:
            async with self._turns:
                entry = await self._in_time(candidate, statistics)
            model = entry.model
        finally:
            if model is None:
                self.memory.leave(room)
        if model is not None:
            self.memory.settle(room, candidate, occupant(model))
        return entry

    async def _in_time(self, candidate: Candidate, statistics: Statistics) -> Entry:
        """The version, opened in a thread; UNAVAILABLE where that does not end."""
        # The other process has shown that it ends, and its attempts wait for each other.
        bound = PATIENCE_SECONDS if self._rehearsal is None else None
        try:
            async with asyncio.timeout(bound):
                return await in_daemon_thread(self._tried, self._opened, candidate, statistics)
        except TimeoutError:
            reason = f"it is not loaded after {PATIENCE_SECONDS:g} s"
            facts = {"model": candidate.name, "version": candidate.version, "reason": reason}
            _log.error("model refused", extra=facts)
            return refused(candidate, reason)

    async def close(self) -> None:
        """End what is needed no more."""
        if self._rehearsal is not None:
            await asyncio.to_thread(self._rehearsal.close)

    async def peek(self, candidate: Candidate) -> Entry:
        """The version as READY, to be loaded by its first request, or as UNAVAILABLE."""
        return await asyncio.to_thread(self._tried, self._peeked, candidate)

    def _tried(self, attempt: Callable[..., Entry], candidate: Candidate, *rest: object) -> Entry:
        """What an attempt gives, or the entry that tells why it failed."""
        facts = {"model": candidate.name, "version": candidate.version}
        servable = True
        try:
            self.memory.require_possible(candidate)
            return attempt(candidate, *rest)
        except (BundleError, LoadFailed) as error:
            reason = str(error)
            servable = not isinstance(error, GraphRefused)
        except Exception as error:  # noqa: BLE001 - whatever one model does, the others serve
            _log.exception("model broke while loading", extra=facts)
            reason = f"{type(error).__name__} while loading: {error}"
        _log.error("model refused", extra=facts | {"reason": reason})
        return refused(candidate, reason, servable=servable)

    def _opened(self, candidate: Candidate, statistics: Statistics) -> Entry:
        name, version = candidate.name, candidate.version
        started = perf_counter()
        ready = False
        try:
            if self._rehearsal is not None:
                self._rehearsal.try_out(candidate, self.device)
            plan = plan_for(self._settings, self.device)
            model = load(candidate, plan, self._limits, self._metrics, statistics)
            _require_untouched(candidate)
            ready = True
        finally:
            seconds = perf_counter() - started
            self._metrics.loaded(seconds, ready=ready)
            if self.memory.limited:
                self.memory.heap.give_back()
        facts: dict[str, object] = {"model": name, "version": version}
        facts |= {"device": model.about.device, "execution": model.execution}
        facts |= {"milliseconds": round(seconds * 1e3)}
        _log.info("model ready", extra=facts)
        return Entry(
            name,
            version,
            State.READY,
            model=model,
            about=model.about,
            fingerprint=candidate.fingerprint,
        )

    def _peeked(self, candidate: Candidate) -> Entry:
        about = peek(candidate, self.device, self._limits.batch_rows)
        return Entry(
            candidate.name,
            candidate.version,
            State.READY,
            ASLEEP,
            asleep=True,
            about=about,
            fingerprint=candidate.fingerprint,
        )


def _require_untouched(candidate: Candidate) -> None:
    """See that nobody wrote into the folder meanwhile; the next look finds it changed."""
    if fingerprint(candidate.folder) != candidate.fingerprint:
        raise LoadFailed("its files changed while it was loaded; it is looked at again")
