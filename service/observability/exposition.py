"""Metrics of all processes in Prometheus text format: the only importer of prometheus_client."""

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
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from service.observability.metrics import (
    LOAD_SECONDS,
    ROWS,
    SECONDS,
    Counts,
    Distribution,
    Phases,
    ProcessState,
    Snapshot,
    VersionCounts,
)

CONTENT_TYPE = CONTENT_TYPE_LATEST

_READY = "READY"
_VERSION = ("model", "version")


def render_exposition(
    running: Sequence[bytes],
    ended: Sequence[bytes] = (),
    expired: Collection[tuple[str, str]] = (),
) -> bytes:
    """Return the sums of several processes in Prometheus text format. Thread-safe.

    Raises `ValueError` if one of them is not a snapshot.

    Args:
        running: a snapshot of each running process.
        ended: the last snapshot of each process that ended; only its counts are used.
        expired: models and versions to omit.
    """
    counts = Counts()
    states = []
    for content in running:
        snapshot = Snapshot.from_json(content)
        counts.add(snapshot.counts)
        states.append(snapshot.state)
    for content in ended:
        counts.add(Snapshot.from_json(content).counts)
    for key in expired:
        counts.remove(*key)
    return generate_latest(_MetricsCollector(counts, states))


def read_samples(text: str) -> Sequence[tuple[str, Mapping[str, str], float]]:
    """Return name, labels and value of each sample; raise `ValueError` if the text is invalid."""
    return [
        (sample.name, sample.labels, sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]


class _MetricsCollector(Collector):
    """Converts the counts of all processes, and the states of running ones, to metric families."""

    def __init__(self, counts: Counts, states: Sequence[ProcessState]) -> None:
        self._counts = counts
        self._states = states
        self._versions = [
            ((model, version), version_counts)
            for model, versions in counts.versions.items()
            for version, version_counts in versions.items()
        ]

    def collect(self) -> Iterator[Metric]:
        """Yield every metric, with or without samples."""
        yield from self._request_metrics()
        yield from self._prediction_metrics()
        yield from self._explanation_metrics()
        yield from self._state_metrics()
        yield from self._memory_metrics()

    def _request_metrics(self) -> Iterator[Metric]:
        yield _metric(
            "onward_responses_total",
            "HTTP responses by status.",
            ("status",),
            {(str(status),): times for status, times in self._counts.statuses.items()},
        )
        yield _metric(
            "onward_rejected_requests_total",
            "Requests and connections rejected by a limit or a timeout, by the error's code.",
            ("reason",),
            {(reason,): times for reason, times in self._counts.rejections.items()},
        )

    def _prediction_metrics(self) -> Iterator[Metric]:
        versions = self._versions
        succeeded = [(key, counts) for key, counts in versions if counts.succeeded]
        yield _metric(
            "onward_requests_total",
            "Predictions requested, by outcome: ok, or the error's code.",
            (*_VERSION, "protocol", "outcome"),
            {(*key, *outcome): n for key, counts in versions for outcome, n in _outcomes(counts)},
        )
        yield _metric(
            "onward_rows_total",
            "Rows predicted.",
            _VERSION,
            {key: counts.rows for key, counts in succeeded},
        )
        yield _metric(
            "onward_rejected_rows_total",
            "Rows of tables that failed.",
            _VERSION,
            {key: counts.rejected_rows for key, counts in versions if counts.rejected_rows},
        )
        yield _histogram(
            "onward_phase_seconds",
            "Time of a prediction by phase: decode, queue, compute, encode.",
            (*_VERSION, "phase"),
            SECONDS,
            {
                (*key, phase): seconds
                for key, counts in succeeded
                for phase, seconds in zip(Phases._fields, counts.phases, strict=True)
            },
        )
        yield _histogram(
            "onward_batch_rows",
            "Rows of each run.",
            _VERSION,
            ROWS,
            {key: counts.runs for key, counts in versions if any(counts.runs.counts)},
        )
        yield _metric(
            "onward_shadow_requests_total",
            "Copies of requests for a candidate version: compared, dropped or failed.",
            (*_VERSION, "outcome"),
            {
                (*key, outcome): times
                for key, counts in versions
                for outcome, times in counts.shadow_requests.items()
            },
        )

    def _explanation_metrics(self) -> Iterator[Metric]:
        versions = self._versions
        yield _metric(
            "onward_explanations_total",
            "Explanations requested, by outcome: ok, or the error's code.",
            (*_VERSION, "outcome"),
            {
                (*key, outcome): times
                for key, counts in versions
                for outcome, times in counts.explanations.items()
            },
        )
        yield _histogram(
            "onward_explanation_seconds",
            "Time of an explanation, including its prediction and all runs of the model.",
            _VERSION,
            SECONDS,
            {key: counts.explanation_seconds for key, counts in versions if counts.explanations},
        )

    def _state_metrics(self) -> Iterator[Metric]:
        ready: dict[tuple[str, ...], int] = {}
        states: Counter[tuple[str, ...]] = Counter()
        for process in self._states:
            for model, versions in process.versions.items():
                for version, (device, state) in versions.items():
                    key = model, version, device
                    ready[key] = min(ready.get(key, 1), int(state == _READY))
                    states[model, version, state] += 1
        yield _metric(
            "onward_model_ready",
            "1 where this version serves, 0 where it cannot; device is the one really used.",
            (*_VERSION, "device"),
            ready,
        )
        yield _metric(
            "onward_model_state",
            "How many workers have this version in this state; states without any are left out.",
            (*_VERSION, "state"),
            states,
        )
        yield _histogram(
            "onward_load_seconds",
            "Time to open, check, test and warm a version, by outcome: ready or rejected.",
            ("outcome",),
            LOAD_SECONDS,
            {(outcome,): seconds for outcome, seconds in self._counts.loads.items()},
        )

    def _memory_metrics(self) -> Iterator[Metric]:
        yield _metric(
            "onward_device_info",
            "Always 1; the device that was requested and the one really used.",
            ("requested", "actual"),
            {pair: 1 for process in self._states for pair in process.devices},
        )
        yield _metric(
            "onward_memory_bytes",
            "Memory that the models take, estimated from their files.",
            (),
            {(): sum(process.memory_bytes for process in self._states)},
        )
        yield _metric(
            "onward_evictions_total",
            "Models removed from memory to make room for others.",
            (),
            {(): self._counts.evictions},
        )


def _outcomes(counts: VersionCounts) -> Iterator[tuple[tuple[str, str], int]]:
    """Yield protocol and outcome of a version's predictions, with their number."""
    for protocol, times in counts.succeeded.items():
        yield (protocol, "ok"), times
    for protocol, codes in counts.failed.items():
        for code, times in codes.items():
            yield (protocol, code), times


def _metric(
    name: str, text: str, labels: Sequence[str], values: Mapping[tuple[str, ...], int]
) -> Metric:
    """Return a counter if the name ends in _total, and otherwise a gauge."""
    kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
    family = kind(name, text, labels=labels)
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
    bucket_labels = [*(str(bound) for bound in bounds[:-1]), "+Inf"]
    for key, value in values.items():
        buckets = list(zip(bucket_labels, accumulate(value.counts), strict=True))
        family.add_metric(key, buckets, value.total)
    return family
