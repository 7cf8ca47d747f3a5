"""Metrics of several processes, of versions that are removed, and of names that clients invent."""

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.observability.exposition import exposition
from service.observability.metrics import Metrics, Phases
from tests.scraped import scraped

NO_TIME = Phases(0, 0, 0, 0)


def used(metrics: Metrics, version: str, state: str = "READY") -> Metrics:
    """Metrics in which everything happened once to a version of a model."""
    metrics.model_state("m", version, "cpu", state)
    metrics.predicted("m", version, "csv", 3, NO_TIME)
    metrics.refused_rows("m", version, 1)
    metrics.failed("m", version, "v1", "invalid_input")
    metrics.explained("m", version, "ok", 0.1)
    metrics.ran("m", version, 3)
    metrics.shadowed("m", version, "compared", 1)
    metrics.loaded(0.1, ready=True)
    metrics.memory(1000)
    metrics.device("auto", "cpu")
    metrics.evicted()
    metrics.responded(200)
    metrics.rejected("too_many_rows")
    return metrics


def samples(text: bytes) -> dict[str, dict[tuple[str, ...], float]]:
    """Every sample by its name and the values of its labels in the order of the labels' names."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            labels = tuple(value for _, value in sorted(sample.labels.items()))
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


def test_counts_of_all_processes_are_added_and_states_are_those_of_running_ones() -> None:
    """Of a process that ended, its counts remain; a version is ready where it is for all."""
    running = [used(Metrics(), "1"), used(Metrics(), "1", "LOADING")]
    ended = used(Metrics(), "1", "UNAVAILABLE")

    text = exposition([one.snapshot() for one in running], [ended.snapshot()])

    found = samples(text)
    assert found["onward_rows_total"] == {("m", "1"): 9}
    assert found["onward_evictions_total"] == {(): 3}
    assert found["onward_model_ready"] == {("cpu", "m", "1"): 0}
    assert found["onward_model_state"] == {("m", "READY", "1"): 1, ("m", "LOADING", "1"): 1}
    assert found["onward_memory_bytes"] == {(): 2000}
    assert found["onward_device_info"] == {("cpu", "auto"): 1}


def test_a_process_continues_from_the_counts_of_the_one_before() -> None:
    """However many follow each other; states are not taken over."""
    snapshot = used(Metrics(), "1").snapshot()
    for _ in range(2):
        metrics = Metrics()
        metrics.restore(snapshot)
        metrics.predicted("m", "1", "csv", 3, NO_TIME)
        snapshot = metrics.snapshot()

    found = samples(exposition([snapshot]))

    assert found["onward_rows_total"] == {("m", "1"): 9}
    assert found["onward_phase_seconds_count"][("m", "compute", "1")] == 3
    assert "onward_model_ready" not in found


@pytest.mark.parametrize("content", [b"", b"[[[", b'{"counts": 1}', b"\x00" * 100])
def test_what_is_no_snapshot_is_an_error(content: bytes) -> None:
    """Nothing is counted then."""
    metrics = Metrics()

    with pytest.raises(ValueError, match="Snapshot"):
        metrics.restore(content)

    assert scraped(metrics) == exposition([Metrics().snapshot()])


def test_all_metrics_of_a_removed_version_are_dropped_after_a_while() -> None:
    """Its counters too, so that a version every hour leaves nothing behind; the others stay."""
    kept, dropped = used(used(Metrics(), "1"), "2"), used(Metrics(0.0), "1")
    for metrics in (kept, dropped):
        metrics.remove_model_state("m", "1", "cpu")
        metrics.version_removed("m", "1")
    used(dropped, "2")

    assert '"1"' in re.sub(r"le=\S+", "", scraped(kept).decode())
    assert samples(scraped(dropped)) == samples(scraped(used_alone()))


def used_alone() -> Metrics:
    """Metrics of a process that knows version 2 alone, but counted as much for the process."""
    metrics = used(Metrics(), "2")
    metrics.loaded(0.1, ready=True)
    metrics.evicted()
    metrics.responded(200)
    metrics.rejected("too_many_rows")
    return metrics


def test_memory_does_not_grow_with_versions_that_are_published_and_removed() -> None:
    """A hundred versions later the numbers of a process take as much room as before."""
    metrics = used(Metrics(0.0), "1")
    before = len(metrics.snapshot())
    for version in range(2, 102):
        metrics.remove_model_state("m", str(version - 1), "cpu")
        metrics.version_removed("m", str(version - 1))
        used(metrics, str(version))

    assert len(metrics.snapshot()) < before + 100


def test_a_version_that_comes_back_keeps_its_counts() -> None:
    """As when an operator restores a folder that was deleted by mistake."""
    metrics = used(Metrics(0.0), "1")
    metrics.version_removed("m", "1")
    metrics.model_state("m", "1", "cpu", "READY")

    assert samples(scraped(metrics))["onward_rows_total"] == {("m", "1"): 3}


def test_counts_of_versions_that_went_while_no_process_ran_are_dropped() -> None:
    """A worker that is replaced finds other versions than the one before it."""
    metrics = Metrics(0.0)
    metrics.restore(used(used(Metrics(), "1"), "2").snapshot())

    metrics.versions_found({("m", "2")})

    assert set(samples(scraped(metrics))["onward_rows_total"]) == {("m", "2")}


def test_workers_that_notice_a_removal_later_still_get_all_counts() -> None:
    """Or the sum would fall before it vanishes, which Prometheus takes for a restart."""
    now = 0.0
    early, late = (used(Metrics(10.0, lambda: now), "1") for _ in range(2))
    found = {}
    early.version_removed("m", "1")
    now = 5.0
    late.version_removed("m", "1")
    for now in (9.0, 12.0, 16.0, 40.0):
        snapshots = [early.snapshot(), late.snapshot()]
        read = [samples(exposition(snapshots, hidden=one.hidden)) for one in (early, late)]
        found[now] = [one.get("onward_rows_total", {}).get(("m", "1")) for one in read]

    assert found == {9.0: [6, 6], 12.0: [None, 6], 16.0: [None, None], 40.0: [None, None]}


def test_a_name_that_a_client_invents_becomes_no_label() -> None:
    """Failures are counted without it, whatever the error was."""
    metrics = used(Metrics(), "1")
    for number in range(100):
        metrics.failed(f"invented-{number}", f"{number}", "plain", "too_many_requests")

    text = scraped(metrics)

    assert b"invented" not in text
    failures = samples(text)["onward_requests_total"]
    assert failures["plain", "", "too_many_requests", ""] == 100
