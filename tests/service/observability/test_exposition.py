"""The exported metrics equal those of prometheus_client, and are summed over processes."""

import re
from collections import Counter

import numpy as np
from prometheus_client import CollectorRegistry, Histogram

from service.observability.metrics import (
    LOAD_SECONDS,
    ROWS,
    SECONDS,
    Counts,
    Distribution,
    Metrics,
    Phases,
    Snapshot,
)
from tests.scraped import scraped

BOUNDS = (
    *(0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005),
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)


def test_phase_histograms_equal_those_of_prometheus_client() -> None:
    """They are equal for values of any size, also at a bound and above the last one."""
    random = np.random.default_rng(1)
    seconds = [*(10 ** random.uniform(-6, 2, 300)).tolist(), *BOUNDS, 0.0, 100.0]
    oracle = Histogram("it", "it", registry=CollectorRegistry(), buckets=BOUNDS)
    metrics = Metrics()

    for value in seconds:
        oracle.observe(value)
        metrics.count_prediction("m", "1", "native", 2, Phases(value, value, value, value))
    text = scraped(metrics).decode()

    expected = {
        f'onward_phase_seconds_bucket{{le="{sample.labels["le"]}",model="m",phase="{phase}",'
        f'version="1"}} {sample.value}'
        for (family,) in [oracle.collect()]
        for sample in family.samples
        if sample.name == "it_bucket"
        for phase in Phases._fields
    }
    assert expected <= set(text.splitlines())
    sums = re.findall(r"^onward_phase_seconds_sum.* (\S+)$", text, re.MULTILINE)
    np.testing.assert_allclose([float(one) for one in sums], [sum(seconds)] * 4)
    assert f'onward_rows_total{{model="m",version="1"}} {2.0 * len(seconds)}' in text


def test_two_scrapes_without_requests_in_between_are_equal() -> None:
    """A scrape does not count anything again."""
    metrics = Metrics()
    metrics.count_prediction("m", "1", "v2", 1, Phases(0, 0, 0, 0))
    metrics.count_response(200)

    first, second = scraped(metrics), scraped(metrics)

    assert first == second
    assert b'onward_responses_total{status="200"} 1.0' in first


def counted(times: int) -> Snapshot:
    """Return a snapshot in which everything was counted ``times`` times."""
    snapshot = Snapshot()
    for _ in range(times):
        counts = snapshot.counts
        counts.statuses.update({200: 2, 404: 1})
        counts.rejections.update({"url_too_long": 1})
        counts.evictions += 1
        counts.loads.setdefault("ready", Distribution.empty(LOAD_SECONDS)).observe(
            LOAD_SECONDS, 0.5
        )
        version = counts.for_version("m", "1")
        version.add_prediction("v1", 3, Phases(0.5, 0.25, 64.0, 0.0))
        version.rejected_rows += 1
        version.failed.setdefault("csv", Counter())["invalid_input"] += 1
        version.runs.observe(ROWS, 100_000)
        version.explanations.update({"ok": 1})
        version.explanation_seconds.observe(SECONDS, 0.125)
        version.shadow_requests.update({"compared": 2})
    return snapshot


def test_the_sum_of_several_processes_equals_the_counts_of_one() -> None:
    """They are equal in every field, also after a round trip through JSON."""
    sums = Counts()
    for snapshot in (counted(2), counted(1), Snapshot()):
        sums.add(Snapshot.from_json(snapshot.to_json()).counts)

    assert sums == counted(3).counts
