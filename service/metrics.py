"""Every counter, gauge and histogram: the only importer of prometheus_client."""

import contextlib
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    disable_created_metrics,
    values,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

CONTENT_TYPE = CONTENT_TYPE_LATEST
# Where the workers of one service keep their files; `service.__main__` sets it before they start,
# and prometheus_client reads it itself.
WORKERS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
# What a gauge holds in shared files, where nothing can be removed, once it has nothing to say. The
# least of all workers' values is told, so it loses against any that has.
_SILENT = math.inf
_READY = "READY"
_PHASES = ("decode", "queue", "compute", "encode")
_STATE = "onward_model_state"

_SECONDS = (
    *(0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005),
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
_LOAD_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16_384, 65_536)
_VERSION = ["model", "version"]


@dataclass(frozen=True)
class Phases:
    """How long one prediction spent where, in seconds."""

    decode: float
    queue: float
    compute: float
    encode: float


def workers_folder() -> Path | None:
    """The folder that this process shares with the other workers, where there are several."""
    folder = os.environ.get(WORKERS_FOLDER)
    return Path(folder) if folder else None


def count_in_files(slot: int) -> None:
    """Keep what is counted from now on in the shared folder, as the worker of this place.

    Counts go on from where the worker before it in this place left them; its states are dropped.
    """
    values.ValueClass = values.MultiProcessValue(lambda: slot)  # type: ignore[no-untyped-call] # the library leaves it untyped
    mark_process_dead(slot)  # type: ignore[no-untyped-call] # as above


class Metrics:
    """One app's metrics.

    Two apps in one process share nothing; the workers of one service add theirs up.
    """

    def __init__(self) -> None:
        # Else each counter brings a gauge of its first moment.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library leaves it untyped
        registry = CollectorRegistry()
        self._registry = registry
        self._shared = workers_folder() is not None
        self._responses = Counter(
            "onward_responses_total", "HTTP responses by status.", ["status"], registry=registry
        )
        self._make_those_of_predictions(registry)
        self._make_those_of_explanations(registry)
        self._make_those_of_models(registry)
        self._look_up_once()

    def _make_those_of_predictions(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "onward_requests_total",
            "Predictions asked for, by outcome: ok, or the error's code.",
            ["model", "version", "dialect", "outcome"],
            registry=registry,
        )
        self._rows = Counter("onward_rows_total", "Rows predicted.", _VERSION, registry=registry)
        self._refused_rows = Counter(
            "onward_refused_rows_total", "Rows of tables that failed.", _VERSION, registry=registry
        )
        self._phases = Histogram(
            "onward_phase_seconds",
            "Time of a prediction by phase: decode, queue, compute, encode.",
            ["model", "version", "phase"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._batches = Histogram(
            "onward_batch_rows", "Rows of each run.", _VERSION, buckets=_ROWS, registry=registry
        )

    def _make_those_of_explanations(self, registry: CollectorRegistry) -> None:
        self._explanations = Counter(
            "onward_explanations_total",
            "Explanations asked for, by outcome: ok, or the error's code.",
            ["model", "version", "outcome"],
            registry=registry,
        )
        self._explaining = Histogram(
            "onward_explanation_seconds",
            "Time of an explanation, its prediction and all that the model was asked included.",
            ["model", "version"],
            buckets=_SECONDS,
            registry=registry,
        )

    def _make_those_of_models(self, registry: CollectorRegistry) -> None:
        self._ready = Gauge(
            "onward_model_ready",
            "1 where this version serves, 0 where it cannot; device is the one really used.",
            ["model", "version", "device"],
            multiprocess_mode="livemin",
            registry=registry,
        )
        self._state = Gauge(
            _STATE,
            "How many workers have this version in this state; states that none has are not told.",
            ["model", "version", "state"],
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._states: dict[tuple[str, str], str] = {}
        self._device = Gauge(
            "onward_device_info",
            "Always 1; the device that was asked for and the one really used.",
            ["requested", "actual"],
            multiprocess_mode="livemax",
            registry=registry,
        )
        self._memory = Gauge(
            "onward_memory_bytes",
            "Memory that the models take, as told from their files.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._evictions = Counter(
            "onward_evictions_total",
            "Models put out of memory to make room for others.",
            registry=registry,
        )
        self._loads = Histogram(
            "onward_load_seconds",
            "Time to open, check, prove and warm a version, by outcome: ready or refused.",
            ["outcome"],
            buckets=_LOAD_SECONDS,
            registry=registry,
        )
        self._shadows = Counter(
            "onward_shadow_requests_total",
            "Copies of requests for a candidate version: compared, dropped or failed.",
            ["model", "version", "outcome"],
            registry=registry,
        )

    def _look_up_once(self) -> None:
        """Remember each label set, because looking one up costs more than observing it."""
        self._requests_of = cache(self._requests.labels)
        self._rows_of = cache(self._rows.labels)
        self._phase_of = cache(self._phases.labels)
        self._batches_of = cache(self._batches.labels)
        self._responses_of = cache(self._responses.labels)

    def predicted(self, model: str, version: str, dialect: str, rows: int, phases: Phases) -> None:
        """Count one prediction that was answered."""
        self._requests_of(model, version, dialect, "ok").inc()
        self._rows_of(model, version).inc(rows)
        self._phase_of(model, version, "decode").observe(phases.decode)
        self._phase_of(model, version, "queue").observe(phases.queue)
        self._phase_of(model, version, "compute").observe(phases.compute)
        self._phase_of(model, version, "encode").observe(phases.encode)

    def refused_rows(self, model: str, version: str, rows: int) -> None:
        """Count rows of a table that got an error in their place."""
        self._refused_rows.labels(model, version).inc(rows)

    def failed(self, model: str, version: str, dialect: str, code: str) -> None:
        """Count one prediction that was refused or failed."""
        self._requests_of(model, version, dialect, code).inc()

    def explained(self, model: str, version: str, outcome: str, seconds: float) -> None:
        """Count one explanation that was asked for."""
        self._explanations.labels(model, version, outcome).inc()
        self._explaining.labels(model, version).observe(seconds)

    def ran(self, model: str, version: str, rows: int) -> None:
        """Count one run of a model over ``rows`` rows."""
        self._batches_of(model, version).observe(rows)

    def responded(self, status: int) -> None:
        """Count one HTTP response."""
        self._responses_of(str(status)).inc()

    def shadowed(self, model: str, version: str, outcome: str, times: int) -> None:
        """Count copies of requests that a candidate version was to answer."""
        self._shadows.labels(model, version, outcome).inc(times)

    def model_state(self, model: str, version: str, device: str, state: str) -> None:
        """Say in which state a version is, and so whether it serves, and on which device."""
        self._ready.labels(model, version, device).set(1 if state == _READY else 0)
        self._leave_state(model, version)
        self._states[model, version] = state
        self._state.labels(model, version, state).set(1)

    def model_gone(self, model: str, version: str, device: str) -> None:
        """Stop telling about a version that is no longer there; its counts stay."""
        self._leave_state(model, version)
        if self._shared:
            self._ready.labels(model, version, device).set(_SILENT)
        else:
            self._ready.remove(model, version, device)

    def version_removed(self, model: str, version: str) -> None:
        """Drop the histograms of a version whose folder is gone; what was counted stays.

        They take most of the room, and who publishes every hour would never have enough of it.
        Files that workers share cannot shrink.
        """
        if self._shared:
            return
        for phase in _PHASES:
            self._drop(self._phases, model, version, phase)
        self._drop(self._batches, model, version)
        self._phase_of.cache_clear()
        self._batches_of.cache_clear()

    @staticmethod
    def _drop(histogram: Histogram, *labels: str) -> None:
        with contextlib.suppress(KeyError):  # nobody asked that version
            histogram.remove(*labels)

    def _leave_state(self, model: str, version: str) -> None:
        before = self._states.pop((model, version), None)
        if before is None:
            return
        if self._shared:
            self._state.labels(model, version, before).set(0)
        else:
            self._state.remove(model, version, before)

    def loaded(self, seconds: float, *, ready: bool) -> None:
        """Tell how long the opening of a version took."""
        self._loads.labels("ready" if ready else "refused").observe(seconds)

    def memory(self, size: int) -> None:
        """Say how many bytes the models take."""
        self._memory.set(size)

    def evicted(self) -> None:
        """Count a model that left for another."""
        self._evictions.inc()

    def device(self, requested: str, actual: str) -> None:
        """Say which device was asked for and which one is used."""
        self._device.labels(requested, actual).set(1)

    def exposition(self) -> bytes:
        """The Prometheus text; with several workers, that of all of them added up."""
        if not self._shared:
            return generate_latest(self._registry)
        registry = CollectorRegistry()
        registry.register(_OfAllWorkers())
        return generate_latest(registry)


class _OfAllWorkers(Collector):
    """The workers' metrics added up, without those that have nothing to say."""

    def collect(self) -> Iterator[Metric]:
        for metric in MultiProcessCollector(None).collect():  # type: ignore[no-untyped-call] # as above
            silent = 0 if metric.name == _STATE else _SILENT
            metric.samples = [sample for sample in metric.samples if sample.value != silent]
            yield metric
