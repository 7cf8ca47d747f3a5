"""``python -m bench.stop``: what SIGTERM does to a service that is busy.

It must end within the seconds of draining, the deadline and one second more, and every client
that had sent a complete request before the port closed must get a response. Ends with 1 where
one of these is missed.
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
from urllib.parse import urlsplit

from onnx import TensorProto, helper

from bench.hostile.requests import CSV, PREDICT, ROW, chunk, head, post
from bench.page import replace_section
from bench.processes import Running, Start, started
from tests.models import publish_bare

_MODELS = Path(__file__).parents[1] / "models"
_ENDLESS = "endless"
_ROUNDS = 2**62
_DRAIN_SECONDS, _DEADLINE_SECONDS = 2.0, 3.0
_BOUND_SECONDS = _DRAIN_SECONDS + _DEADLINE_SECONDS + 1
# Until the kernel has taken the process down, and we have noticed.
_SLACK_SECONDS = 0.5
_AHEAD_SECONDS = 1.0
_PATIENCE_SECONDS = 30.0
_CLIENTS = 60
_OPSET, _IR_VERSION = 18, 8


@dataclass
class Seen:
    """What the clients saw of a service that stops."""

    outcomes: Counter[str] = field(default_factory=Counter)
    """Of whole requests: statuses, or how their connection ended without one."""
    partial: Counter[str] = field(default_factory=Counter)
    """Of requests that were not whole."""
    stopped: threading.Event = field(default_factory=threading.Event)
    """The process has ended."""

    @property
    def unanswered(self) -> int:
        """Whole requests without a response."""
        return sum(count for outcome, count in self.outcomes.items() if not outcome.isdigit())


def main(arguments: Sequence[str] | None = None) -> int:
    """Stop the service in each situation; 1 where something was missed."""
    options = _parser().parse_args(arguments)
    # So that what was started ends too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    lines, failed = [*_head()], False
    sys.stdout.write("\n".join(lines) + "\n")
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder)
        (models / "admission").symlink_to(_MODELS / "admission")
        publish_bare(models, _ENDLESS, endless_graph())
        for workers in options.workers:
            for name in options.situations:
                seconds, seen = _measure(models, SITUATIONS[name], workers)
                missed = seconds > _BOUND_SECONDS + _SLACK_SECONDS or seen.unanswered > 0
                failed = failed or missed
                lines.append(_line(name, workers, seconds, seen))
                sys.stdout.write(lines[-1] + "\n")
                sys.stdout.flush()
    if options.write:
        replace_section("Stops", lines)
    return 1 if failed else 0


def endless_graph() -> bytes:
    """A bare graph that counts to its input: seconds, or for ever."""
    number = [
        helper.make_tensor_value_info(name, element, [])
        for name, element in (
            ("turn", TensorProto.INT64),
            ("go", TensorProto.BOOL),
            ("sum", TensorProto.INT64),
        )
    ]
    results = [
        helper.make_tensor_value_info(name, element, [])
        for name, element in (("goes", TensorProto.BOOL), ("next", TensorProto.INT64))
    ]
    one = helper.make_tensor("one", TensorProto.INT64, [], [1])
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["goes"]),
            helper.make_node("Add", ["sum", "one"], ["next"]),
        ],
        "body",
        number,
        results,
        [one],
    )
    zero = helper.make_tensor("zero", TensorProto.INT64, [], [0])
    true = helper.make_tensor("true", TensorProto.BOOL, [], [1])
    last = helper.make_tensor("last", TensorProto.INT64, [1], [1])
    graph = helper.make_graph(
        [
            helper.make_node("Loop", ["rounds", "true", "zero"], ["count"], body=body),
            helper.make_node("Reshape", ["count", "last"], ["counted"]),
        ],
        "endless",
        [helper.make_tensor_value_info("rounds", TensorProto.INT64, [1])],
        [helper.make_tensor_value_info("counted", TensorProto.INT64, [1])],
        [zero, true, last],
    )
    opset = [helper.make_opsetid("", _OPSET)]
    model = helper.make_model(graph, ir_version=_IR_VERSION, opset_imports=opset)
    content: bytes = model.SerializeToString()
    return content


def endless_run(address: tuple[str, int], seen: Seen) -> None:
    """A prediction of a model that never ends."""
    tensor = {"name": "rounds", "datatype": "INT64", "shape": [1], "data": [_ROUNDS]}
    body = json.dumps({"inputs": [tensor]}).encode()
    _exchange(address, post(f"/v2/models/{_ENDLESS}/infer", body), seen)


def streaming_table(address: tuple[str, int], seen: Seen) -> None:
    """A table that is sent row by row while predictions are received, until the service ends."""
    with _connected(address) as line:
        line.sendall(head(PREDICT, "Transfer-Encoding: chunked", kind=CSV))
        line.settimeout(0.05)
        received = b""
        rows = chunk(b"exam_1,exam_2\n")
        while not received.endswith(b"0\r\n\r\n"):
            try:
                line.sendall(rows)
                received += line.recv(65536) or _ended()
            except TimeoutError:
                pass
            except OSError as error:
                seen.partial[_name_of(error)] += 1
                return
            rows = chunk(b"45,85\n" * 100)
        seen.partial["ended as a stream does"] += 1


def slow_upload(address: tuple[str, int], seen: Seen) -> None:
    """A body that is still on its way when the service ends."""
    with _connected(address) as line:
        line.sendall(head(PREDICT, "Content-Length: 1000000"))
        line.settimeout(0.05)
        while True:
            try:
                line.sendall(b" " * 100)
                received = line.recv(65536) or _ended()
            except TimeoutError:
                continue
            except OSError as error:
                seen.partial[_name_of(error)] += 1
                return
            seen.partial[received[9:12].decode()] += 1
            return


def connecting(address: tuple[str, int], seen: Seen) -> None:
    """A client that connects, predicts and closes, over and over, until nobody listens."""
    while not seen.stopped.is_set():
        try:
            line = _connected(address)
        except OSError:
            # The port is closed, or its process is.
            seen.partial["no connection"] += 1
            return
        with line:
            _send(line, post(PREDICT, ROW), seen)
        time.sleep(0.01)


Client = Callable[[tuple[str, int], Seen], None]
SITUATIONS: Mapping[str, Sequence[Client]] = {
    "endless": [endless_run],
    "table": [streaming_table],
    "upload": [slow_upload],
    "connecting": [connecting] * _CLIENTS,
    "all": [endless_run, streaming_table, slow_upload, *[connecting] * _CLIENTS],
}


def _measure(models: Path, clients: Sequence[Client], workers: int) -> tuple[float, Seen]:
    """Seconds from SIGTERM to the end of the process, and what the clients saw."""
    command = ["-m", "service", "--device", "cpu", "--port", "{port}", "--models", str(models)]
    command += ["--workers", str(workers), "--drain-seconds", str(_DRAIN_SECONDS)]
    command += ["--deadline-seconds", str(_DEADLINE_SECONDS)]
    seen = Seen()
    with started(Start(command, "/health/ready", core=None)) as service:
        time.sleep(_AHEAD_SECONDS)
        parts = urlsplit(service.address)
        address = str(parts.hostname), int(parts.port or 0)
        threads = [threading.Thread(target=it, args=(address, seen)) for it in clients]
        for thread in threads:
            thread.start()
        time.sleep(_AHEAD_SECONDS)
        seconds = _stopped(service)
        seen.stopped.set()
        for thread in threads:
            thread.join()
    return seconds, seen


def _stopped(service: Running) -> float:
    """Send SIGTERM, and wait until the process has ended; what never ends is killed."""
    os.kill(service.process, signal.SIGTERM)
    began = time.monotonic()
    while time.monotonic() - began < _BOUND_SECONDS + _PATIENCE_SECONDS:
        if _has_ended(service.process):
            break
        time.sleep(0.01)
    seconds = time.monotonic() - began
    for process in service.processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    return seconds


def _has_ended(process: int) -> bool:
    """Whether the process has ended and only waits to be reaped."""
    state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    return state == "Z"


def _exchange(address: tuple[str, int], request: bytes, seen: Seen) -> None:
    with _connected(address) as line:
        _send(line, request, seen)


def _send(line: socket.socket, request: bytes, seen: Seen) -> None:
    """Send a whole request, and count its response or how it ended without one."""
    try:
        line.sendall(request)
    except OSError as error:
        seen.partial[_name_of(error)] += 1
        return
    response = http.client.HTTPResponse(line)
    try:
        response.begin()
        response.read()
        seen.outcomes[str(response.status)] += 1
    except (OSError, http.client.HTTPException) as error:
        seen.outcomes[_name_of(error)] += 1


def _connected(address: tuple[str, int]) -> socket.socket:
    line = socket.create_connection(address, _PATIENCE_SECONDS)
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return line


def _ended() -> bytes:
    raise ConnectionAbortedError


def _name_of(error: Exception) -> str:
    return type(error).__name__


def _head() -> Iterator[str]:
    yield f"Made by `python -m bench.stop`: SIGTERM to a busy service; {_DRAIN_SECONDS:g} s of"
    yield f"draining, a deadline of {_DEADLINE_SECONDS:g} s. It must end within their sum and a"
    yield f"second ({_BOUND_SECONDS:g} s), and a complete request of a connected client must get a"
    yield "response. Situations: a model run that never ends, a table that is being sent, a slow"
    yield f"upload, {_CLIENTS} clients that keep connecting, and all of these at once."
    yield ""
    yield (
        "| situation | workers | ended after s | responses to whole requests | without a response "
        "| others saw |"
    )
    yield "|---|---|---|---|---|---|"


def _line(name: str, workers: int, seconds: float, seen: Seen) -> str:
    responses, others = (
        ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
        for counts in (seen.outcomes, seen.partial)
    )
    late = " (too late)" if seconds > _BOUND_SECONDS + _SLACK_SECONDS else ""
    return (
        f"| {name} | {workers} | {seconds:.1f}{late} | {responses} | {seen.unanswered} | {others} |"
    )


def _situation(name: str) -> str:
    if name not in SITUATIONS:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(SITUATIONS)}")
    return name


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.stop", description=__doc__)
    parser.add_argument(
        "situations", nargs="*", type=_situation, help=", ".join(SITUATIONS), default=[*SITUATIONS]
    )
    parser.add_argument(
        "--workers", type=lambda text: [int(it) for it in text.split(",")], default=[1, 2]
    )
    parser.add_argument("--write", action="store_true", help="the table into RESULTS.md too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
