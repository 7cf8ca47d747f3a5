"""The command that lists the models of a running service."""

import argparse
import json
import sys
import urllib.error
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any

from service.cli.options import USAGE_ERROR
from service.observability.exposition import read_samples
from service.settings import Settings

_TIMEOUT_SECONDS = 10.0
_HEADINGS = ("MODEL", "VERSION", "ALIASES", "STATE", "DEVICE", "REQUESTS", "REASON")
_ALL_ADDRESSES = {"0.0.0.0", "::", ""}

VersionKey = tuple[str, str]


@dataclass
class VersionStats:
    """The metrics of one version, summed over all workers."""

    requests: int = 0
    device: str = "-"
    states: Counter[str] = field(default_factory=Counter)


def list_models(arguments: Sequence[str]) -> int:
    """Print the table; return 2, with a message, if no service responds."""
    options = _parser().parse_args(arguments)
    base = options.url.rstrip("/")
    try:
        index = json.loads(_fetch(base, "/v2/repository/index", b""))
        stats = _fetch_stats(base)
        rows = [_format_row(entry, stats) for entry in _require_list(index)]
    except (OSError, ValueError, KeyError, TypeError, HTTPException) as error:
        sys.stderr.write(
            f"{base} cannot list its models: {_describe_error(error)}. Name a running service with "
            "--url http://HOST:PORT.\n"
        )
        return USAGE_ERROR
    sys.stdout.write(_format_table(rows) if rows else "There is no model.\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    settings = Settings()
    host = "127.0.0.1" if settings.host in _ALL_ADDRESSES else settings.host
    address = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
    parser = argparse.ArgumentParser(
        prog="onward models",
        description="List the models of a running service, with versions, states and requests.",
    )
    parser.add_argument(
        "--url", default=address, help="of the service (default: %(default)s, from the settings)"
    )
    return parser


def _fetch(base: str, path: str, body: bytes | None = None) -> str:
    if not base.startswith(("http://", "https://")):
        raise ValueError(f"{base!r} is not the address of a service")
    with urllib.request.urlopen(base + path, body, timeout=_TIMEOUT_SECONDS) as response:  # noqa: S310 - checked above
        content: bytes = response.read()
    return content.decode()


def _require_list(index: object) -> Sequence[Any]:
    if not isinstance(index, list):
        raise TypeError
    return index


def _fetch_stats(base: str) -> Mapping[VersionKey, VersionStats]:
    """Fetch the metrics of each model and version; none if a proxy withholds them."""
    collected: defaultdict[VersionKey, VersionStats] = defaultdict(VersionStats)
    try:
        samples = read_samples(_fetch(base, "/metrics"))
    except (urllib.error.HTTPError, ValueError, IndexError):  # the parser raises both for errors
        return collected
    for name, labels, value in samples:
        stats = collected[labels.get("model", ""), labels.get("version", "")]
        if name == "onward_requests_total":
            stats.requests += int(value)
        elif name == "onward_model_ready":
            stats.device = labels["device"]
        elif name == "onward_model_state":
            stats.states[labels["state"]] += int(value)
    return collected


def _format_row(
    entry: Mapping[str, Any], collected: Mapping[VersionKey, VersionStats]
) -> Sequence[str]:
    stats = collected.get((entry["name"], entry["version"]), VersionStats())
    state = entry["state"]
    if len(stats.states) > 1:  # the workers differ
        state = ", ".join(f"{name} {count}" for name, count in sorted(stats.states.items()))
    return (
        entry["name"],
        entry["version"],
        ", ".join(entry.get("aliases", ())) or "-",
        state,
        stats.device,
        str(stats.requests),
        _make_printable(entry["reason"]),
    )


def _format_table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(_HEADINGS, *rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (_HEADINGS, *rows)
    ]
    return "\n".join(lines) + "\n"


def _describe_error(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"it responds with status {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    if isinstance(error, json.JSONDecodeError | KeyError | TypeError | HTTPException):
        return "its response is not an index of models"
    return str(error)


def _make_printable(text: str) -> str:
    """Replace control characters, which file names in a reason could send to the terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)
