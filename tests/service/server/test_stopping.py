"""Stops that clients, models or the system make difficult; real processes and sockets."""

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

from tests.models import place_bare, publish_price
from tests.processes import ROOT, Served, served, until
from tests.service.engine.test_sandbox import nested_functions

WORKERS = pytest.mark.parametrize("workers", [1, 2])
BODY = b'{"size": 2}'
HEAD = f"POST /models/price/predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(BODY)}\r\n\r\n"
REQUEST = HEAD.encode() + BODY


@contextmanager
def serving(models: Path, workers: int, **environment: str) -> Iterator[Served]:
    """A service with so many workers, all of them ready."""
    options = ("--models", str(models), "--device", "cpu", "--workers", str(workers))
    with served(*options, **environment) as service:
        service.until_said("Application startup complete", workers)
        yield service


def connected(service: Served) -> socket.socket:
    url = httpx.URL(service.address)
    return socket.create_connection((url.host, url.port or 0), timeout=30)


def is_gone(process: int) -> bool:
    """Whether a process has ended, though its parent may not have noticed."""
    try:
        return "State:\tZ" in Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return True


def is_refused(service: Served) -> bool:
    try:
        connected(service).close()
    except ConnectionRefusedError:
        return True
    return False


@WORKERS
def test_clients_that_keep_connecting_during_a_stop_are_answered_or_refused(
    models: Path, workers: int
) -> None:
    """No connection that was opened is reset, or closed without a response."""
    publish_price(models)
    outcomes: Counter[str] = Counter()

    def connect_over_and_over(address: tuple[str, int]) -> None:
        while True:
            try:
                line = socket.create_connection(address, timeout=30)
            except ConnectionRefusedError:
                return
            with line:
                try:
                    line.sendall(REQUEST)
                    outcomes[line.recv(65536)[:12].decode()] += 1
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
    """Half a head, half a body, a table that is fed slowly: the process ends within its bound."""
    publish_price(models)
    table = b"POST /models/price/predict HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\n"
    table += b"Transfer-Encoding: chunked\r\n\r\n5\r\nsize\n\r\n2\r\n1\n\r\n"

    with serving(models, workers, ONWARD_DEADLINE_SECONDS="1") as service, ExitStack() as stack:
        for begun in (HEAD[:40].encode(), HEAD.encode() + BODY[:3], table):
            line = stack.enter_context(connected(service))
            line.sendall(begun)
        time.sleep(0.3)
        service.process.send_signal(signal.SIGTERM)
        # The drain and the deadline make one second; whatever more is the machine's load.
        assert service.process.wait(20) in {0, 1, -signal.SIGTERM}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize(
    "options", [("--workers", "1"), ("--workers", "2"), ("--load-isolation", "process")]
)
def test_a_stop_while_a_model_loads_without_end_ends_every_process(
    models: Path, options: tuple[str, ...], number: signal.Signals
) -> None:
    """At once, for there is no request to wait for; the process that tries loads ends too."""
    place_bare(models, "endless", nested_functions(60, 2))
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
    until(lambda: all(is_gone(other) for other in others))


def children(process: int) -> list[int]:
    """The processes that a process has started."""
    return [int(it) for it in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


@pytest.mark.parametrize("moment", ["Started parent process", "Application startup complete"])
def test_workers_end_with_a_parent_that_is_killed(models: Path, moment: str) -> None:
    """While they import and while they serve; the port is free then."""
    publish_price(models)
    options = ("--models", str(models), "--device", "cpu", "--workers", "2")

    with served(*options, ONWARD_DRAIN_SECONDS="600") as service:
        service.until_said(moment, 2 if moment.startswith("App") else 1)
        until(lambda: len(service.workers) == 2)
        workers = service.workers
        service.process.kill()
        until(lambda: all(is_gone(worker) for worker in workers))

        assert is_refused(service)


def test_a_request_in_progress_when_the_parent_is_killed_is_answered(models: Path) -> None:
    """A worker has a moment for it before it ends."""
    publish_price(models)

    with serving(models, 2) as service, connected(service) as line:
        line.sendall(REQUEST[:-3])
        time.sleep(0.3)
        service.process.kill()
        time.sleep(0.2)
        line.sendall(REQUEST[-3:])

        assert line.recv(65536).startswith(b"HTTP/1.1 200")


def test_a_second_interrupt_does_not_wait_for_requests(models: Path) -> None:
    """Whoever presses Ctrl+C twice wants the process gone."""
    publish_price(models)

    with serving(models, 1, ONWARD_DEADLINE_SECONDS="600") as service, connected(service) as line:
        line.sendall(REQUEST[:-3])
        time.sleep(0.3)
        service.process.send_signal(signal.SIGINT)
        until(lambda: is_refused(service))
        service.process.send_signal(signal.SIGINT)

        service.process.wait(20)


def test_a_worker_that_is_slow_to_import_is_not_replaced(models: Path, tmp_path: Path) -> None:
    """Seven seconds, where uvicorn's default replaces it after five."""
    publish_price(models)
    (tmp_path / "site").mkdir()
    program = "import sys, time\nif '--multiprocessing-fork' in sys.orig_argv:\n    time.sleep(7)\n"
    (tmp_path / "site" / "sitecustomize.py").write_text(program)

    with serving(models, 2, PYTHONPATH=str(tmp_path / "site")) as service:
        assert len(service.workers) == 2

    assert "worker replaced" not in service.said


def test_a_worker_that_hangs_is_replaced_and_the_log_says_why(models: Path) -> None:
    """Stopped by the system, it answers no health check; the others keep serving."""
    publish_price(models)

    with serving(models, 2, ONWARD_WORKER_HEALTH_SECONDS="1.5") as service:
        hanging = service.workers[0]
        os.kill(hanging, signal.SIGSTOP)
        service.until_said("worker replaced")
        service.until_said("Application startup complete", 3)

        assert hanging not in service.workers
        assert f"worker={hanging} reason='it did not respond to its health checks'" in service.said


def test_a_worker_that_is_killed_is_replaced_and_the_log_says_by_what(models: Path) -> None:
    """As the system's out-of-memory killer does."""
    publish_price(models)

    with serving(models, 2) as service:
        os.kill(service.workers[0], signal.SIGKILL)
        service.until_said("reason='it was ended by SIGKILL'")


def test_a_worker_that_hangs_does_not_delay_the_stop(models: Path) -> None:
    """The parent ends it when its time is over."""
    publish_price(models)

    with serving(models, 2, ONWARD_DEADLINE_SECONDS="1") as service:
        os.kill(service.workers[0], signal.SIGSTOP)
        service.process.send_signal(signal.SIGTERM)

        assert service.process.wait(30) == 0
    assert "worker ended by force" in service.said
