"""Measure how a busy service stops after SIGTERM.

It must end within the drain time, the deadline and one more second, and every client that has sent
a complete request before the port is closed must get a response. The exit status is 1 if one of
these is missed. Run it by ``python -m bench.stop``.
"""

import argparse
import contextlib
import http.client
import json
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.hostile.requests import CSV, PREDICT, ROW, chunk, head, post
from bench.levels import has_ended
from bench.page import replace_section
from bench.processes import Running, Start, exit_on_sigterm, service_command, started
from tests.models import counting_loop, publish_bare

_MODELS = Path(__file__).parents[1] / "models"
_ENDLESS = "endless"
_STEPS = 2**62
_DRAIN_SECONDS, _DEADLINE_SECONDS = 2.0, 3.0
_LIMIT_SECONDS = _DRAIN_SECONDS + _DEADLINE_SECONDS + 1
# Until the kernel has removed the process and this program has noticed it.
_TOLERANCE_SECONDS = 0.5
_BUSY_SECONDS = 1.0
_TIMEOUT_SECONDS = 30.0
_CLIENTS = 60


@dataclass
class Observations:
    """The responses that the clients got from a service that stops."""

    outcomes: Counter[str] = field(default_factory=Counter)
    """Of complete requests: statuses, or the errors of connections without a response."""
    partial: Counter[str] = field(default_factory=Counter)
    """Of incomplete requests."""
    stopped: threading.Event = field(default_factory=threading.Event)
    """Set when the process has ended."""

    @property
    def without_response(self) -> int:
        """The number of complete requests without a response."""
        return sum(count for outcome, count in self.outcomes.items() if not outcome.isdigit())


def main(arguments: Sequence[str] | None = None) -> int:
    """Stop the service in each situation; return 1 if a limit was missed."""
    options = _parser().parse_args(arguments)
    exit_on_sigterm()
    lines, failed = [*_head()], False
    sys.stdout.write("\n".join(lines) + "\n")
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder)
        (models / "admission").symlink_to(_MODELS / "admission")
        publish_bare(models, _ENDLESS, counting_loop())
        for workers in options.workers:
            for name in options.situations:
                seconds, observed = _measure(models, SITUATIONS[name], workers)
                missed = (
                    seconds > _LIMIT_SECONDS + _TOLERANCE_SECONDS or observed.without_response > 0
                )
                failed = failed or missed
                lines.append(_line(name, workers, seconds, observed))
                sys.stdout.write(lines[-1] + "\n")
                sys.stdout.flush()
    if options.write:
        replace_section("Stops", lines)
    return 1 if failed else 0


def endless_run(address: tuple[str, int], observed: Observations) -> None:
    """Request a prediction that never ends."""
    tensor = {"name": "steps", "datatype": "INT64", "shape": [1], "data": [_STEPS]}
    body = json.dumps({"inputs": [tensor]}).encode()
    _exchange(address, post(f"/v2/models/{_ENDLESS}/infer", body), observed)


def streaming_table(address: tuple[str, int], observed: Observations) -> None:
    """Send a table slowly and receive predictions until the service ends."""
    with _connect(address) as connection:
        connection.sendall(head(PREDICT, "Transfer-Encoding: chunked", kind=CSV))
        connection.settimeout(0.05)
        received = b""
        rows = chunk(b"exam_1,exam_2\n")
        while not received.endswith(b"0\r\n\r\n"):
            try:
                connection.sendall(rows)
                received += connection.recv(65536) or _raise_closed()
            except TimeoutError:
                pass
            except OSError as error:
                observed.partial[_name_error(error)] += 1
                return
            rows = chunk(b"45,85\n" * 100)
        observed.partial["complete stream"] += 1


def slow_upload(address: tuple[str, int], observed: Observations) -> None:
    """Send a body slowly until the service ends."""
    with _connect(address) as connection:
        connection.sendall(head(PREDICT, "Content-Length: 1000000"))
        connection.settimeout(0.05)
        while True:
            try:
                connection.sendall(b" " * 100)
                received = connection.recv(65536) or _raise_closed()
            except TimeoutError:
                continue
            except OSError as error:
                observed.partial[_name_error(error)] += 1
                return
            observed.partial[received[9:12].decode()] += 1
            return


def connecting(address: tuple[str, int], observed: Observations) -> None:
    """Connect, request a prediction and close, repeatedly until the port is closed."""
    while not observed.stopped.is_set():
        try:
            connection = _connect(address)
        except OSError:
            # The port is closed.
            observed.partial["no connection"] += 1
            return
        with connection:
            _send(connection, post(PREDICT, ROW), observed)
        time.sleep(0.01)


Client = Callable[[tuple[str, int], Observations], None]
SITUATIONS: Mapping[str, Sequence[Client]] = {
    "endless": [endless_run],
    "table": [streaming_table],
    "upload": [slow_upload],
    "connecting": [connecting] * _CLIENTS,
    "all": [endless_run, streaming_table, slow_upload, *[connecting] * _CLIENTS],
}


def _measure(models: Path, clients: Sequence[Client], workers: int) -> tuple[float, Observations]:
    """Seconds from SIGTERM to the end of the process, and the clients' observations."""
    settings = ["--models", str(models), "--workers", str(workers)]
    settings += ["--drain-seconds", str(_DRAIN_SECONDS)]
    settings += ["--deadline-seconds", str(_DEADLINE_SECONDS)]
    observed = Observations()
    with started(Start(service_command(*settings), core=None)) as service:
        time.sleep(_BUSY_SECONDS)
        threads = [threading.Thread(target=it, args=(service.endpoint, observed)) for it in clients]
        for thread in threads:
            thread.start()
        time.sleep(_BUSY_SECONDS)
        seconds = _stop(service)
        observed.stopped.set()
        for thread in threads:
            thread.join()
    return seconds, observed


def _stop(service: Running) -> float:
    """Send SIGTERM, and return the seconds until the process has ended; kill it after a timeout."""
    os.kill(service.process, signal.SIGTERM)
    began = time.monotonic()
    while time.monotonic() - began < _LIMIT_SECONDS + _TIMEOUT_SECONDS:
        if has_ended(service.process):
            break
        time.sleep(0.01)
    seconds = time.monotonic() - began
    for process in service.processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    return seconds


def _exchange(address: tuple[str, int], request: bytes, observed: Observations) -> None:
    with _connect(address) as connection:
        _send(connection, request, observed)


def _send(connection: socket.socket, request: bytes, observed: Observations) -> None:
    """Send a complete request, and count its response or error."""
    try:
        connection.sendall(request)
    except OSError as error:
        observed.partial[_name_error(error)] += 1
        return
    response = http.client.HTTPResponse(connection)
    try:
        response.begin()
        response.read()
        observed.outcomes[str(response.status)] += 1
    except (OSError, http.client.HTTPException) as error:
        observed.outcomes[_name_error(error)] += 1


def _connect(address: tuple[str, int]) -> socket.socket:
    connection = socket.create_connection(address, _TIMEOUT_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _raise_closed() -> bytes:
    raise ConnectionAbortedError


def _name_error(error: Exception) -> str:
    return type(error).__name__


def _head() -> Iterator[str]:
    yield f"Made by `python -m bench.stop`: SIGTERM to a busy service with {_DRAIN_SECONDS:g} s of"
    yield f"drain time and a deadline of {_DEADLINE_SECONDS:g} s. It must end within their sum and"
    yield f"a second ({_LIMIT_SECONDS:g} s), and a complete request of a connected client must get"
    yield "a response. Situations: a model run that never ends, a table that is being sent, a slow"
    yield f"upload, {_CLIENTS} clients that connect repeatedly, and all of these at once."
    yield ""
    yield (
        "| situation | workers | ended after s | responses to complete requests "
        "| without a response | incomplete requests |"
    )
    yield "|---|---|---|---|---|---|"


def _line(name: str, workers: int, seconds: float, observed: Observations) -> str:
    responses, others = (
        ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
        for counts in (observed.outcomes, observed.partial)
    )
    late = " (too late)" if seconds > _LIMIT_SECONDS + _TOLERANCE_SECONDS else ""
    cells = (name, workers, f"{seconds:.1f}{late}", responses, observed.without_response, others)
    return f"| {' | '.join(map(str, cells))} |"


def _situation(name: str) -> str:
    if name not in SITUATIONS:
        raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(SITUATIONS)}")
    return name


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.stop", description=__doc__)
    parser.add_argument(
        "situations", nargs="*", type=_situation, help=", ".join(SITUATIONS), default=[*SITUATIONS]
    )
    parser.add_argument(
        "--workers", type=lambda text: [int(it) for it in text.split(",")], default=[1, 2]
    )
    parser.add_argument("--write", action="store_true", help="write the table into RESULTS.md")
    return parser


if __name__ == "__main__":
    sys.exit(main())
