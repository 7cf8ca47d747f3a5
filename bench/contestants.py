"""Who is measured, and with which requests."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bench.dialects import (
    BINARY,
    CSV,
    IMAGE,
    OBJECTS,
    OURS,
    PLAIN,
    V1,
    V1_IMAGE,
    V2,
    Dialect,
    rows_at,
)

FLOOR = "floor"
OURSELVES = "ours"
NAIVE = "naive"
PEERS = ("kserve", "mlserver", "litserve", "bentoml", "triton", "torchserve")
NAMES = (FLOOR, OURSELVES, NAIVE, *PEERS)

_NUMBERS = ("A", "B", "C", "D", "D*")


@dataclass(frozen=True)
class Ask:
    """One request in one dialect.

    Args:
        request: as the tables call it: a workload's letter, ``b`` behind it for bytes, P for D's
            image as a file.
        dialect: as the tables call it.
        letter: of the workload.
        how: to write and to read it.
    """

    request: str
    dialect: str
    letter: str
    how: Dialect

    @property
    def key(self) -> str:
        """What tells it from the others."""
        return f"{self.request} {self.dialect}"


@dataclass(frozen=True)
class Contestant:
    """A server to be measured.

    Args:
        name: one of `NAMES`.
        arguments: after the interpreter; ``{port}`` becomes a free port.
        asks: what it is asked.
        warm_seconds: of load before anything is measured.
        environment: variables that it needs.
    """

    name: str
    arguments: tuple[str, ...]
    asks: tuple[Ask, ...]
    warm_seconds: int = 1
    environment: Mapping[str, str] | None = None


def contestants(names: Iterable[str], models: Path) -> list[Contestant]:
    """Those of these names, the floor first.

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
    """The least that uvicorn can be told to do."""
    bare = ("--no-access-log", "--no-proxy-headers", "--no-server-header", "--no-date-header")
    quick = ("--loop", "uvloop", "--http", "httptools", "--log-level", "warning")
    return ("-m", "uvicorn", app, *bare, *quick, "--port", "{port}")


EMPTY_APP = _uvicorn("bench.floor:app")


def _asks(dialect: str, letters: Iterable[str], how: Dialect | None = None) -> Iterable[Ask]:
    """These workloads in one dialect; ours, unless another is given."""
    mark = "b" if dialect == BINARY else ""
    for letter in letters:
        yield Ask(letter + mark, dialect, letter, how or OURS[dialect])


def _of_floor() -> Iterable[Ask]:
    """What ours is asked; whatever it answers is right."""
    for one in (*_asks(PLAIN, "ABCD"), Ask("P", IMAGE, "D", OURS[IMAGE])):
        yield replace(one, how=Dialect(one.how.write, lambda _, __, asked: asked.expected))


def _of_ours() -> Iterable[Ask]:
    for dialect in (PLAIN, V1, V2, BINARY):
        yield from _asks(dialect, _NUMBERS)
    yield from _asks(OBJECTS, ("B", "C"))
    yield from _asks(CSV, ("C",))
    for dialect in (IMAGE, V1_IMAGE):
        yield Ask("P", dialect, "D", OURS[dialect])


def _of_naive() -> Iterable[Ask]:
    yield from _asks(PLAIN, ("A",), _one_by_name())
    yield from _asks(PLAIN, _NUMBERS[1:], rows_at("/{model}"))
    yield Ask("P", IMAGE, "D", rows_at("/{model}/image", image="file"))


def _one_by_name() -> Dialect:
    """Named numbers at a path of their own, answered as the other rows are."""
    written = OURS[PLAIN].write
    return Dialect(lambda asked: replace(written(asked), path="/admission/one"), rows_at("").read)


def _of_peer(name: str) -> Iterable[Ask]:
    """Each in what it speaks."""
    if name == "kserve":
        yield from _asks(V1, _NUMBERS)
        yield Ask("P", V1_IMAGE, "D", OURS[V1_IMAGE])
    if name in {"kserve", "mlserver", "triton"}:
        yield from _asks(V2, _NUMBERS)
    if name in {"kserve", "triton"}:
        yield from _asks(BINARY, _NUMBERS)
    if name in _OWN_FORM:
        path, image = _OWN_FORM[name]
        yield from _asks(PLAIN, _NUMBERS, rows_at(path))
        yield Ask("P", IMAGE, "D", rows_at(image[0], image=image[1]))


# Where those that define their requests in Python take rows, and where and how an image.
_OWN_FORM = {
    "litserve": ("/{model}", ("/{model}", "file")),
    "bentoml": ("/{model}", ("/image", "file")),
    "torchserve": ("/predictions/{model}", ("/predictions/{model}", "body")),
}
