"""Metrics of all processes in Prometheus text format: the only importer of prometheus_client."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import (
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
    Phases,
    ProcessState,
    Snapshot,
    VersionCounts,
)

CONTENT_TYPE = CONTENT_TYPE_LATEST

_READY = "READY"
_VERSION = ("model", "version")


# By the values of the labels: a number, or the `Distribution` of a histogram.
_Samples = dict[tuple[str, ...], Any]
_Values = defaultdict[str, _Samples]


class _Family(NamedTuple):
    """A metric's help, its labels, and the upper bounds of a histogram's buckets."""

    text: str
    labels: Sequence[str] = ()
    bounds: Sequence[float] = ()


# Every metric is exported, with or without samples.
_FAMILIES = {
    "onward_responses_total": _Family("HTTP responses by status.", ["status"]),
    "onward_rejected_requests_total": _Family(
        "Requests and connections rejected by a limit or a timeout, by the error's code.",
        ["reason"],
    ),
    "onward_requests_total": _Family(
        "Predictions requested, by outcome: ok, or the error's code.",
        [*_VERSION, "protocol", "outcome"],
    ),
    "onward_rows_total": _Family("Rows predicted.", _VERSION),
    "onward_rejected_rows_total": _Family("Rows of tables that failed.", _VERSION),
    "onward_phase_seconds": _Family(
        "Time of a prediction by phase: decode, queue, compute, encode.",
        [*_VERSION, "phase"],
        SECONDS,
    ),
    "onward_batch_rows": _Family("Rows of each run.", _VERSION, ROWS),
    "onward_shadow_requests_total": _Family(
        "Copies of requests for a candidate version: compared, dropped or failed.",
        [*_VERSION, "outcome"],
    ),
    "onward_explanations_total": _Family(
        "Explanations requested, by outcome: ok, or the error's code.", [*_VERSION, "outcome"]
    ),
    "onward_explanation_seconds": _Family(
        "Time of an explanation, including its prediction and all runs of the model.",
        _VERSION,
        SECONDS,
    ),
    "onward_model_ready": _Family(
        "1 where this version serves, 0 where it cannot; device is the one really used.",
        [*_VERSION, "device"],
    ),
    "onward_model_state": _Family(
        "How many workers have this version in this state; states without any are left out.",
        [*_VERSION, "state"],
    ),
    "onward_load_seconds": _Family(
        "Time to open, check, test and warm a version, by outcome: ready or rejected.",
        ["outcome"],
        LOAD_SECONDS,
    ),
    "onward_device_info": _Family(
        "Always 1; the device that was requested and the one really used.", ["requested", "actual"]
    ),
    "onward_memory_bytes": _Family("Memory that the models take, estimated from their files."),
    "onward_evictions_total": _Family("Models removed from memory to make room for others."),
}


def render_exposition(
    running: Sequence[bytes],
    ended: Sequence[bytes] = (),
    expired: Collection[tuple[str, str]] = (),
) -> bytes:
    """Return the sums of several processes in Prometheus text format. Thread-safe.

    Raise `ValueError` if one of them is not a snapshot.

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
    return generate_latest(_MetricsCollector(_collect_values(counts, states)))


def read_samples(text: str) -> Sequence[tuple[str, Mapping[str, str], float]]:
    """Return name, labels and value of each sample; raise `ValueError` if the text is invalid."""
    return [
        (sample.name, sample.labels, sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]


class _MetricsCollector(Collector):
    """Converts values to metric families."""

    def __init__(self, values: _Values) -> None:
        self._values = values

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        for name, (text, labels, bounds) in _FAMILIES.items():
            values = self._values[name].items()
            if bounds:
                histogram = HistogramMetricFamily(name, text, labels=labels)
                buckets = [*(str(bound) for bound in bounds[:-1]), "+Inf"]
                for key, value in values:
                    counts = list(zip(buckets, accumulate(value.counts), strict=True))
                    histogram.add_metric(key, counts, value.total)
                yield histogram
            else:
                kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
                family = kind(name, text, labels=labels)
                for key, value in values:
                    family.add_metric(key, value)
                yield family


def _collect_values(counts: Counts, states: Sequence[ProcessState]) -> _Values:
    """Return the values of all metrics, given the states of running processes."""
    values: _Values = defaultdict(dict)
    values["onward_evictions_total"][()] = counts.evictions
    values["onward_memory_bytes"][()] = sum(process.memory_bytes for process in states)
    _add_by_label(values["onward_responses_total"], (), counts.statuses)
    _add_by_label(values["onward_rejected_requests_total"], (), counts.rejections)
    _add_by_label(values["onward_load_seconds"], (), counts.loads)
    for model, versions in counts.versions.items():
        for version, version_counts in versions.items():
            _add_version(values, (model, version), version_counts)
    for process in states:
        _add_state(values, process)
    return values


def _add_by_label(values: _Samples, key: Sequence[str], by_label: Mapping[Any, Any]) -> None:
    """Add each value below its key, which becomes the last label."""
    for label, value in by_label.items():
        values[*key, str(label)] = value


def _add_version(values: _Values, version: tuple[str, str], counts: VersionCounts) -> None:
    for protocol, times in counts.succeeded.items():
        values["onward_requests_total"][*version, protocol, "ok"] = times
    for protocol, codes in counts.failed.items():
        _add_by_label(values["onward_requests_total"], (*version, protocol), codes)
    _add_by_label(values["onward_shadow_requests_total"], version, counts.shadow_requests)
    _add_by_label(values["onward_explanations_total"], version, counts.explanations)
    if counts.succeeded:
        values["onward_rows_total"][version] = counts.rows
        phases = dict(zip(Phases._fields, counts.phases, strict=True))
        _add_by_label(values["onward_phase_seconds"], version, phases)
    if counts.rejected_rows:
        values["onward_rejected_rows_total"][version] = counts.rejected_rows
    if any(counts.runs.counts):
        values["onward_batch_rows"][version] = counts.runs
    if counts.explanations:
        values["onward_explanation_seconds"][version] = counts.explanation_seconds


def _add_state(values: _Values, process: ProcessState) -> None:
    """Add the state of one process; a version is ready if every process serves it."""
    values["onward_device_info"] |= dict.fromkeys(process.devices, 1)
    ready, workers = values["onward_model_ready"], values["onward_model_state"]
    for model, versions in process.versions.items():
        for version, (device, state) in versions.items():
            key = model, version, device
            ready[key] = min(ready.get(key, 1), int(state == _READY))
            workers[model, version, state] = workers.get((model, version, state), 0) + 1
