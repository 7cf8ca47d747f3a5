"""Shutdowns that clients, models or the system delay, with real processes and sockets."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.models import publish_bare, publish_price
from tests.processes import ROOT, Served, served, until
from tests.service.engine.test_sandbox import nested_functions

WORKERS = pytest.mark.parametrize("workers", [1, 2])
BODY = b'{"size": 2}'
HEAD = f"POST /models/price/predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(BODY)}\r\n\r\n"
REQUEST = HEAD.encode() + BODY


@contextmanager
def serving(models: Path, workers: int, **environment: str) -> Iterator[Served]:
    """Start a service with a number of ready workers."""
    options = ("--models", str(models), "--device", "cpu", "--workers", str(workers))
    with served(*options, **environment) as service:
        service.until_said("Application startup complete", workers)
        yield service


def connected(service: Served) -> socket.socket:
    url = httpx.URL(service.address)
    return socket.create_connection((url.host, url.port or 0), timeout=30)


def has_ended(process: int) -> bool:
    """Return whether a process has ended, even if its parent has not waited for it."""
    try:
        return "State:\tZ" in Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return True


def is_rejected(service: Served) -> bool:
    try:
        connected(service).close()
    except ConnectionRefusedError:
        return True
    return False


@WORKERS
def test_clients_that_keep_connecting_during_a_stop_get_responses_or_are_rejected(
    models: Path, workers: int
) -> None:
    """No open connection is reset or closed without a response."""
    publish_price(models)
    outcomes: Counter[str] = Counter()

    def connect_over_and_over(address: tuple[str, int]) -> None:
        while True:
            try:
                connection = socket.create_connection(address, timeout=30)
            except ConnectionRefusedError:
                return
            with connection:
                try:
                    connection.sendall(REQUEST)
                    outcomes[connection.recv(65536)[:12].decode()] += 1
                except OSError as error:
                    outcomes[type(error).__name__] += 1

    with serving(models, workers) as service:
        url = httpx.URL(service.address)
        arguments = [(url.host, url.port or 0)]
        clients = [
            threading.Thread(target=connect_over_and_over, args=arguments) for _ in range(60)
        ]
        for client in clients:
            client.start()
        time.sleep(0.5)
        service.process.send_signal(signal.SIGTERM)
        for client in clients:
            client.join()

    assert set(outcomes) == {"HTTP/1.1 200"}


@WORKERS
def test_a_client_that_never_ends_its_request_cannot_delay_a_stop(
    models: Path, workers: int
) -> None:
    """With a partial head, a partial body and a slow table, the process ends within its limit."""
    publish_price(models)
    table = b"POST /models/price/predict HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\n"
    table += b"Transfer-Encoding: chunked\r\n\r\n5\r\nsize\n\r\n2\r\n1\n\r\n"

    with serving(models, workers, ONWARD_DEADLINE_SECONDS="1") as service, ExitStack() as stack:
        for partial in (HEAD[:40].encode(), HEAD.encode() + BODY[:3], table):
            connection = stack.enter_context(connected(service))
            connection.sendall(partial)
        time.sleep(0.3)
        service.process.send_signal(signal.SIGTERM)
        # The rest of the time is a reserve for a busy machine.
        assert service.process.wait(20) in {0, 1, -signal.SIGTERM}


@pytest.mark.parametrize(
    ("options", "number"),
    [
        (("--workers", "1"), signal.SIGINT),
        (("--workers", "2"), signal.SIGTERM),
        (("--workers", "2"), signal.SIGKILL),
        (("--load-isolation", "process"), signal.SIGTERM),
        (("--load-isolation", "process"), signal.SIGKILL),
    ],
)
def test_a_stop_while_a_model_loads_endlessly_ends_all_processes(
    models: Path, options: tuple[str, ...], number: signal.Signals
) -> None:
    """Without requests it ends immediately, and so does the process that tests loads."""
    publish_bare(models, "endless", nested_functions(60, 2))
    environment = {"ONWARD_DRAIN_SECONDS": "600", "ONWARD_DEADLINE_SECONDS": "600"}
    command = [sys.executable, "-m", "service", "--port", "0", "--device", "cpu", *options]

    with subprocess.Popen(
        [*command, "--models", str(models)],
        cwd=ROOT,
        env=os.environ | environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        while "device chosen" not in process.stderr.readline():
            pass
        time.sleep(1)
        others = children(process.pid)
        process.send_signal(number)
        rest = process.stderr.read()  # until the last of them has ended

    assert process.returncode in {0, -number}
    assert "Application startup complete" not in rest
    until(lambda: all(has_ended(other) for other in others))


def children(process: int) -> list[int]:
    """Return the child processes of a process."""
    return [int(it) for it in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


@pytest.mark.parametrize("moment", ["Started parent process", "Application startup complete"])
def test_workers_end_when_their_parent_is_killed(models: Path, moment: str) -> None:
    """This holds while they import and while they serve, and frees the port."""
    publish_price(models)
    options = ("--models", str(models), "--device", "cpu", "--workers", "2")

    with served(*options, ONWARD_DRAIN_SECONDS="600") as service:
        service.until_said(moment, 2 if moment.startswith("App") else 1)
        until(lambda: len(service.workers) == 2)
        workers = service.workers
        service.process.kill()
        until(lambda: all(has_ended(worker) for worker in workers))

        assert is_rejected(service)


def test_a_request_in_progress_when_the_parent_is_killed_gets_its_response(models: Path) -> None:
    """A worker waits for requests for a moment before it ends."""
    publish_price(models)

    with serving(models, 2) as service, connected(service) as connection:
        connection.sendall(REQUEST[:-3])
        time.sleep(0.3)
        service.process.kill()
        time.sleep(0.2)
        connection.sendall(REQUEST[-3:])

        assert connection.recv(65536).startswith(b"HTTP/1.1 200")


def test_a_second_interrupt_does_not_wait_for_requests(models: Path) -> None:
    """Pressing Ctrl+C twice ends the process."""
    publish_price(models)

    with (
        serving(models, 1, ONWARD_DEADLINE_SECONDS="600") as service,
        connected(service) as connection,
    ):
        connection.sendall(REQUEST[:-3])
        time.sleep(0.3)
        service.process.send_signal(signal.SIGINT)
        until(lambda: is_rejected(service))
        service.process.send_signal(signal.SIGINT)

        service.process.wait(20)


def test_a_worker_that_is_slow_to_import_is_not_replaced(models: Path, tmp_path: Path) -> None:
    """It takes seven seconds; uvicorn would replace it after five."""
    publish_price(models)
    (tmp_path / "site").mkdir()
    program = "import sys, time\nif '--multiprocessing-fork' in sys.orig_argv:\n    time.sleep(7)\n"
    (tmp_path / "site" / "sitecustomize.py").write_text(program)

    with serving(models, 2, PYTHONPATH=str(tmp_path / "site")) as service:
        assert len(service.workers) == 2

    assert "worker replaced" not in service.said


def test_a_worker_that_hangs_is_replaced_and_the_log_has_the_reason(models: Path) -> None:
    """A stopped process does not respond to health checks; the others continue to serve."""
    publish_price(models)

    with serving(models, 2, ONWARD_WORKER_HEALTH_SECONDS="1.5") as service:
        hanging = service.workers[0]
        os.kill(hanging, signal.SIGSTOP)
        service.until_said("worker replaced")
        service.until_said("Application startup complete", 3)

        assert hanging not in service.workers
        assert f"worker={hanging} reason='it did not respond to its health checks'" in service.said


def test_a_worker_that_is_killed_is_replaced_and_the_log_has_the_signal(models: Path) -> None:
    """The system's out-of-memory killer sends the same signal."""
    publish_price(models)

    with serving(models, 2) as service:
        os.kill(service.workers[0], signal.SIGKILL)
        service.until_said("reason='it was ended by SIGKILL'")


def test_a_worker_that_hangs_does_not_delay_the_stop(models: Path) -> None:
    """The parent kills it after a timeout."""
    publish_price(models)

    with serving(models, 2, ONWARD_DEADLINE_SECONDS="1") as service:
        os.kill(service.workers[0], signal.SIGSTOP)
        service.process.send_signal(signal.SIGTERM)

        assert service.process.wait(30) == 0
    assert "worker ended by force" in service.said
