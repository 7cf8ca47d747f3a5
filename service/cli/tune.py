"""``onward tune``: measure how a model runs fastest on this machine, and write the choice.

A model is measured on each device, with each number of threads, and with batches of many sizes.
"""

import argparse
import asyncio
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from time import perf_counter

import numpy as np

from service.bundle.errors import BundleError
from service.bundle.store import Bundle, read_bundle, replace_document
from service.bundle.tuning import TUNING, Measured, Tuning
from service.cli.options import add_settings, read_settings
from service.engine.loader import describe_machine, plan_execution
from service.engine.model import MAX_INLINE_SECONDS, BatchLimits
from service.engine.repository import Candidate, Repository
from service.engine.self_test import run_self_test, to_arrays
from service.engine.session import Session, SessionConfig, available_devices, choose_device
from service.engine.tensors import Arrays
from service.engine.threads import DaemonThread
from service.errors import (
    CannotStart,
    DeviceUnavailable,
    LoadFailed,
    ModelNotFound,
    VersionNotFound,
)
from service.observability.logs import configure_logging
from service.settings import Settings

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)

_HEADINGS = ("device", "threads", "rows", "ms (p50)", "rows/s")
_MIN_RUNS, _MAX_RUNS = 3, 200
_THREAD_CALLS = 500
# The smallest batch with this share of the highest throughput is chosen, for shorter waits.
_ENOUGH_THROUGHPUT = 0.95
# A device or a number of threads that uses more of the machine must take at most this share of the
# time.
_REQUIRED_SPEEDUP = 0.9
# A model runs in a thread if that costs less than this share of a run, since a run on the event
# loop delays all other requests.
_THREAD_CALLS_PER_RUN = 5


def tune(arguments: Sequence[str]) -> int:
    """Measure a model, print the measurements, and write the choice.

    Raises:
        OnwardError: an option is invalid, there is no such model, or it runs on no device.
        BundleError: it is not a bundle, or the choice cannot be written.
    """
    options = _parser().parse_args(arguments)
    configure_logging("text", "critical")  # the errors of the command are printed
    settings = read_settings(vars(options))
    candidate = _find_candidate(settings, options.model, options.version)
    tuning = _measure_and_choose(candidate, settings, options.seconds)
    if options.dry_run:
        _print("Nothing is written, because of --dry-run.")
        return 0
    try:
        _print(f"Written: {replace_document(candidate.folder.parent / TUNING, tuning)}")
    except OSError as error:
        name = error.filename or ""
        raise BundleError(f"The choice cannot be written: {name}: {error.strerror}.") from error
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="onward tune",
        description="Measure a model on this machine by device, threads and batch size, print the "
        "measurements, and write the choice to tuning.json in the model's folder; a running "
        "service applies it at its next scan. The machine should be idle otherwise.",
        epilog="Exit status: 0, or 2 with the reason if nothing could be measured or written.",
    )
    parser.add_argument("model", help="name of the model")
    parser.add_argument("--version", help="version to measure (default: the newest)")
    parser.add_argument("--dry-run", action="store_true", help="write nothing")
    parser.add_argument(
        "--seconds",
        type=float,
        default=0.2,
        help="approximate time to measure each batch size (default: %(default)s)",
    )
    add_settings(parser, ("models", "device", "workers", "max_batch_rows"))
    return parser


def _find_candidate(settings: Settings, name: str, version: str | None) -> Candidate:
    """Return the version to measure; by default the newest."""
    folders = Repository(settings.models).scan().folders
    folder = folders.get(name)
    if folder is None:
        raise ModelNotFound(name, list(folders))
    candidates = [candidate for candidate in folder.candidates or () if not candidate.rejected]
    for candidate in candidates:
        if version in {None, candidate.version}:
            return candidate
    raise VersionNotFound(name, version or "latest", [each.version for each in candidates])


def _measure_and_choose(candidate: Candidate, settings: Settings, seconds: float) -> Tuning:
    """Measure a version, and print the measurements, the choice and its reasons."""
    bundle = read_bundle(candidate.folder)
    requested = [] if settings.device == "auto" else [settings.device, "cpu"]
    usable, unavailable = find_usable_devices(requested)
    machine = describe_machine()
    hardware = f"{machine.cpu}, {machine.cores} cores, ONNX Runtime {machine.runtime}"
    _print(f"{candidate.name}/{candidate.version} on {hardware}.\n")
    _print(_format_line(_HEADINGS))
    measured: list[Measured] = []
    for device in usable:
        try:
            measured += _measure_device(bundle, device, settings, seconds)
        except LoadFailed as error:
            unavailable[device] = str(error)
    if not measured:
        reasons = "; ".join(f"{device}: {reason}" for device, reason in unavailable.items())
        raise CannotStart(f"Nothing could be measured: {reasons}.")
    _print("")
    thread_seconds = asyncio.run(_measure_thread_call())
    tuning = choose_tuning(measured, thread_seconds)
    for sentence in compare_devices(measured, unavailable):
        _print(sentence)
    _print(f"A call in a thread costs {thread_seconds * 1e6:.0f} us.")
    _print(
        f"Chosen: {tuning.device}, {tuning.threads} threads, {tuning.execution}, batches of at "
        f"most {tuning.max_batch_rows} rows (no smaller one reaches {_ENOUGH_THROUGHPUT:.0%} of "
        f"the best throughput, {_find_best_batch(measured).rows_per_second:,.0f} rows/s)."
    )
    return tuning.model_copy(update={"machine": machine, "version": candidate.version})


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _format_line(cells: Sequence[str]) -> str:
    return f"{cells[0]:<9}" + "".join(f"{cell:>12}" for cell in cells[1:])


# Measuring


def find_usable_devices(requested: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return which of the requested devices, or of all, work here, and why the others do not."""
    usable: list[str] = []
    unavailable: dict[str, str] = {}
    for device in available_devices():
        if requested and device not in requested:
            continue
        try:
            usable.append(choose_device(device).actual)
        except DeviceUnavailable as error:
            unavailable[device] = error.reason
    return usable, unavailable


def _measure_device(
    bundle: Bundle, device: str, settings: Settings, seconds: float
) -> Iterator[Measured]:
    """Measure and print a device, on the CPU with each number of threads that a worker may use."""
    max_threads = plan_execution(settings, device).max_threads if device == "cpu" else 1
    limits = BatchLimits.from_settings(settings)
    for threads in range(1, max_threads + 1):
        for each in measure_batches(bundle, device, threads, limits, seconds):
            numbers = f"{each.milliseconds:.4g}", f"{each.rows_per_second:,.0f}"
            _print(_format_line((each.device, str(each.threads), str(each.rows), *numbers)))
            yield each


def measure_batches(
    bundle: Bundle, device: str, threads: int, limits: BatchLimits, seconds: float
) -> Iterator[Measured]:
    """Run the self-test of a model, and then measure batches of increasing size.

    Args:
        bundle: the model; the batches repeat the rows of its examples.
        device: the device to run on.
        threads: the number of threads for each run.
        limits: the largest batch. Larger ones than it allows in a thread are measured while half
            of their size is quick enough for the event loop.
        seconds: the approximate time to measure each size.

    Raises:
        LoadFailed: the graph cannot be loaded there, or its self-test fails.
    """
    config = SessionConfig(threads, limits.rows_for("batched"))
    session = Session.open(bundle.model, device, config)
    run_self_test(session, bundle, limits.deadline_seconds)
    examples = to_arrays(bundle.examples)
    run_seconds = 0.0
    for rows in (size for size in BATCH_SIZES if size <= limits.rows_for("inline")):
        if rows > limits.rows_for("batched") and 2 * run_seconds > MAX_INLINE_SECONDS:
            return
        batch = tuple(np.resize(array, (rows, *array.shape[1:])) for array in examples)
        run_seconds = median(_time_runs(session, batch, seconds))
        yield Measured(
            device=device,
            threads=threads,
            rows=rows,
            milliseconds=round(run_seconds * 1e3, 5),
            rows_per_second=round(rows / run_seconds, 1),
        )


def _time_runs(session: Session, batch: Arrays, seconds: float) -> Iterator[float]:
    """Yield the seconds of each run, after one that warms up."""
    session.run(batch)
    until = perf_counter() + seconds
    for count in range(_MAX_RUNS):
        started = perf_counter()
        if count >= _MIN_RUNS and started > until:
            return
        session.run(batch)
        yield perf_counter() - started


async def _measure_thread_call() -> float:
    """Measure how long the event loop takes to call a thread and get the result."""
    thread = DaemonThread("measured calls")
    times = []
    for _ in range(_THREAD_CALLS):
        started = perf_counter()
        await thread.run(int)
        times.append(perf_counter() - started)
    thread.stop()
    return median(times)


# Choosing


def choose_tuning(measured: Sequence[Measured], thread_seconds: float) -> Tuning:
    """Choose the device, the threads, the batch size, and whether to run in a thread.

    The device and the threads are the fastest by single rows and by batches together.

    Args:
        measured: all measurements, those of the CPU with one thread first.
        thread_seconds: the time of a call in a thread.
    """
    curves: defaultdict[tuple[str, int], list[Measured]] = defaultdict(list)
    for each in measured:
        curves[each.device, each.threads].append(each)
    best, *others = curves.values()
    for curve in others:
        if _compute_cost(curve) < _compute_cost(best) * _REQUIRED_SPEEDUP:
            best = curve
    enough = _ENOUGH_THROUGHPUT * _find_best_batch(best).rows_per_second
    rows = next(each.rows for each in best if each.rows_per_second >= enough)
    seconds = best[0].milliseconds / 1e3
    return Tuning(
        device=best[0].device,
        threads=best[0].threads,
        execution="inline" if seconds < _THREAD_CALLS_PER_RUN * thread_seconds else "batched",
        max_batch_rows=rows,
        measured=tuple(measured),
    )


def compare_devices(measured: Sequence[Measured], unavailable: Mapping[str, str]) -> Iterator[str]:
    """Compare each device with the CPU, for single rows and for batches, in sentences.

    ``unavailable`` says why a device was not measured, by device.
    """
    cpu = [each for each in measured if each.device == "cpu"]
    others = list(dict.fromkeys(each.device for each in measured if each.device != "cpu"))
    for device in others:
        of_device = [each for each in measured if each.device == device]
        yield f"One row: {_compare_speed(device, _time_one_row(of_device), _time_one_row(cpu))}."
        row_seconds = (1 / _find_best_batch(each).rows_per_second for each in (of_device, cpu))
        yield f"Batches: {_compare_speed(device, *row_seconds)}."
    for device, reason in unavailable.items():
        yield f"{device} was not measured: {reason}."
    if not others and not unavailable:
        yield "No GPU was measured: only the CPU was requested, or this build supports no other."


def _find_best_batch(measured: Sequence[Measured]) -> Measured:
    return max(measured, key=lambda each: each.rows_per_second)


def _compare_speed(device: str, seconds: float, cpu_seconds: float) -> str:
    if seconds < cpu_seconds:
        return f"{device} is {cpu_seconds / seconds:.1f} times as fast as the CPU"
    return f"the CPU is {seconds / cpu_seconds:.1f} times as fast as {device}"


def _time_one_row(measured: Sequence[Measured]) -> float:
    return min(each.milliseconds for each in measured if each.rows == 1)


def _compute_cost(curve: Sequence[Measured]) -> float:
    """Return the geometric mean of the times of a single row and of a row in batches."""
    batched = 1e3 / _find_best_batch(curve).rows_per_second
    return float((curve[0].milliseconds * batched) ** 0.5)
