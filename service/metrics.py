"""Every counter, gauge and histogram."""

import contextlib
import math
from collections.abc import Sequence
from functools import cache

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)
from prometheus_client.exposition import generate_latest

from service.counting import Counted, Phases
from service.shared_metrics import SILENT, OfAllWorkers, pending_of_this_worker, workers_folder

CONTENT_TYPE = CONTENT_TYPE_LATEST
_READY = "READY"
_STATE = "onward_model_state"

_SECONDS = (
    *(0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005),
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
_LOAD_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16_384, 65_536)
_VERSION = ["model", "version"]
# What the histograms of phases have besides what they are given.
_BOUNDS = (*_SECONDS, math.inf)


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
        self._rejected = Counter(
            "onward_rejected_requests_total",
            "Requests and connections rejected by a limit or a timeout, by the error's code.",
            ["reason"],
            registry=registry,
        )
        self._make_those_of_predictions(registry)
        self._make_those_of_explanations(registry)
        self._make_those_of_models(registry)
        self._count_first()
        self._pending = pending_of_this_worker()
        if self._pending is not None and (left := self._pending.left) is not None:
            self._counted.add_numbers(left)
            self.settle()

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

    def _count_first(self) -> None:
        """Make room for what is counted in plain numbers, and look up other label sets once."""
        self._counted = Counted(_BOUNDS)
        self._batches_of = cache(self._batches.labels)
        self._phase_of = cache(self._phases.labels)
        self._requests_of = cache(self._requests.labels)
        self._rows_of = cache(self._rows.labels)
        self._responses_of = cache(self._responses.labels)

    def predicted(self, model: str, version: str, dialect: str, rows: int, phases: Phases) -> None:
        """Count one prediction that was answered; on the event loop."""
        counted = self._counted
        answered = counted.answered.get((model, version)) or counted.of(model, version)
        answered.add(dialect, rows, phases)

    def responded(self, status: int) -> None:
        """Count one HTTP response; on the event loop."""
        statuses = self._counted.statuses
        statuses[status] = statuses.get(status, 0) + 1

    def rejected(self, reason: str) -> None:
        """Count one request or connection that exceeded a limit or a timeout."""
        self._rejected.labels(reason).inc()

    @property
    def is_shared(self) -> bool:
        """Whether others tell what is settled here."""
        return self._shared

    def keep_if_shared(self) -> None:
        """Keep what was counted in plain numbers for the worker that follows this one, if any."""
        if self._pending is not None and not self._pending.keep(self._counted.numbers):
            self.settle()

    def settle(self) -> None:
        """Take over what was counted in plain numbers; on the event loop."""
        counted, self._counted = self._counted, Counted(_BOUNDS)
        for status, times in counted.statuses.items():
            self._responses_of(str(status)).inc(times)
        for (model, version), answered in counted.answered.items():
            self._rows_of(model, version).inc(answered.rows)
            for dialect, times in answered.by_dialect.items():
                self._requests_of(model, version, dialect, "ok").inc(times)
            told = zip(Phases._fields, answered.counts, answered.seconds, strict=True)
            for phase, counts, seconds in told:
                _observe(self._phase_of(model, version, phase), counts, seconds)
        if self._pending is not None and (counted.statuses or counted.answered):
            self._pending.forget()

    def refused_rows(self, model: str, version: str, rows: int) -> None:
        """Count rows of a table that got an error in their place."""
        self._refused_rows.labels(model, version).inc(rows)

    def failed(self, model: str, version: str, dialect: str, code: str) -> None:
        """Count one prediction that was refused or failed."""
        self._requests.labels(model, version, dialect, code).inc()

    def explained(self, model: str, version: str, outcome: str, seconds: float) -> None:
        """Count one explanation that was asked for."""
        self._explanations.labels(model, version, outcome).inc()
        self._explaining.labels(model, version).observe(seconds)

    def ran(self, model: str, version: str, rows: int) -> None:
        """Count one run of a model over ``rows`` rows."""
        self._batches_of(model, version).observe(rows)

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
            self._ready.labels(model, version, device).set(SILENT)
        else:
            self._ready.remove(model, version, device)

    def version_removed(self, model: str, version: str) -> None:
        """Drop the histograms of a version whose folder is gone; what was counted stays.

        They take most of the room, and who publishes every hour would never have enough of it.
        Files that workers share cannot shrink.
        """
        if self._shared:
            return
        self.settle()
        for phase in Phases._fields:
            self._drop(self._phases, model, version, phase)
        self._drop(self._batches, model, version)
        self._batches_of.cache_clear()
        self._phase_of.cache_clear()

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
        self.settle()
        if not self._shared:
            return generate_latest(self._registry)
        registry = CollectorRegistry()
        registry.register(OfAllWorkers(_STATE))
        return generate_latest(registry)


def _observe(histogram: Histogram, counts: Sequence[int], total: float) -> None:
    """Many observations at once, for which the library has no call; a bucket has its own alone."""
    for bucket, times in zip(histogram._buckets, counts, strict=True):  # noqa: SLF001 - as above
        if times:
            bucket.inc(times)
    histogram._sum.inc(total)  # noqa: SLF001 - as above
