"""The servers that are measured, and the requests that each of them gets."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bench.protocols import (
    BINARY,
    CSV,
    IMAGE,
    OBJECTS,
    OURS,
    PLAIN,
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
class Contestant:
    """A server to be measured.

    Args:
        name: one of `NAMES`.
        arguments: after the interpreter; ``{port}`` becomes a free port.
        cases: the requests that it gets.
        warm_seconds: seconds of load before the first measurement.
        environment: additional environment variables.
    """

    name: str
    arguments: tuple[str, ...]
    cases: tuple[RequestCase, ...]
    warm_seconds: int = 1
    environment: Mapping[str, str] | None = None


def contestants(names: Iterable[str], models: Path) -> list[Contestant]:
    """Return the contestants with these names, the floor first.

    Args:
        names: some of `NAMES`.
        models: the folder that all of them load.
    """
    wanted = {FLOOR, *names}
    return [_contestant(name, models) for name in NAMES if name in wanted]


def _contestant(name: str, models: Path) -> Contestant:
    if name == FLOOR:
        return Contestant(name, EMPTY_APP, tuple(_of_floor()))
    if name == OURSELVES:
        service = ("-m", "service", "--device", "cpu", "--port", "{port}", "--models", str(models))
        return Contestant(name, service, tuple(_of_ours()))
    if name == NAIVE:
        environment = {"BENCH_MODELS": str(models)}
        app = _uvicorn("bench.naive:app")
        return Contestant(name, app, tuple(_of_naive()), environment=environment)
    command = ("-m", f"bench.peers.{name}", "--models", str(models), "--port", "{port}")
    # TorchServe's front end is Java's, which needs its time to be compiled.
    return Contestant(name, command, tuple(_of_peer(name)), 6 if name == "torchserve" else 1)


def _uvicorn(app: str) -> tuple[str, ...]:
    """The command of uvicorn with every optional feature off."""
    bare = ("--no-access-log", "--no-proxy-headers", "--no-server-header", "--no-date-header")
    quick = ("--loop", "uvloop", "--http", "httptools", "--log-level", "warning")
    return ("-m", "uvicorn", app, *bare, *quick, "--port", "{port}")


EMPTY_APP = _uvicorn("bench.floor:app")


def _cases(
    protocol: str, letters: Iterable[str], how: RequestFormat | None = None
) -> Iterable[RequestCase]:
    """Yield these workloads in one protocol, in the format of our service by default."""
    mark = "b" if protocol == BINARY else ""
    for letter in letters:
        yield RequestCase(letter + mark, protocol, letter, how or OURS[protocol])


def _of_floor() -> Iterable[RequestCase]:
    """The requests of our service; every response counts as correct."""
    for one in (*_cases(PLAIN, "ABCD"), RequestCase("P", IMAGE, "D", OURS[IMAGE])):
        yield replace(
            one, how=RequestFormat(one.how.write, lambda _, __, workload: workload.expected)
        )


def _of_ours() -> Iterable[RequestCase]:
    for protocol in (PLAIN, V1, V2, BINARY):
        yield from _cases(protocol, _NUMBERS)
    yield from _cases(OBJECTS, ("B", "C"))
    yield from _cases(CSV, ("C",))
    for protocol in (IMAGE, V1_IMAGE):
        yield RequestCase("P", protocol, "D", OURS[protocol])


def _of_naive() -> Iterable[RequestCase]:
    yield from _cases(PLAIN, ("A",), _one_by_name())
    yield from _cases(PLAIN, _NUMBERS[1:], rows_at("/{model}"))
    yield RequestCase("P", IMAGE, "D", rows_at("/{model}/image", image="file"))


def _one_by_name() -> RequestFormat:
    """Named numbers, which have a path of their own; the response is like that of other rows."""
    written = OURS[PLAIN].write
    return RequestFormat(
        lambda workload: replace(written(workload), path="/admission/one"), rows_at("").read
    )


def _of_peer(name: str) -> Iterable[RequestCase]:
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
        yield from _cases(PLAIN, _NUMBERS, rows_at(path))
        yield RequestCase("P", IMAGE, "D", rows_at(image[0], image=image[1]))


# The paths for rows and images of the peers whose request format is defined in Python.
_OWN_FORMAT = {
    "litserve": ("/{model}", ("/{model}", "file")),
    "bentoml": ("/{model}", ("/image", "file")),
    "torchserve": ("/predictions/{model}", ("/predictions/{model}", "body")),
}
