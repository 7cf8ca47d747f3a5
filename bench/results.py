"""Read and write the measurements of a run, which are stored in ``results.json``."""

from pathlib import Path

from pydantic import BaseModel

FILE = Path(__file__).parent / "results.json"


class Latency(BaseModel):
    """Requests a second and milliseconds at one number of connections."""

    rate: float
    p50: float
    p99: float


class Figure(BaseModel):
    """One request of one server.

    ``share`` is its rate divided by the rate of the floor in the same round, the median of the
    rounds; ``by_connections`` has the medians by rate.
    """

    request: str
    protocol: str
    share: float
    by_connections: dict[int, Latency]


class Server(BaseModel):
    """One server: versions, start-up time, memory and figures."""

    name: str
    versions: dict[str, str]
    ready_seconds: float = 0.0
    memory_mib: float = 0.0
    figures: list[Figure] = []
    not_measured: dict[str, str] = {}
    """Requests that were not measured, with the reason."""

    def figure(self, request: str, protocol: str) -> Figure | None:
        """The figure of one request."""
        matching = [it for it in self.figures if (it.request, it.protocol) == (request, protocol)]
        return matching[0] if matching else None


class Results(BaseModel):
    """The measurements of a run."""

    date: str
    machine: str
    python: str
    rounds: int
    seconds: int
    connections: int
    """The number of connections of the shares."""
    servers: list[Server]
    missing: dict[str, str] = {}
    """Servers that did not start, with the reason."""

    def server(self, name: str) -> Server | None:
        """The server of this name."""
        return next((server for server in self.servers if server.name == name), None)


def read_results() -> Results:
    """Read the last stored run."""
    return Results.model_validate_json(FILE.read_text())


def write_results(results: Results) -> None:
    """Store a run."""
    FILE.write_text(results.model_dump_json(indent=1) + "\n")
