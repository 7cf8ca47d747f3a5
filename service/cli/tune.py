"""``onward tune``: how a model is best run on this machine, measured and written."""

import argparse
import sys
from collections.abc import Iterator, Sequence

from service.bundle.errors import BundleError
from service.bundle.store import Bundle, read_bundle, replace_document
from service.bundle.tuning import TUNING, Measured, Tuning
from service.cli.benchmark import Absent, curve, hand_over_seconds, usable_devices
from service.cli.choosing import WORTH_ROWS, best_batch, chosen, compared
from service.cli.options import add_settings, read_settings
from service.engine.loader import plan_for, this_machine
from service.engine.model import Limits
from service.engine.repository import Candidate, Repository
from service.errors import CannotStart, LoadFailed, ModelNotFound, OnwardError, VersionNotFound
from service.observability.logs import configure_logging
from service.settings import Settings

_USAGE_ERROR = 2
_HEADINGS = ("device", "threads", "rows", "ms (p50)", "rows/s")


def tune(arguments: Sequence[str]) -> int:
    """Measure, print the curve, write the choice; 2 where one of these cannot be done."""
    options = _parser().parse_args(arguments)
    configure_logging("text", "critical")  # what is wrong is told in a sentence below
    try:
        settings = read_settings(vars(options))
        candidate = _candidate(settings, options.model, options.version)
        tuning = _tuned(candidate, settings, options.seconds)
        if options.dry_run:
            _say("Nothing is written, as --dry-run asks.")
        else:
            _say(f"Written: {replace_document(candidate.folder.parent / TUNING, tuning)}")
    except (OnwardError, BundleError) as error:
        reason = str(error)
    except OSError as error:
        reason = f"The choice cannot be written: {error.filename or ''}: {error.strerror}."
    else:
        return 0
    sys.stderr.write(f"{reason}\n")
    return _USAGE_ERROR


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="onward tune",
        description="Measure one model on this machine by device, threads and rows, print the "
        "curve, and write the choice to tuning.json beside its versions; the service follows at "
        "its next look. Measure on a machine that does nothing else.",
        epilog="Ends with 0, or with 2 and a sentence where nothing could be measured or written.",
    )
    parser.add_argument("model", help="name of the model")
    parser.add_argument("--version", help="of the model (default: the newest)")
    parser.add_argument("--dry-run", action="store_true", help="write nothing")
    parser.add_argument(
        "--seconds",
        type=float,
        default=0.2,
        help="about as long as each setting is measured (default: %(default)s)",
    )
    add_settings(parser, ("models", "device", "workers", "max_batch_rows"))
    return parser


def _candidate(settings: Settings, name: str, version: str | None) -> Candidate:
    """The version to measure: the one that was asked for, or the newest."""
    homes = Repository(settings.models).scan().folders
    home = homes.get(name)
    if home is None:
        raise ModelNotFound(name, list(homes))
    sound = [candidate for candidate in home.candidates or () if not candidate.rejected]
    for candidate in sound:
        if version in {None, candidate.version}:
            return candidate
    raise VersionNotFound(name, version or "latest", [candidate.version for candidate in sound])


def _tuned(candidate: Candidate, settings: Settings, seconds: float) -> Tuning:
    """The choice, after the curve and its reasons have been printed.

    Raises:
        BundleError: it is no bundle; a bare graph has no examples to measure by.
        CannotStart: it runs on none of the devices.
    """
    bundle = read_bundle(candidate.folder)
    only = [] if settings.device == "auto" else [settings.device, "cpu"]
    usable, absent = usable_devices(only)
    machine = this_machine()
    place = f"{machine.cpu}, {machine.cores} cores, ONNX Runtime {machine.runtime}"
    _say(f"{candidate.name}/{candidate.version} on {place}.\n")
    _say(_line(_HEADINGS))
    measured: list[Measured] = []
    for device in usable:
        try:
            measured += _measured(bundle, device, settings, seconds)
        except LoadFailed as error:
            absent.append(Absent(device, str(error)))
    if not measured:
        reasons = "; ".join(f"{each.device}: {each.reason}" for each in absent)
        raise CannotStart(f"Nothing could be measured: {reasons}.")
    _say("")
    hand_over = hand_over_seconds()
    best = best_batch(measured)
    choice = chosen(measured, hand_over)
    for sentence in compared(measured, absent):
        _say(sentence)
    _say(f"A hand-over to a thread and back costs {hand_over * 1e6:.0f} us.")
    _say(
        f"Chosen: {choice.device}, {choice.threads} threads, {choice.execution}, batches of at "
        f"most {choice.max_batch_rows} rows (no smaller one gives {WORTH_ROWS:.0%} of the "
        f"{best.rows_per_second:,.0f} rows/s of the best)."
    )
    return choice.model_copy(update={"machine": machine, "version": candidate.version})


def _measured(
    bundle: Bundle, device: str, settings: Settings, seconds: float
) -> Iterator[Measured]:
    """The curve of each number of threads that a worker has; on another device there is one."""
    most_threads = plan_for(settings, device).most_threads if device == "cpu" else 1
    limits = Limits(settings.max_batch_rows, settings.max_queued_rows, settings.deadline_seconds)
    for threads in range(1, most_threads + 1):
        for each in curve(bundle, device, threads, limits, seconds):
            figures = f"{each.milliseconds:.4g}", f"{each.rows_per_second:,.0f}"
            _say(_line((each.device, str(each.threads), str(each.rows), *figures)))
            yield each


def _line(cells: Sequence[str]) -> str:
    return f"{cells[0]:<9}" + "".join(f"{cell:>12}" for cell in cells[1:])


def _say(sentence: str) -> None:
    sys.stdout.write(f"{sentence}\n")
    sys.stdout.flush()
