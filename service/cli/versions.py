"""``onward publish``, ``rollback``, ``withdraw`` and ``versions``: which versions serve."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from service.bundle.policy import STABLE
from service.bundle.versions import (
    choose_versions,
    format_versions,
    remove_alias,
    roll_back,
    set_alias,
)
from service.cli.options import add_settings, read_settings

_EPILOG = (
    "Changes policy.json in the model's folder; a running service applies it within seconds. "
    "Exit status: 0, or 2 with the reason on standard error."
)


def publish(arguments: Sequence[str]) -> int:
    """Point an alias to a version."""
    parser = _parser("publish", "Serve a version: point an alias to it.")
    parser.add_argument("version", help="number of the version")
    parser.add_argument("--alias", default=STABLE, help=f"alias to set (default: {STABLE})")
    options = parser.parse_args(arguments)
    return _report(
        options, lambda models: set_alias(models, options.name, options.version, options.alias)
    )


def rollback(arguments: Sequence[str]) -> int:
    """Return to the previous version."""
    parser = _parser("rollback", "Return to the version that served before.")
    parser.add_argument("--alias", default=STABLE, help=f"alias to move (default: {STABLE})")
    options = parser.parse_args(arguments)
    return _report(options, lambda models: roll_back(models, options.name, options.alias))


def withdraw(arguments: Sequence[str]) -> int:
    """Remove an alias."""
    parser = _parser("withdraw", "Remove an alias; the versions stay.")
    parser.add_argument("--alias", required=True, help="alias to remove")
    options = parser.parse_args(arguments)
    return _report(options, lambda models: remove_alias(models, options.name, options.alias))


def versions(arguments: Sequence[str]) -> int:
    """List the versions of a model, or choose which of them serve."""
    parser = _parser("versions", "List the versions of a model, or choose which of them serve.")
    parser.add_argument(
        "choice", nargs="?", help="latest, latest:2 (the two newest), all, or numbers: 1,3"
    )
    options = parser.parse_args(arguments)
    if options.choice is None:
        return _report(options, lambda models: format_versions(models, options.name))
    return _report(options, lambda models: choose_versions(models, options.name, options.choice))


def _parser(command: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"onward {command}", description=description, epilog=_EPILOG
    )
    parser.add_argument("name", help="name of the model")
    add_settings(parser, ("models",))
    return parser


def _report(options: argparse.Namespace, change: Callable[[Path], str]) -> int:
    sys.stdout.write(f"{change(read_settings(vars(options)).models)}\n")
    return 0
