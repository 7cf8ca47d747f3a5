"""What is counted in plain numbers is what the metrics' library counts one by one."""

import re

import numpy as np
from prometheus_client import CollectorRegistry, Histogram

from service.counting import Phases
from service.metrics import Metrics

BOUNDS = (
    *(0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005),
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)


def test_histograms_of_phases_are_those_of_single_observations() -> None:
    """Values of every size, those on a bucket's end and beyond the last one too."""
    random = np.random.default_rng(1)
    seconds = [*(10 ** random.uniform(-6, 2, 300)).tolist(), *BOUNDS, 0.0, 100.0]
    oracle = Histogram("it", "it", registry=CollectorRegistry(), buckets=BOUNDS)
    metrics = Metrics()

    for place, value in enumerate(seconds):
        oracle.observe(value)
        metrics.predicted("m", "1", "plain", 2, Phases(value, value, value, value))
        if place % 100 == 0:
            metrics.settle()
    text = metrics.exposition().decode()

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


def test_what_has_been_read_is_not_counted_again() -> None:
    """Two readings with nothing between them tell the same."""
    metrics = Metrics()
    metrics.predicted("m", "1", "v2", 1, Phases(0, 0, 0, 0))
    metrics.responded(200)

    first, second = metrics.exposition(), metrics.exposition()

    assert first == second
    assert b'onward_responses_total{status="200"} 1.0' in first
