"""Metrics of several processes, of removed versions, and of names that clients invent."""

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.observability.exposition import render_exposition
from service.observability.metrics import Metrics, Phases
from tests.scraped import scraped

NO_TIME = Phases(0, 0, 0, 0)


def used(metrics: Metrics, version: str, state: str = "READY") -> Metrics:
    """Count everything once for a version of a model."""
    metrics.set_model_state("m", version, "cpu", state)
    metrics.count_prediction("m", version, "csv", 3, NO_TIME)
    metrics.count_rejected_rows("m", version, 1)
    metrics.count_failure("m", version, "v1", "invalid_input")
    metrics.count_explanation("m", version, "ok", 0.1)
    metrics.count_run("m", version, 3)
    metrics.count_shadow_requests("m", version, "compared", 1)
    metrics.count_load(0.1, ready=True)
    metrics.set_memory_bytes(1000)
    metrics.add_device("auto", "cpu")
    metrics.count_eviction()
    metrics.count_response(200)
    metrics.count_rejection("too_many_rows")
    return metrics


def samples(text: bytes) -> dict[str, dict[tuple[str, ...], float]]:
    """Return every sample by its name and its label values, sorted by label name."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            labels = tuple(value for _, value in sorted(sample.labels.items()))
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


def test_counts_are_summed_over_all_processes_and_states_over_running_ones() -> None:
    """An ended process still counts; a version is ready if it is ready in every process."""
    running = [used(Metrics(), "1"), used(Metrics(), "1", "LOADING")]
    ended = used(Metrics(), "1", "UNAVAILABLE")

    text = render_exposition([one.snapshot() for one in running], [ended.snapshot()])

    found = samples(text)
    assert found["onward_rows_total"] == {("m", "1"): 9}
    assert found["onward_evictions_total"] == {(): 3}
    assert found["onward_model_ready"] == {("cpu", "m", "1"): 0}
    assert found["onward_model_state"] == {("m", "READY", "1"): 1, ("m", "LOADING", "1"): 1}
    assert found["onward_memory_bytes"] == {(): 2000}
    assert found["onward_device_info"] == {("cpu", "auto"): 1}


def test_a_process_continues_from_the_counts_of_its_predecessor() -> None:
    """The counts of any number of predecessors are restored, but not the states."""
    snapshot = used(Metrics(), "1").snapshot()
    for _ in range(2):
        metrics = Metrics()
        metrics.restore(snapshot)
        metrics.count_prediction("m", "1", "csv", 3, NO_TIME)
        snapshot = metrics.snapshot()

    found = samples(render_exposition([snapshot]))

    assert found["onward_rows_total"] == {("m", "1"): 9}
    assert found["onward_phase_seconds_count"][("m", "compute", "1")] == 3
    assert "onward_model_ready" not in found


@pytest.mark.parametrize("content", [b"", b"[[[", b'{"counts": 1}', b"\x00" * 100])
def test_restoring_an_invalid_snapshot_is_an_error(content: bytes) -> None:
    """No count changes if the snapshot is invalid."""
    metrics = Metrics()

    with pytest.raises(ValueError, match="Snapshot"):
        metrics.restore(content)

    assert scraped(metrics) == render_exposition([Metrics().snapshot()])


def test_all_metrics_of_a_removed_version_expire() -> None:
    """Including its counters; the metrics of other versions stay."""
    before, expired = used(used(Metrics(), "1"), "2"), used(Metrics(0.0), "1")
    for metrics in (before, expired):
        metrics.remove_model_state("m", "1", "cpu")
        metrics.expire_version("m", "1")
    used(expired, "2")

    assert '"1"' in re.sub(r"le=\S+", "", scraped(before).decode())
    assert samples(scraped(expired)) == samples(scraped(only_version_2()))


def only_version_2() -> Metrics:
    """Count everything once for version 2, and twice for the process."""
    metrics = used(Metrics(), "2")
    metrics.count_load(0.1, ready=True)
    metrics.count_eviction()
    metrics.count_response(200)
    metrics.count_rejection("too_many_rows")
    return metrics


def test_clients_cannot_add_labels() -> None:
    """Failures and explanations of unknown models are counted without a name."""
    metrics = used(Metrics(), "1")
    metrics.count_failure("unknown", "", "native", "model_not_found")
    metrics.count_explanation("unknown", "", "model_not_found", 0.1)

    text = scraped(metrics).decode()

    assert "unknown" not in text
    assert 'onward_explanations_total{model="",outcome="model_not_found",version=""} 1.0' in text


def test_memory_does_not_grow_with_versions_that_are_published_and_removed() -> None:
    """After a hundred versions the snapshot is as small as before."""
    metrics = used(Metrics(0.0), "1")
    before = len(metrics.snapshot())
    for version in range(2, 102):
        metrics.remove_model_state("m", str(version - 1), "cpu")
        metrics.expire_version("m", str(version - 1))
        used(metrics, str(version))

    assert len(metrics.snapshot()) < before + 100


def test_a_restored_version_continues_its_counts() -> None:
    """For example when a folder was removed by mistake."""
    metrics = used(Metrics(0.0), "1")
    metrics.expire_version("m", "1")
    metrics.set_model_state("m", "1", "cpu", "READY")

    assert samples(scraped(metrics))["onward_rows_total"] == {("m", "1"): 3}


def test_versions_that_were_removed_while_no_process_ran_expire() -> None:
    """A new worker may find other versions than its predecessor."""
    metrics = Metrics(0.0)
    metrics.restore(used(used(Metrics(), "1"), "2").snapshot())

    metrics.expire_versions_except({("m", "2")})

    assert set(samples(scraped(metrics))["onward_rows_total"]) == {("m", "2")}


def test_a_worker_that_notices_a_removal_late_still_gets_all_counts() -> None:
    """Otherwise the sum would decrease first, which Prometheus takes for a restart."""
    now = 0.0
    early, late = (used(Metrics(10.0, lambda: now), "1") for _ in range(2))
    found = {}
    early.expire_version("m", "1")
    now = 5.0
    late.expire_version("m", "1")
    for now in (9.0, 12.0, 16.0, 40.0):
        snapshots = [early.snapshot(), late.snapshot()]
        exported = [
            samples(render_exposition(snapshots, expired=one.expired_versions))
            for one in (early, late)
        ]
        found[now] = [one.get("onward_rows_total", {}).get(("m", "1")) for one in exported]

    assert found == {9.0: [6, 6], 12.0: [None, 6], 16.0: [None, None], 40.0: [None, None]}


def test_a_model_name_that_a_client_invents_is_not_a_label() -> None:
    """Failures are counted without the name, for any error."""
    metrics = used(Metrics(), "1")
    for number in range(100):
        metrics.count_failure(f"invented-{number}", f"{number}", "native", "too_many_requests")

    text = scraped(metrics)

    assert b"invented" not in text
    failures = samples(text)["onward_requests_total"]
    assert failures["", "too_many_requests", "native", ""] == 100
