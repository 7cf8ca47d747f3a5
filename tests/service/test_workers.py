"""Several workers of a service, with real processes, sockets and signals."""

import os
import re
import signal
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx

from tests.models import publish_admission, publish_price
from tests.processes import Served, alone, served, several, startup_error, until

PREDICT = "/models/price/predict"
STILL = ("--poll-seconds", "0", "--model-control", "explicit")


def statuses(service: Served) -> list[int]:
    """Return the status of a prediction by each worker."""
    found = []
    for worker in service.workers:
        with alone(service, worker) as client:
            found.append(client.post(PREDICT, json={"size": 2}).status_code)
    return found


def control(service: Served, verb: str) -> None:
    """Load or unload a model through any worker."""
    path = f"{service.address}/v2/repository/models/price/{verb}"
    assert httpx.post(path, timeout=30).json() == {}


def test_a_load_and_an_unload_reach_every_worker(models: Path) -> None:
    """When the request has returned, every worker serves accordingly."""
    publish_price(models)

    with several(models, 3, *STILL) as service:
        control(service, "unload")
        without = statuses(service)
        control(service, "load")
        again = statuses(service)

    assert (without, again) == ([503] * 3, [200] * 3)


def test_a_replaced_worker_does_not_load_unloaded_models(models: Path) -> None:
    """A worker that is started after a crash loads no model that clients have unloaded."""
    publish_price(models)

    with several(models, 2, *STILL) as service:
        control(service, "unload")
        os.kill(service.workers[0], signal.SIGKILL)
        service.until_said("Application startup complete", 3)
        replaced = statuses(service)

    assert replaced == [503, 503]


def send_request(client: httpx.Client, number: int) -> tuple[int, str, int]:
    """Send a request of a mixed load; return its status, protocol and number of predicted rows."""
    rows = 1 + number % 3
    if number % 10 == 0:
        return client.post(PREDICT, json={"siez": 1}).status_code, "native", 0
    if number % 2:
        return client.post(PREDICT, json=[{"size": 1.0}] * rows).status_code, "native", rows
    data = {"name": "features", "shape": [rows, 1], "datatype": "FP32", "data": [1.0] * rows}
    response = client.post("/v2/models/price/infer", json={"inputs": [data]})
    return response.status_code, "v2", rows


def send_requests(address: str, numbers: Sequence[int]) -> list[tuple[int, str, int]]:
    """Send requests with one connection each, so that every worker takes some.

    Each has its own `httpx.Client`: one that threads share may lend a connection that it closes.
    """
    with httpx.Client(base_url=address, limits=httpx.Limits(max_keepalive_connections=0)) as client:
        return [send_request(client, number) for number in numbers]


def sums(text: str, metric: str, label: str) -> dict[str, float]:
    """Return a metric's sums by one label."""
    found: defaultdict[str, float] = defaultdict(float)
    for labels, value in re.findall(rf"^{metric}{{(.*)}} (\S+)$", text, re.MULTILINE):
        found[dict(re.findall(r'(\w+)="([^"]*)"', labels))[label]] += float(value)
    return dict(found)


def test_metrics_equal_the_counts_of_the_load_generator(models: Path) -> None:
    """Exactly, whichever worker reports them, and although one of them is killed in between."""
    publish_price(models)
    publish_admission(models)
    results: list[tuple[int, str, int]] = []

    with (
        several(models, 3) as service,
        ThreadPoolExecutor(8) as clients,
    ):
        shares = [range(first, 80, 8) for first in range(8)]
        for _ in range(2):
            for some in clients.map(partial(send_requests, service.address), shares):
                results += some
            started = service.said.count("Application startup complete")
            # Workers write their counts for a scrape, and otherwise four times a second.
            httpx.get(f"{service.address}/metrics").raise_for_status()
            os.kill(service.workers[0], signal.SIGKILL)
            service.until_said("Application startup complete", started + 1)
        texts = []
        for worker in service.workers:
            with alone(service, worker) as own:
                texts.append(own.get("/metrics").text)

    rows = sum(count for _, _, count in results)
    protocols = Counter(protocol for _, protocol, _ in results)
    by_status = Counter(status for status, _, _ in results)
    for scrapes, text in enumerate(texts):
        assert sums(text, "onward_requests_total", "protocol") == protocols
        assert sums(text, "onward_requests_total", "outcome") == {
            "ok": by_status[200],
            "invalid_input": by_status[400],
        }
        assert sums(text, "onward_rows_total", "model") == {"price": rows}
        assert sums(text, "onward_batch_rows_sum", "model") == {"price": rows}
        # Requests that arrive together share a run.
        assert 1 <= sums(text, "onward_batch_rows_count", "model")["price"] <= by_status[200]
        phases = ("decode", "queue", "compute", "encode")
        counts = dict.fromkeys(phases, float(by_status[200]))
        assert sums(text, "onward_phase_seconds_count", "phase") == counts
        # Each scrape is itself a response, which the next one counts; a killed worker may
        # not have written it.
        responses = sums(text, "onward_responses_total", "status")
        assert responses["400"] == by_status[400]
        assert 0 <= responses["200"] - by_status[200] - scrapes <= 2
        assert sums(text, "onward_model_ready", "model") == {"admission": 1, "price": 1}


def test_statistics_are_summed_over_all_workers(models: Path) -> None:
    """Whichever worker reports them: rows, requests, runs by size, and failures."""
    publish_price(models)
    publish_admission(models)

    with several(models, 2) as service:
        for worker in service.workers:
            with alone(service, worker) as client:
                for number in range(1, 4):
                    send_request(client, number)
                send_request(client, 0)
        paths = ("/v2/models/price/stats", "/v2/models/stats") * 4
        statistics = [httpx.get(f"{service.address}{path}").json()["model_stats"] for path in paths]

    for *_, price in statistics:
        assert (price["name"], price["inference_count"], price["execution_count"]) == (
            "price",
            2 * (2 + 3 + 1),
            2 * 3,
        )
        stats = price["inference_stats"]
        assert (stats["success"]["count"], stats["fail"]["count"]) == (6, 2)
        sizes = [(run["batch_size"], run["compute_infer"]["count"]) for run in price["batch_stats"]]
        assert sizes == [(1, 2), (2, 2), (3, 2)]
    assert [len(models) for models in statistics] == [1, 2] * 4


def test_the_ready_gauge_has_no_removed_version(models: Path) -> None:
    """The gauge lists only the new version after a swap in every worker."""
    publish_price(models)

    with several(models, 2, "--poll-seconds", "0.1") as service:
        publish_price(models, slope=3.0)

        def scrape() -> str:
            return httpx.get(f"{service.address}/metrics").text

        until(lambda: sums(scrape(), "onward_model_ready", "version") == {"2": 1.0})


def test_workers_that_cannot_start_end_the_service(models: Path) -> None:
    """The log has the reason, and the exit code is not 0."""
    options = ("--models", str(models), "--device", "cpu", "--workers", "2")
    # The parent has found the folder then, and its workers still import their modules.
    with served(*options, awaited="Started parent process") as service:
        models.rmdir()
        service.end()

    assert service.process.returncode == 2
    assert "does not exist; set --models" in service.said
    assert "A worker could not start; the log above says why." in service.said


def test_a_folder_too_deep_for_sockets_stops_the_start(models: Path, tmp_path: Path) -> None:
    """The message names the folder and the variable."""
    deep = tmp_path / ("x" * 100)
    deep.mkdir()

    message = startup_error("--models", str(models), "--workers", "2", TMPDIR=str(deep))

    assert "too long for their sockets; set TMPDIR" in message


def test_shared_memory_with_several_workers_stops_the_start(models: Path) -> None:
    """A region is only known to the worker that registered it."""
    message = startup_error("--models", str(models), "--workers", "2", "--shared-memory", "system")

    assert "known only to the worker that registered it" in message
