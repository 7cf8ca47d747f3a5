"""The counts of all processes as Prometheus text: the only importer of prometheus_client."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import accumulate

from prometheus_client import CONTENT_TYPE_LATEST
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from service.observability.metrics import (
    LOAD_SECONDS,
    ROWS,
    SECONDS,
    Counts,
    Distribution,
    Phases,
    Snapshot,
    State,
    VersionCounts,
)

CONTENT_TYPE = CONTENT_TYPE_LATEST

_READY = "READY"
_VERSION = ("model", "version")


def exposition(
    running: Sequence[bytes],
    ended: Sequence[bytes] = (),
    hidden: Collection[tuple[str, str]] = (),
) -> bytes:
    """The Prometheus text of several processes, added up; for any thread.

    Args:
        running: a snapshot of each process.
        ended: the last one of processes that ended, of which only the counts matter.
        hidden: models and versions to leave out.

    Raises:
        ValueError: one of them is no snapshot.
    """
    counts = Counts()
    states = []
    for content in running:
        snapshot = Snapshot.from_json(content)
        counts.add(snapshot.counts)
        states.append(snapshot.state)
    for content in ended:
        counts.add(Snapshot.from_json(content).counts)
    for key in hidden:
        counts.remove(*key)
    return generate_latest(_Families(counts, states))


class _Families(Collector):
    """What the metrics library makes its text from.

    Args:
        counts: of all processes.
        states: of each running process.
    """

    def __init__(self, counts: Counts, states: Sequence[State]) -> None:
        self._counts = counts
        self._states = states
        self._versions = [
            ((model, version), one)
            for model, versions in counts.versions.items()
            for version, one in versions.items()
        ]

    def collect(self) -> Iterator[Metric]:
        """Every metric, with or without samples."""
        yield from self._of_requests()
        yield from self._of_predictions()
        yield from self._of_explanations()
        yield from self._of_states()
        yield from self._of_memory()

    def _of_requests(self) -> Iterator[Metric]:
        yield _counter(
            "onward_responses_total",
            "HTTP responses by status.",
            ("status",),
            {(str(status),): times for status, times in self._counts.statuses.items()},
        )
        yield _counter(
            "onward_rejected_requests_total",
            "Requests and connections rejected by a limit or a timeout, by the error's code.",
            ("reason",),
            {(reason,): times for reason, times in self._counts.rejections.items()},
        )

    def _of_predictions(self) -> Iterator[Metric]:
        yield _counter(
            "onward_requests_total",
            "Predictions requested, by outcome: ok, or the error's code.",
            (*_VERSION, "dialect", "outcome"),
            {(*key, *outcome): n for key, one in self._versions for outcome, n in _outcomes(one)},
        )
        answered = [(key, one) for key, one in self._versions if one.answered]
        yield _counter(
            "onward_rows_total", "Rows predicted.", _VERSION, {k: one.rows for k, one in answered}
        )
        yield _counter(
            "onward_refused_rows_total",
            "Rows of tables that failed.",
            _VERSION,
            {key: one.failed_rows for key, one in self._versions if one.failed_rows},
        )
        yield _histogram(
            "onward_phase_seconds",
            "Time of a prediction by phase: decode, queue, compute, encode.",
            (*_VERSION, "phase"),
            SECONDS,
            {
                (*key, phase): seconds
                for key, one in answered
                for phase, seconds in zip(Phases._fields, one.phases, strict=True)
            },
        )
        yield _histogram(
            "onward_batch_rows",
            "Rows of each run.",
            _VERSION,
            ROWS,
            {key: one.runs for key, one in self._versions if any(one.runs.counts)},
        )
        yield _counter(
            "onward_shadow_requests_total",
            "Copies of requests for a candidate version: compared, dropped or failed.",
            (*_VERSION, "outcome"),
            {(*key, it): n for key, one in self._versions for it, n in one.shadow_requests.items()},
        )

    def _of_explanations(self) -> Iterator[Metric]:
        yield _counter(
            "onward_explanations_total",
            "Explanations requested, by outcome: ok, or the error's code.",
            (*_VERSION, "outcome"),
            {(*key, it): n for key, one in self._versions for it, n in one.explanations.items()},
        )
        yield _histogram(
            "onward_explanation_seconds",
            "Time of an explanation, including its prediction and all runs of the model.",
            _VERSION,
            SECONDS,
            {key: one.explanation_seconds for key, one in self._versions if one.explanations},
        )

    def _of_states(self) -> Iterator[Metric]:
        ready: dict[tuple[str, ...], int] = {}
        states: Counter[tuple[str, ...]] = Counter()
        for one in self._states:
            for model, versions in one.versions.items():
                for version, (device, state) in versions.items():
                    key = model, version, device
                    ready[key] = min(ready.get(key, 1), int(state == _READY))
                    states[model, version, state] += 1
        yield _gauge(
            "onward_model_ready",
            "1 where this version serves, 0 where it cannot; device is the one really used.",
            (*_VERSION, "device"),
            ready,
        )
        yield _gauge(
            "onward_model_state",
            "How many workers have this version in this state; states without any are left out.",
            (*_VERSION, "state"),
            states,
        )
        yield _histogram(
            "onward_load_seconds",
            "Time to open, check, test and warm a version, by outcome: ready or refused.",
            ("outcome",),
            LOAD_SECONDS,
            {(outcome,): seconds for outcome, seconds in self._counts.loads.items()},
        )

    def _of_memory(self) -> Iterator[Metric]:
        yield _gauge(
            "onward_device_info",
            "Always 1; the device that was requested and the one really used.",
            ("requested", "actual"),
            {pair: 1 for one in self._states for pair in one.devices},
        )
        yield _gauge(
            "onward_memory_bytes",
            "Memory that the models take, estimated from their files.",
            (),
            {(): sum(one.memory_bytes for one in self._states)},
        )
        yield _counter(
            "onward_evictions_total",
            "Models removed from memory to make room for others.",
            (),
            {(): self._counts.evictions},
        )


def _outcomes(counts: VersionCounts) -> Iterator[tuple[tuple[str, str], int]]:
    """Protocol and outcome of a version's predictions, and how many had both."""
    for protocol, times in counts.answered.items():
        yield (protocol, "ok"), times
    for protocol, codes in counts.failed.items():
        for code, times in codes.items():
            yield (protocol, code), times


def _counter(
    name: str, text: str, labels: Sequence[str], values: Mapping[tuple[str, ...], int]
) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _gauge(
    name: str, text: str, labels: Sequence[str], values: Mapping[tuple[str, ...], int]
) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _histogram(
    name: str,
    text: str,
    labels: Sequence[str],
    bounds: Sequence[float],
    values: Mapping[tuple[str, ...], Distribution],
) -> Metric:
    family = HistogramMetricFamily(name, text, labels=labels)
    ends = [*(str(bound) for bound in bounds[:-1]), "+Inf"]
    for key, value in values.items():
        buckets = list(zip(ends, accumulate(value.counts), strict=True))
        family.add_metric(key, buckets, value.total)
    return family
