"""What a run measured, as ``results.json`` keeps it."""

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

    ``share`` is its rate to that of the floor measured beside it, the median of the rounds, and
    ``by_connections`` the medians by rate.
    """

    request: str
    dialect: str
    share: float
    by_connections: dict[int, Latency]


class Server(BaseModel):
    """One server: its versions, what it takes, and its figures."""

    name: str
    versions: dict[str, str]
    ready_seconds: float = 0.0
    memory_mib: float = 0.0
    figures: list[Figure] = []
    refused: dict[str, str] = {}
    """Requests that were not measured, with the reason."""

    def figure(self, request: str, dialect: str) -> Figure | None:
        """The figure of one request."""
        matching = [it for it in self.figures if (it.request, it.dialect) == (request, dialect)]
        return matching[0] if matching else None


class Results(BaseModel):
    """A whole run."""

    date: str
    machine: str
    python: str
    rounds: int
    seconds: int
    connections: int
    """At which the shares were measured."""
    servers: list[Server]
    missing: dict[str, str] = {}
    """Servers that did not start, with the reason."""

    def server(self, name: str) -> Server | None:
        """The server of this name."""
        return next((server for server in self.servers if server.name == name), None)


def read_results() -> Results:
    """The last run that was kept."""
    return Results.model_validate_json(FILE.read_text())


def write_results(results: Results) -> None:
    """Keep a run."""
    FILE.write_text(results.model_dump_json(indent=1) + "\n")
