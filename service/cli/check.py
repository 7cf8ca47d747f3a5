"""``onward check``: run the self-test of every version in a models folder."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from service.bundle.errors import BundleError
from service.cli.options import add_settings, read_settings
from service.engine.loader import load, plan_execution
from service.engine.model import BatchLimits
from service.engine.repository import Candidate, Repository
from service.engine.session import choose_device
from service.errors import LoadFailed
from service.observability.metrics import Metrics
from service.settings import Settings

_FAILED = 1


def check(arguments: Sequence[str]) -> int:
    """Load every version as the service would, also those that its policy does not select.

    Return the exit status: 0 if all pass, 1 if some fail. Raise `OnwardError` if an option is
    invalid, or the folder cannot be read.
    """
    options = vars(_parser().parse_args(arguments))
    if options["folder"] is not None:
        options["models"] = options["folder"]
    settings = read_settings(options)
    device = choose_device(settings.device).actual
    scan = Repository(settings.models).scan()
    problems = [f"left out  {problem}" for problem in sorted(scan.problems)]
    problems += [] if scan.folders else [f"left out  {settings.models} holds no model"]
    sys.stdout.writelines(f"{problem}\n" for problem in problems)
    failed = len(problems)
    for model_folder in scan.folders.values():
        for candidate in model_folder.candidates or ():
            reason = _find_failure(candidate, device, settings)
            failed += reason is not None
            outcome = "ok      " if reason is None else "rejected"
            suffix = "" if reason is None else f"  {reason}"
            sys.stdout.write(f"{outcome}  {candidate.name}/{candidate.version}{suffix}\n")
            sys.stdout.flush()
    return _FAILED if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="onward check",
        description="Load every version of every model as the service does: check the digests, "
        "the manifest and the graph, and run the examples on the device. Prints why one fails.",
        epilog="Exit status: 0 if all versions pass, 1 if some fail, 2 if there is no folder.",
    )
    parser.add_argument("folder", nargs="?", type=Path, help="models folder (default: --models)")
    add_settings(parser, ("models", "device", "threads"))
    return parser


def _find_failure(candidate: Candidate, device: str, settings: Settings) -> str | None:
    if candidate.rejected:
        return candidate.rejected
    limits = BatchLimits.from_settings(settings)
    try:
        load(candidate, plan_execution(settings, device), limits, Metrics())
    except (BundleError, LoadFailed) as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - the other versions must be checked too
        return f"{type(error).__name__}: {error}"
    return None
