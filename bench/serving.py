"""Write the section of ``RESULTS.md`` about serving."""

from collections.abc import Iterator, Mapping

from bench.protocols import BINARY, CSV, IMAGE, NATIVE, OBJECTS, V1, V1_IMAGE, V2
from bench.results import Figure, Results, Server
from bench.servers import FLOOR, OURSELVES

# The limit and the target of each request.
_LIMITS: Mapping[str, tuple[float, float]] = {
    "A": (0.60, 0.75),
    "B": (0.40, 0.55),
    "Bb": (0.58, 0.65),
    "C": (0.24, 0.40),
    "Cb": (0.52, 0.60),
    "D": (0.28, 0.40),
    "Db": (0.40, 0.45),
    "P": (0.36, 0.45),
}
_TITLES: Mapping[str, str] = {
    "A": "a row of two numbers, logistic regression",
    "B": "a row of 784, dense network of 128 units",
    "C": "256 rows of two numbers",
    "D": "a digit of 784 pixels, the convolutional network `digits_conv`",
    "P": "the same digit as a PNG file",
    "D*": "the same digit, the network `digits_cnn` with twelve times the operations",
}
_PROTOCOLS = (NATIVE, OBJECTS, V1, V2, BINARY, CSV, IMAGE, V1_IMAGE)


def lines(results: Results) -> Iterator[str]:
    """The lines of the section after its title."""
    yield from _head(results)
    yield from _shares(results)
    yield from _multiples(results)
    yield from _table_of_rates(results)
    yield from _latencies(results)
    yield from _costs(results)
    yield from _not_measured(results)


def select_protocol(request: str) -> str:
    """The protocol to which the limits apply: binary, a file, or otherwise v1.

    The limits were set by these; the native response to 256 rows contains 29 kB of labels.
    """
    return BINARY if request.endswith("b") else IMAGE if request == "P" else V1


def _head(results: Results) -> Iterator[str]:
    yield f"Made by `make bench` on {results.date}, {results.machine}, Python {results.python}. The"
    yield "server is on one core and wrk on another; every server loads the same ONNX files, with"
    yield f"one thread except in naive FastAPI; {results.rounds} rounds, each request for"
    yield f"{results.seconds} s, medians at {results.connections} connections. A share is the rate"
    yield "relative to an empty ASGI application that reads its body, under the same uvicorn"
    yield "(uvloop, httptools, no log, no Server or Date header), measured directly before and"
    yield "after; multiples are quotients of shares. A figure is invalid if a response differs"
    yield "from the output of ONNX Runtime, is an error or is incomplete."
    yield ""
    yield "![Requests per second relative to an empty ASGI application](serving.svg)"
    yield ""
    for letter, title in _TITLES.items():
        yield f"- {letter}: {title}"
    yield "- b after a letter: binary tensors of v2"


def _shares(results: Results) -> Iterator[str]:
    ours = results.server(OURSELVES)
    if ours is None:
        return
    yield from (
        "",
        "| request, as `instances` | share of the floor | limit | target | p99 ms at 32 |",
        "|---|---|---|---|---|",
    )
    for request, (limit, target) in _LIMITS.items():
        figure = ours.figure(request, select_protocol(request))
        if figure is None:
            yield f"| {request} | not measured | {limit:.0%} | {target:.0%} | |"
            continue
        at = figure.by_connections[results.connections]
        yield f"| {request} | {figure.share:.0%} | {limit:.0%} | {target:.0%} | {at.p99:.1f} |"
    yield ""
    yield "| ours, share of the floor | A | B | C | D | D* | P |"
    yield "|---|---|---|---|---|---|---|"
    for protocol in _PROTOCOLS:
        mark = "b" if protocol == BINARY else ""
        cells = [ours.figure(letter + mark, protocol) for letter in ("A", "B", "C", "D", "D*", "P")]
        yield _row(protocol, [f"{it.share:.0%}" if it else "" for it in cells])


def _multiples(results: Results) -> Iterator[str]:
    """The rates of this service divided by those of others in the same protocol."""
    ours = results.server(OURSELVES)
    others = [it for it in results.servers if it.name not in {OURSELVES, FLOOR}]
    if ours is None or not others:
        return
    requests = ("A", "B", "C", "D", "D*", "P")
    yield from ("", _row("ours, times as fast as", requests), "|---" * (len(requests) + 1) + "|")
    for server in others:
        for protocol in _list_protocols(server):
            mark = "b" if protocol == BINARY else ""
            cells = []
            for letter in requests:
                name = _select_image_protocol(protocol) if letter == "P" else protocol
                their_figure = server.figure(letter + mark, name) if name else None
                our_figure = ours.figure(letter + mark, name) if name else None
                if our_figure and their_figure:
                    cells.append(f"{our_figure.share / their_figure.share:.1f}")
                else:
                    cells.append("")
            yield _row(f"{server.name}, {protocol}", cells)


def _select_image_protocol(protocol: str) -> str | None:
    """The protocol of an image for a client of a protocol; None if it supports no files."""
    return {NATIVE: IMAGE, V1: V1_IMAGE}.get(protocol)


def _list_protocols(server: Server) -> list[str]:
    supported = {figure.protocol for figure in server.figures}
    return [protocol for protocol in (NATIVE, V1, V2, BINARY) if protocol in supported]


def _table_of_rates(results: Results) -> Iterator[str]:
    connections = results.connections
    yield ""
    yield f"| server, protocol | requests/s at {connections}: A | B | C | D | D* | P |"
    yield "|---|---|---|---|---|---|---|"
    for server in results.servers:
        for protocol in [it for it in _PROTOCOLS if any(f.protocol == it for f in server.figures)]:
            mark = "b" if protocol == BINARY else ""
            cells = [server.figure(it + mark, protocol) for it in ("A", "B", "C", "D", "D*", "P")]
            rates = [f"{it.by_connections[connections].rate:,.0f}" if it else "" for it in cells]
            yield _row(f"{server.name}, {protocol}", rates)


def _latencies(results: Results) -> Iterator[str]:
    counts = sorted({n for s in results.servers for f in s.figures for n in f.by_connections})
    for letter in ("A", "B", "C", "D", "P"):
        heads = [f"p50 / p99 ms at {count}" for count in counts]
        yield from ("", _row(letter, heads), "|---" * (len(heads) + 1) + "|")
        for server in results.servers:
            for figure in server.figures:
                if figure.request in {letter, letter + "b"}:
                    yield _row(f"{server.name}, {figure.protocol}", _times(figure, counts))


def _times(figure: Figure, counts: list[int]) -> list[str]:
    found = [figure.by_connections.get(count) for count in counts]
    return [f"{it.p50:.2f} / {it.p99:.1f}" if it else "" for it in found]


def _costs(results: Results) -> Iterator[str]:
    yield from ("", "| server | ready after s | memory MiB | versions |", "|---|---|---|---|")
    for server in results.servers:
        named = ", ".join(f"{name} {version}" for name, version in server.versions.items())
        yield f"| {server.name} | {server.ready_seconds:.1f} | {server.memory_mib:.0f} | {named} |"
    yield ""
    yield "Memory is the proportional set size of all its processes after the load."


def _not_measured(results: Results) -> Iterator[str]:
    reasons = [f"{name}: {reason}" for name, reason in results.missing.items()]
    for server in results.servers:
        reasons += [
            f"{server.name}, {key}: {reason}" for key, reason in server.not_measured.items()
        ]
    if reasons:
        yield from ("", "Not measured:", "")
        yield from (f"- {reason}" for reason in reasons)


def _row(first: str, cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join((first, *cells))} |"
