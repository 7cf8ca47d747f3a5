"""``onward check``: does every bundle of a folder prove itself on this machine?"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from service.bundle.errors import BundleError
from service.cli.options import add_settings, read_settings
from service.engine.loader import load, plan_for
from service.engine.model import Limits
from service.engine.repository import Candidate, Repository
from service.engine.session import choose_device
from service.errors import LoadFailed, OnwardError
from service.observability.metrics import Metrics
from service.settings import Settings

_FAILED, _USAGE_ERROR = 1, 2


def check(arguments: Sequence[str]) -> int:
    """Open every version as the service would; 1 where one fails, 2 where nothing can be looked at.

    A version that the service would not choose is opened too.
    """
    options = vars(_parser().parse_args(arguments))
    if options["folder"] is not None:
        options["models"] = options["folder"]
    try:
        settings = read_settings(options)
        device = choose_device(settings.device).actual
        scan = Repository(settings.models).scan()
    except OnwardError as error:
        sys.stderr.write(f"{error}\n")
        return _USAGE_ERROR
    problems = [f"left out  {problem}" for problem in sorted(scan.problems)]
    problems += [] if scan.folders else [f"left out  {settings.models} holds no model"]
    sys.stdout.writelines(f"{problem}\n" for problem in problems)
    failed = len(problems)
    for home in scan.folders.values():
        for candidate in home.candidates or ():
            reason = _reason(candidate, device, settings)
            failed += reason is not None
            outcome = "ok      " if reason is None else "refused "
            end = "" if reason is None else f"  {reason}"
            sys.stdout.write(f"{outcome}  {candidate.name}/{candidate.version}{end}\n")
            sys.stdout.flush()
    return _FAILED if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="onward check",
        description="Open every version of every model as the service does: digests, manifest, "
        "graph, and its own examples on the device. Says why one fails.",
        epilog="Ends with 0 where all are well, 1 where one is not, 2 where there is no folder.",
    )
    parser.add_argument("folder", nargs="?", type=Path, help="of models (default: --models)")
    add_settings(parser, ("models", "device", "threads"))
    return parser


def _reason(candidate: Candidate, device: str, settings: Settings) -> str | None:
    """Why a version cannot be served, or None."""
    if candidate.rejected:
        return candidate.rejected
    limits = Limits(settings.max_batch_rows, settings.max_queued_rows, settings.deadline_seconds)
    try:
        load(candidate, plan_for(settings, device), limits, Metrics())
    except (BundleError, LoadFailed) as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - whatever one version does, the others are checked
        return f"{type(error).__name__}: {error}"
    return None
