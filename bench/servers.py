"""The servers that are measured, and their requests."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bench.processes import service_command
from bench.protocols import (
    BINARY,
    CSV,
    IMAGE,
    NATIVE,
    OBJECTS,
    OURS,
    V1,
    V1_IMAGE,
    V2,
    RequestFormat,
    rows_at,
)

FLOOR = "floor"
OURSELVES = "ours"
NAIVE = "naive"
PEERS = ("kserve", "mlserver", "litserve", "bentoml", "triton", "torchserve")
NAMES = (FLOOR, OURSELVES, NAIVE, *PEERS)

_NUMBERS = ("A", "B", "C", "D", "D*")


@dataclass(frozen=True)
class RequestCase:
    """One request in one protocol, as a row of the tables.

    Args:
        request: its name in the tables: the letter of a workload, followed by ``b`` for binary;
            P is the image of D as a file.
        protocol: its name in the tables.
        letter: the workload.
        how: writes the request and reads the response.
    """

    request: str
    protocol: str
    letter: str
    how: RequestFormat

    @property
    def key(self) -> str:
        """The unique name of the case."""
        return f"{self.request} {self.protocol}"


@dataclass(frozen=True)
class BenchmarkedServer:
    """A server to be measured.

    Args:
        name: one of `NAMES`.
        arguments: the command after the interpreter; ``{port}`` becomes a free port.
        cases: the requests that it gets.
        warm_seconds: seconds of load before the first measurement.
        environment: additional environment variables.
    """

    name: str
    arguments: tuple[str, ...]
    cases: tuple[RequestCase, ...]
    warm_seconds: int = 1
    environment: Mapping[str, str] | None = None


def select_servers(names: Iterable[str], models: Path) -> list[BenchmarkedServer]:
    """The servers with these names, the floor first.

    Args:
        names: some of `NAMES`.
        models: the folder that all of them load.
    """
    selected = {FLOOR, *names}
    return [_describe_server(name, models) for name in NAMES if name in selected]


def _describe_server(name: str, models: Path) -> BenchmarkedServer:
    if name == FLOOR:
        return BenchmarkedServer(name, EMPTY_APP, tuple(_floor_cases()))
    if name == OURSELVES:
        return BenchmarkedServer(
            name, service_command("--models", str(models)), tuple(_our_cases())
        )
    if name == NAIVE:
        environment = {"BENCH_MODELS": str(models)}
        app = _uvicorn("bench.naive:app")
        return BenchmarkedServer(name, app, tuple(_naive_cases()), environment=environment)
    command = ("-m", f"bench.peers.{name}", "--models", str(models), "--port", "{port}")
    # The front end of TorchServe is written in Java, which is compiled while it warms up.
    return BenchmarkedServer(
        name, command, tuple(_peer_cases(name)), 6 if name == "torchserve" else 1
    )


def _uvicorn(app: str) -> tuple[str, ...]:
    """The command of uvicorn with every optional feature off."""
    minimal = ("--no-access-log", "--no-proxy-headers", "--no-server-header", "--no-date-header")
    fast = ("--loop", "uvloop", "--http", "httptools", "--log-level", "warning")
    return ("-m", "uvicorn", app, *minimal, *fast, "--port", "{port}")


EMPTY_APP = _uvicorn("bench.floor:app")


def _cases(
    protocol: str, letters: Iterable[str], how: RequestFormat | None = None
) -> Iterable[RequestCase]:
    """The requests of these workloads in one protocol, in the format of our service by default."""
    mark = "b" if protocol == BINARY else ""
    for letter in letters:
        yield RequestCase(letter + mark, protocol, letter, how or OURS[protocol])


def _floor_cases() -> Iterable[RequestCase]:
    """The requests of our service; every response counts as correct."""
    for one in (*_cases(NATIVE, "ABCD"), RequestCase("P", IMAGE, "D", OURS[IMAGE])):
        yield replace(
            one, how=RequestFormat(one.how.write, lambda _, __, workload: workload.expected)
        )


def _our_cases() -> Iterable[RequestCase]:
    for protocol in (NATIVE, V1, V2, BINARY):
        yield from _cases(protocol, _NUMBERS)
    yield from _cases(OBJECTS, ("B", "C"))
    yield from _cases(CSV, ("C",))
    for protocol in (IMAGE, V1_IMAGE):
        yield RequestCase("P", protocol, "D", OURS[protocol])


def _naive_cases() -> Iterable[RequestCase]:
    yield from _cases(NATIVE, ("A",), _one_by_name())
    yield from _cases(NATIVE, _NUMBERS[1:], rows_at("/{model}"))
    yield RequestCase("P", IMAGE, "D", rows_at("/{model}/image", image="file"))


def _one_by_name() -> RequestFormat:
    """Named numbers, which are sent to a separate path and get the usual response."""
    write = OURS[NATIVE].write
    return RequestFormat(
        lambda workload: replace(write(workload), path="/admission/one"), rows_at("").read
    )


def _peer_cases(name: str) -> Iterable[RequestCase]:
    """The requests of a peer, in the protocols that it supports."""
    if name == "kserve":
        yield from _cases(V1, _NUMBERS)
        yield RequestCase("P", V1_IMAGE, "D", OURS[V1_IMAGE])
    if name in {"kserve", "mlserver", "triton"}:
        yield from _cases(V2, _NUMBERS)
    if name in {"kserve", "triton"}:
        yield from _cases(BINARY, _NUMBERS)
    if name in _OWN_FORMAT:
        path, image = _OWN_FORMAT[name]
        yield from _cases(NATIVE, _NUMBERS, rows_at(path))
        yield RequestCase("P", IMAGE, "D", rows_at(image[0], image=image[1]))


# The paths for rows and images of the peers whose request format is defined in Python.
_OWN_FORMAT = {
    "litserve": ("/{model}", ("/{model}", "file")),
    "bentoml": ("/{model}", ("/image", "file")),
    "torchserve": ("/predictions/{model}", ("/predictions/{model}", "body")),
}
