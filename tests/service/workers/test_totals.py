"""The totals of workers are summed exactly, even if a worker or the disk fails."""

import asyncio
import os
import resource
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.observability.metrics import Metrics
from service.workers.ipc import Channel, Slot, claim_slot
from service.workers.totals import Totals
from tests.models import publish_price
from tests.processes import served, several, until
from tests.scraped import scraped


class Worker:
    """The metrics of one of several workers."""

    def __init__(self, folder: Path) -> None:
        self.slot: Slot = claim_slot(folder)
        self.metrics = Metrics()
        self.channel = Channel(self.slot)
        self.totals = Totals(self.metrics, self.channel, self.slot)
        self.totals.restore()

    async def end(self) -> None:
        """Release the slot, as the end of a process does."""
        await self.channel.close()
        os.close(self.slot.descriptor)


def responses(text: bytes) -> float:
    """Return the number of responses with status 200 in a scrape."""
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            if sample.name == "onward_responses_total" and sample.labels == {"status": "200"}:
                return sample.value
    return 0


def run_scenario(folder: Path, scenario: Callable[[Worker, Worker], Awaitable[None]]) -> None:
    async def run() -> None:
        workers = Worker(folder), Worker(folder)
        for worker in workers:
            await worker.channel.open()
        await scenario(*workers)
        for worker in workers:
            await worker.channel.close()

    asyncio.run(run())


def test_every_worker_exports_the_sum_of_all(tmp_path: Path) -> None:
    """It includes everything that any worker counted before the scrape."""

    async def scenario(one: Worker, other: Worker) -> None:
        for count in range(1, 4):
            one.metrics.count_response(200)
            other.metrics.count_response(200)
            assert responses(await one.totals.render()) == 2 * count
            assert responses(await other.totals.render()) == 2 * count

    run_scenario(tmp_path, scenario)


def test_counters_do_not_decrease_when_a_worker_ends(tmp_path: Path) -> None:
    """Neither while its slot is empty nor when a new worker claims the slot."""

    async def scenario(one: Worker, other: Worker) -> None:
        for count in range(1, 4):
            other.metrics.count_response(200)
            before = responses(await one.totals.render())
            await other.end()
            between = responses(await one.totals.render())
            other = Worker(tmp_path)
            await other.channel.open()
            after = responses(await one.totals.render())

            assert (before, between, after) == (count, count, count)
        await other.end()

    run_scenario(tmp_path, scenario)


def test_a_hanging_worker_is_exported_from_its_file(tmp_path: Path) -> None:
    """Its last counts and states are exported after a short timeout."""

    async def scenario(one: Worker, other: Worker) -> None:
        other.metrics.count_response(200)
        other.metrics.set_model_state("m", "1", "cpu", "READY")
        await other.totals.write()
        await other.channel.close()
        with socket.socket(socket.AF_UNIX) as hangs:  # it accepts requests and never replies
            hangs.bind(str(tmp_path / f"{other.slot.number}.sock"))
            hangs.listen()
            text = await one.totals.render()

        assert responses(text) == 1
        assert b'onward_model_ready{device="cpu",model="m",version="1"} 1.0' in text

    run_scenario(tmp_path, scenario)


def test_concurrent_scrapes_share_a_build_that_starts_after_them(tmp_path: Path) -> None:
    """Fifty-one scrapes take two builds; the second includes what was counted in between."""

    async def scenario(one: Worker, _: Worker) -> None:
        first = asyncio.create_task(one.totals.render())
        await asyncio.sleep(0.001)
        one.metrics.count_response(200)
        later = [asyncio.create_task(one.totals.render()) for _ in range(50)]
        await first
        texts = {id(text) for text in await asyncio.gather(*later)}

        assert len(texts) == 1
        assert responses(await later[0]) == 1

    run_scenario(tmp_path, scenario)


def test_a_client_that_disconnects_does_not_cancel_the_build_of_others(tmp_path: Path) -> None:
    """The build continues for the clients that still wait."""

    async def scenario(one: Worker, _: Worker) -> None:
        one.metrics.count_response(200)
        leaving, waiting = (asyncio.create_task(one.totals.render()) for _ in range(2))
        await asyncio.sleep(0)
        leaving.cancel()

        assert responses(await waiting) == 1

    run_scenario(tmp_path, scenario)


@pytest.mark.parametrize("content", [b"", b"{", b'{"counts": {"statuses": {"x": 1}}}'])
def test_a_worker_starts_with_an_invalid_totals_file(tmp_path: Path, content: bytes) -> None:
    """Its counts then start from zero."""
    (tmp_path / "0.totals").write_bytes(content)

    worker = Worker(tmp_path)
    worker.metrics.count_response(200)

    assert responses(scraped(worker.metrics)) == 1


@contextmanager
def no_space() -> Iterator[None]:
    """Make every write to a file fail, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_counting_continues_on_a_full_disk(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged once, the sum is exact, and no incomplete file remains."""

    async def scenario(one: Worker, other: Worker) -> None:
        caplog.clear()
        with no_space():
            for _ in range(3):
                other.metrics.count_response(200)
                await other.totals.write()
            text = await one.totals.render()

        assert responses(text) == 3
        logged = [record.message for record in caplog.records if "written" in record.message]
        assert logged == ["totals cannot be written"] * 2  # one by each worker

    run_scenario(tmp_path, scenario)
    assert not [*tmp_path.glob("*.totals"), *tmp_path.glob("*.new")]


def test_workers_keep_serving_on_a_full_disk_and_can_be_replaced(models: Path) -> None:
    """Every request gets its response, also after a worker is killed and replaced."""
    publish_price(models)

    with several(models, 2) as service, httpx.Client(base_url=service.address) as client:

        def predict() -> bool:
            return client.post("/models/price/predict", json={"size": 2}).status_code == 200

        for process in (service.process.pid, *service.workers):
            limits = resource.prlimit(process, resource.RLIMIT_FSIZE)
            resource.prlimit(process, resource.RLIMIT_FSIZE, (0, limits[1]))
        before = [predict() for _ in range(20)]
        service.until_said("totals cannot be written", 1)
        counted = client.get("/metrics").text
        os.kill(service.workers[0], signal.SIGKILL)
        until(lambda: service.said.count("Application startup complete") == 3)
        client.close()
        after = [
            httpx.post(f"{service.address}/models/price/predict", json={"size": 2}).status_code
            for _ in range(20)
        ]

    assert all(before)
    assert 'onward_rows_total{model="price",version="1"} 20.0' in counted
    assert after == [200] * 20


def test_an_inherited_prometheus_folder_is_ignored(models: Path, tmp_path: Path) -> None:
    """Its counts are not exported, and nothing is written to it."""
    publish_price(models)
    folder = tmp_path / "another service"
    folder.mkdir()
    (folder / "counter_1.db").write_bytes(b"nonsense")
    options = ("--models", str(models), "--device", "cpu")

    for workers in ("1", "2"):
        with served(
            *options, "--workers", workers, PROMETHEUS_MULTIPROC_DIR=str(folder)
        ) as service:
            service.until_said("Application startup complete", int(workers))
            text = httpx.get(f"{service.address}/metrics").text

        assert "onward_evictions_total 0.0" in text
        assert [path.name for path in folder.iterdir()] == ["counter_1.db"]
