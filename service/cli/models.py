"""``onward models``: the models of a running service as a table."""

import argparse
import json
import re
import sys
import urllib.error
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any

from service.settings import Settings

_CANNOT = 2
_SECONDS = 10.0
_HEADINGS = ("MODEL", "VERSION", "ALIASES", "STATE", "DEVICE", "REQUESTS", "REASON")
_EVERYWHERE = {"0.0.0.0", "::", ""}
_SAMPLE = re.compile(r"^(onward_\w+)\{(.*)\} (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'\b(\w++)="((?:[^"\\]|\\.)*+)"')

Key = tuple[str, str]


@dataclass
class Figures:
    """What the metrics tell of one version."""

    requests: int = 0
    device: str = "-"
    states: Counter[str] = field(default_factory=Counter)


def list_models(arguments: Sequence[str]) -> int:
    """Print the table; 2 with a sentence where there is no service that can be asked."""
    options = _parser().parse_args(arguments)
    base = options.url.rstrip("/")
    try:
        index = json.loads(_fetched(base, "/v2/repository/index", b""))
        figures = _figures(_metrics(base))
        rows = [_row(entry, figures) for entry in _list(index)]
    except (OSError, ValueError, KeyError, TypeError, HTTPException) as error:
        sys.stderr.write(
            f"{base} cannot be asked for its models: {_reason(error)}. Name a running service "
            "with --url http://HOST:PORT.\n"
        )
        return _CANNOT
    sys.stdout.write(_table(rows) if rows else "There is no model.\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    settings = Settings()
    host = "127.0.0.1" if settings.host in _EVERYWHERE else settings.host
    address = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
    parser = argparse.ArgumentParser(prog="onward models", description=__doc__)
    parser.add_argument(
        "--url", default=address, help="of the service (default: %(default)s, by the settings)"
    )
    return parser


def _fetched(base: str, path: str, body: bytes | None = None) -> str:
    if not base.startswith(("http://", "https://")):
        raise ValueError(f"{base!r} is no address of a service")
    with urllib.request.urlopen(base + path, body, timeout=_SECONDS) as answer:  # noqa: S310 - checked above
        content: bytes = answer.read()
    return content.decode()


def _list(index: object) -> Sequence[Any]:
    if not isinstance(index, list):
        raise TypeError
    return index


def _metrics(base: str) -> str:
    """The metrics, or nothing where a proxy keeps them from strangers."""
    try:
        return _fetched(base, "/metrics")
    except urllib.error.HTTPError:
        return ""


def _figures(text: str) -> Mapping[Key, Figures]:
    """What the metrics tell, by model and version, of all workers together."""
    found: defaultdict[Key, Figures] = defaultdict(Figures)
    for name, labels, value in _SAMPLE.findall(text):
        facts = dict(_LABEL.findall(labels))
        figures = found[facts.get("model", ""), facts.get("version", "")]
        if name == "onward_requests_total":
            figures.requests += int(float(value))
        elif name == "onward_model_ready":
            figures.device = facts["device"]
        elif name == "onward_model_state":
            figures.states[facts["state"]] += int(float(value))
    return found


def _row(entry: Mapping[str, Any], figures: Mapping[Key, Figures]) -> Sequence[str]:
    told = figures.get((entry["name"], entry["version"]), Figures())
    state = entry["state"]
    if len(told.states) > 1:  # the workers are not of one mind
        state = ", ".join(f"{name} {count}" for name, count in sorted(told.states.items()))
    return (
        entry["name"],
        entry["version"],
        ", ".join(entry.get("aliases", ())) or "-",
        state,
        told.device,
        str(told.requests),
        _printable(entry["reason"]),
    )


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(_HEADINGS, *rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (_HEADINGS, *rows)
    ]
    return "\n".join(lines) + "\n"


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"it answers {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    if isinstance(error, json.JSONDecodeError | KeyError | TypeError | HTTPException):
        return "what it answers is no index of models"
    return str(error)


def _printable(text: str) -> str:
    """A reason may quote what lies in a folder; it must not steer the terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
