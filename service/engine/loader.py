"""Loads a version: from its folder to a model that has passed its self-test on the actual device.

`load` loads in the calling thread. `VersionLoader` loads in other threads, a few versions at a
time, and always returns a registry entry.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

from service.bundle.errors import BundleError
from service.bundle.manifest import Manifest
from service.bundle.onnx_file import GraphSummary, OnnxFile
from service.bundle.store import (
    MODEL,
    Bundle,
    read_bundle,
    read_document,
    read_manifest,
    require_regular,
    require_sizes,
)
from service.bundle.triton_config import read_triton_batching, read_triton_labels
from service.bundle.tuning import TUNING, Machine, Tuning
from service.engine.bare_graph import BareGraph, open_bare_graph
from service.engine.devices import count_cores, read_processor_name
from service.engine.model import (
    INLINE_ROW_SECONDS,
    BatchLimits,
    ChosenBy,
    Execution,
    Mode,
    ModelInfo,
    ServedModel,
    Statistics,
)
from service.engine.model_cache import ModelCache
from service.engine.registry import Entry
from service.engine.repository import Candidate, compute_fingerprint
from service.engine.sandbox import LOAD_TIMEOUT_SECONDS, LoadSandbox
from service.engine.self_test import (
    get_class_labels,
    get_input_specs,
    get_output_spec,
    measure_row,
    run_self_test,
    to_arrays,
)
from service.engine.session import (
    NO_WEIGHTS,
    RUNTIME_VERSION,
    Session,
    SessionConfig,
    Weights,
)
from service.engine.threads import run_in_daemon_thread
from service.errors import GraphRejected, LoadFailed
from service.observability.metrics import Metrics
from service.settings import Settings

# For quicker models, more threads cannot save the time of the second load that it takes to try
# them.
_MIN_SECONDS_TO_TRY_THREADS = 0.000_5
# More threads must reduce the time of a run to this share, since they use more CPU time in total.
_MAX_THREADED_SHARE = 0.8
# Two, so that a slow load does not delay other models, and not all of them load at once.
_CONCURRENT_LOADS = 2

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExecutionPlan:
    """How to run a model, as determined by the settings and by its ``tuning.json``.

    Attributes:
        device: where to run it.
        threads: intra-op threads; 0 lets timing choose.
        max_threads: most threads that timing tries.
        mode: as in `Execution`; None lets timing choose.
        mode_by: what determined the mode, if it is not None.
        max_batch_rows: the model's own limit, if it has one.
        gpu_memory_mib: limit of its memory on the GPU; 0 is no limit.
    """

    device: str = "cpu"
    threads: int = 1
    max_threads: int = 1
    mode: Mode | None = None
    mode_by: ChosenBy = "setting"
    max_batch_rows: int | None = None
    gpu_memory_mib: int = 0


def plan_execution(settings: Settings, device: str) -> ExecutionPlan:
    """Return the plan of a model without a ``tuning.json``."""
    cores = count_cores()
    return ExecutionPlan(
        device=device,
        threads=settings.threads,
        # The share of this worker.
        max_threads=max(1, cores // (settings.workers or cores)),
        mode=None if settings.execution == "auto" else settings.execution,
        mode_by="setting",
        gpu_memory_mib=settings.gpu_memory_mib,
    )


def _apply_tuning(plan: ExecutionPlan, model_folder: Path) -> ExecutionPlan:
    """Return the service's plan with the overrides of a model's ``tuning.json``.

    A file that cannot be used is logged and ignored; the model is still served.
    """
    extra = {"model": model_folder.name}
    try:
        tuning = read_document(Tuning, model_folder / TUNING)
    except BundleError as error:
        _log.warning("tuning not used", extra=extra | {"reason": str(error)})
        return plan
    if tuning is None:
        return plan
    if tuning.machine and (difference := _describe_difference(tuning.machine)):
        reason = (
            f"{TUNING} was measured elsewhere ({difference}); it is applied; run onward tune here"
        )
        _log.warning("tuning of another machine", extra=extra | {"reason": reason})
    # The CPU always works; any other device only if the service uses it.
    device = "cpu" if tuning.device == "cpu" else plan.device
    if tuning.device is not None and device != tuning.device:
        reason = f"{TUNING} requests {tuning.device}, and the service uses {plan.device}"
        _log.warning("tuning not used", extra=extra | {"reason": reason})
        return plan  # measured on another device
    return replace(
        plan,
        device=device,
        threads=tuning.threads or plan.threads,
        mode=tuning.execution or plan.mode,
        mode_by="tuning.json" if tuning.execution else plan.mode_by,
        max_batch_rows=tuning.max_batch_rows or plan.max_batch_rows,
    )


def describe_machine() -> Machine:
    """Return the processor, the number of cores, and ONNX Runtime's version."""
    return Machine(cpu=read_processor_name(), cores=count_cores(), runtime=RUNTIME_VERSION)


def _describe_difference(other: Machine) -> str:
    """Return how another machine differs from this one; empty if it does not."""
    here = describe_machine()
    compared: list[tuple[str, object, object]] = [
        ("CPU", other.cpu, here.cpu),
        ("cores", other.cores, here.cores),
        ("ONNX Runtime", other.runtime, here.runtime),
    ]
    return "; ".join(f"{name} {value}, here {own}" for name, value, own in compared if value != own)


def load(
    candidate: Candidate,
    plan: ExecutionPlan,
    limits: BatchLimits,
    metrics: Metrics,
    statistics: Statistics | None = None,
) -> ServedModel:
    """Open a version, run its self-test, and measure how to run it.

    A folder with a ``model.onnx`` and no other file of a bundle is a bare model.

    Raises:
        BundleError: the bundle breaks the contract.
        LoadFailed: ONNX Runtime rejects the graph, or it fails its self-test.
    """
    model_folder = candidate.folder.parent
    plan = _apply_tuning(plan, model_folder)
    if plan.max_batch_rows is not None:
        limits = replace(limits, max_batch_rows=plan.max_batch_rows)
    manifest = None
    labels: Mapping[str, Sequence[str]]
    shares_runs = True
    if candidate.is_bare:
        configured = read_triton_batching(model_folder)
        shares_runs = _may_share_runs(plan, configured)
        if plan.max_batch_rows is None and configured:
            limits = replace(limits, max_batch_rows=min(configured, limits.rows_for("batched")))
        bare, execution = _open_bare(candidate, plan, limits)
        session = bare.session
        # The operator's names take precedence over those of the graph.
        labels = {**bare.labels, **read_triton_labels(model_folder)}
    else:
        bundle = read_bundle(candidate.folder)
        manifest = bundle.manifest
        session, execution = _open_bundle(candidate, bundle, plan, limits)
        labels = get_class_labels(manifest)
    info = replace(
        _read_info(candidate, manifest, session.device, limits),
        labels=labels,
        inputs=session.inputs,
        outputs=session.outputs,
        shared_batch_rows=limits.rows_for(execution.mode) if shares_runs else 1,
        execution=execution,
        statistics=statistics or Statistics(),
    )
    return ServedModel(info, session, execution=execution.mode, limits=limits, metrics=metrics)


def _read_info(
    candidate: Candidate, manifest: Manifest | None, device: str, limits: BatchLimits
) -> ModelInfo:
    """Return the metadata in the manifest of a version; that of a bare model is in its graph."""
    return ModelInfo(
        name=candidate.name,
        version=candidate.version,
        folder=candidate.folder,
        device=device,
        manifest=manifest,
        inputs=() if manifest is None else get_input_specs(manifest),
        outputs=() if manifest is None else (get_output_spec(manifest),),
        labels={} if manifest is None else get_class_labels(manifest),
        max_batch_rows=limits.rows_for("batched"),
    )


class VersionLoader:
    """Loads versions on one device, within the limits of the memory."""

    device: str = "cpu"

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.cache = ModelCache(settings.memory_budget_mib, settings.max_loaded_models, metrics)
        self._settings = settings
        self._limits = BatchLimits.from_settings(settings)
        self._metrics = metrics
        self._semaphore = asyncio.Semaphore(_CONCURRENT_LOADS)
        isolated = settings.load_isolation == "process"
        self._sandbox = LoadSandbox(settings.threads or 1) if isolated else None

    async def open(
        self,
        candidate: Candidate,
        statistics: Statistics,
        pinned: Collection[ServedModel],
        is_awaited: Callable[[], bool],
        evict: Callable[[ServedModel], None],
    ) -> Entry:
        """Return the entry of a version, READY or UNAVAILABLE with the reason; raise nothing.

        The version continues the ``statistics``; `Reservation` describes the last three arguments.
        """
        # The sandbox has its own timeout for each load, and loads one version at a time.
        seconds = LOAD_TIMEOUT_SECONDS if self._sandbox is None else None
        reservation = await self.cache.reserve(candidate, pinned, is_awaited, evict)
        model = None
        try:
            async with self._semaphore, asyncio.timeout(seconds):
                entry = await run_in_daemon_thread(self._attempt, self._load, candidate, statistics)
            model = entry.model
        except TimeoutError:
            return _reject(candidate, f"it is not loaded after {LOAD_TIMEOUT_SECONDS:g} s")
        finally:
            if model is None:
                self.cache.release(reservation)
            else:
                self.cache.commit(reservation, candidate, model)
        return entry

    async def read_metadata(self, candidate: Candidate) -> Entry:
        """Return the entry of a version, READY and lazy, or UNAVAILABLE with the reason."""
        return await asyncio.to_thread(self._attempt, self._read_metadata, candidate)

    async def close(self) -> None:
        """Stop the sandbox."""
        if self._sandbox is not None:
            await asyncio.to_thread(self._sandbox.close)

    def _attempt(self, attempt: Callable[..., Entry], candidate: Candidate, *rest: object) -> Entry:
        """Return the result of an attempt, or an UNAVAILABLE entry with the reason."""
        extra = {"model": candidate.name, "version": candidate.version}
        is_servable = True
        try:
            self.cache.require_loadable(candidate)
            return attempt(candidate, *rest)
        except (BundleError, LoadFailed) as error:
            reason = str(error)
            is_servable = not isinstance(error, GraphRejected)
        except Exception as error:  # noqa: BLE001 - an error of one model must not affect the others
            _log.exception("unexpected error while loading a model", extra=extra)
            reason = f"{type(error).__name__} while loading: {error}"
        return _reject(candidate, reason, is_servable=is_servable)

    def _load(self, candidate: Candidate, statistics: Statistics) -> Entry:
        started = perf_counter()
        ready = False
        try:
            if self._sandbox is not None:
                self._sandbox.check(candidate, self.device)
            plan = plan_execution(self._settings, self.device)
            model = load(candidate, plan, self._limits, self._metrics, statistics)
            if compute_fingerprint(candidate.folder) != candidate.fingerprint:
                raise LoadFailed(
                    "its files changed while it was loaded; the next scan loads it again"
                )
            ready = True
        finally:
            seconds = perf_counter() - started
            self._metrics.count_load(seconds, ready=ready)
            if self.cache.is_limited:
                self.cache.heap.trim()
        facts = {
            "model": candidate.name,
            "version": candidate.version,
            "device": model.info.device,
            "execution": model.execution,
            "milliseconds": round(seconds * 1e3),
        }
        _log.info("model ready", extra=facts)
        return Entry.ready(candidate, model.info, model)

    def _read_metadata(self, candidate: Candidate) -> Entry:
        """Read a bundle's manifest and check the sizes of its files; the load checks the digests.

        Only the graph of a bare model contains its metadata.
        """
        info = None
        if candidate.is_bare:
            require_regular(candidate.folder / MODEL)
        else:
            manifest = read_manifest(candidate.folder)
            require_sizes(candidate.folder, manifest)
            info = _read_info(candidate, manifest, self.device, self._limits)
        return Entry.ready(candidate, info)


def _reject(candidate: Candidate, reason: str, *, is_servable: bool = True) -> Entry:
    extra = {"model": candidate.name, "version": candidate.version, "reason": reason}
    _log.error("model rejected", extra=extra)
    return Entry.rejected(candidate, reason, is_servable=is_servable)


def _may_share_runs(plan: ExecutionPlan, configured: int | None) -> bool:
    """Return whether several requests to a bare model may share a run.

    Only the operator knows whether its rows are independent of each other; ``tuning.json`` takes
    precedence over ``configured``, the result of `read_triton_batching`.
    """
    if plan.max_batch_rows is not None:
        return plan.max_batch_rows > 1
    return configured is not None or (plan.mode == "batched" and plan.mode_by == "tuning.json")


def _open_bare(
    candidate: Candidate, plan: ExecutionPlan, limits: BatchLimits
) -> tuple[BareGraph, Execution]:
    """Open a bare model, which runs in a thread unless the operator configures otherwise."""

    def open_session(onnx: OnnxFile, weights: Weights) -> Session:
        return _open_session(onnx, plan, limits, plan.threads or 1, weights)

    bare = open_bare_graph(candidate.folder, open_session)
    mode, chosen_by = _choose_mode(candidate, plan, None, _find_unbounded(bare.session, bare.graph))
    return bare, Execution(mode, chosen_by, bare.session.config.threads)


def _open_bundle(
    candidate: Candidate, bundle: Bundle, plan: ExecutionPlan, limits: BatchLimits
) -> tuple[Session, Execution]:
    """Open a bundle with the fastest number of threads, and run its self-test."""
    onnx = OnnxFile(bundle.model, bundle.graph)
    session = _open_session(onnx, plan, limits, plan.threads or 1)
    is_bitwise = run_self_test(session, bundle, limits.deadline_seconds)
    inputs = to_arrays(bundle.examples)
    seconds = measure_row(session, inputs)
    threads = plan.max_threads if not plan.threads and plan.device == "cpu" else 1
    if threads > 1 and seconds > _MIN_SECONDS_TO_TRY_THREADS:
        del session  # two sessions at a time would take twice the memory
        session = _open_session(onnx, plan, limits, threads)
        threaded = measure_row(session, inputs)
        if threaded < seconds * _MAX_THREADED_SHARE:
            seconds = threaded
        else:
            del session
            session = _open_session(onnx, plan, limits, 1)
        is_bitwise = run_self_test(session, bundle, limits.deadline_seconds)
    mode, chosen_by = _choose_mode(candidate, plan, seconds, _find_unbounded(session, bundle.graph))
    return session, Execution(mode, chosen_by, session.config.threads, seconds, is_bitwise)


def _choose_mode(
    candidate: Candidate, plan: ExecutionPlan, seconds: float | None, unbounded: str
) -> tuple[Mode, ChosenBy]:
    """Return how the model runs, and what determined it.

    A model that is ``unbounded``, which is the reason, never runs on the event loop; ``seconds`` is
    the time of a row, or None if it was not measured.
    """
    if unbounded:
        if plan.mode == "inline":
            extra = {"model": candidate.name, "version": candidate.version}
            reason = f"{plan.mode_by} says inline, but {unbounded}; it runs in a thread"
            _log.warning("not run on the event loop", extra=extra | {"reason": reason})
        return "batched", "graph"
    if plan.mode is not None:
        return plan.mode, plan.mode_by
    if seconds is None:
        return "batched", "graph"
    return ("inline" if seconds < INLINE_ROW_SECONDS else "batched"), "warm-up"


def _find_unbounded(session: Session, graph: GraphSummary) -> str:
    """Return why the duration of a run has no bound; empty if it has one.

    Without a bound a graph never runs on the event loop, where all other requests would wait.
    """
    if graph.unbounded:
        return f"the input of its operator {graph.unbounded} determines how long it takes"
    for spec in session.inputs:
        # Without axes it is a scalar, or a tensor whose rank the graph does not declare.
        if not spec.shape or min(spec.shape[1:], default=0) < 0:
            return f"its input {spec.name!r} has an axis of any length other than the batch axis"
    return ""


def _open_session(
    onnx: OnnxFile,
    plan: ExecutionPlan,
    limits: BatchLimits,
    threads: int,
    weights: Weights = NO_WEIGHTS,
) -> Session:
    config = SessionConfig(
        threads=threads,
        # The memory of an unbounded run does not depend on the number of rows.
        arena_rows=0 if onnx.graph.unbounded else limits.rows_for("batched"),
        gpu_memory_mib=plan.gpu_memory_mib,
    )
    return Session.open(onnx.content, plan.device, config, weights)
