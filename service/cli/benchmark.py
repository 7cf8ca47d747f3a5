"""How fast a model is here: by device, threads and rows, and what a hand-over to a thread costs."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import numpy as np

from service.bundle.store import Bundle
from service.bundle.tuning import Measured
from service.engine.model import MAX_INLINE_SECONDS, Limits
from service.engine.self_test import as_rows, run_self_test
from service.engine.session import Session, SessionConfig, available_devices, choose_device
from service.engine.tensors import Array
from service.engine.threads import DaemonThread
from service.errors import DeviceUnavailable

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)

_FEWEST_RUNS = 3
_MOST_RUNS = 200
_HAND_OVERS = 500


@dataclass(frozen=True)
class Absent:
    """A device that was not measured, and why."""

    device: str
    reason: str


def usable_devices(only: Sequence[str]) -> tuple[list[str], list[Absent]]:
    """The devices of this build that work here, and why the others do not.

    Args:
        only: the devices asked for; none are all.
    """
    usable: list[str] = []
    absent: list[Absent] = []
    for device in available_devices():
        if only and device not in only:
            continue
        try:
            usable.append(choose_device(device).actual)
        except DeviceUnavailable as error:
            absent.append(Absent(device, error.reason))
    return usable, absent


def curve(
    bundle: Bundle, device: str, threads: int, limits: Limits, seconds: float
) -> Iterator[Measured]:
    """The time of a run for each number of rows, after the model has proved itself.

    Args:
        bundle: the model; rows are its examples, repeated.
        device: where to run.
        threads: within one run.
        limits: tell the largest batch; a larger one than is joined in a thread is measured while
            half of it is short enough for the event loop.
        seconds: about as long as each size is measured.

    Raises:
        LoadFailed: the graph cannot be opened there, or does not compute what was trained.
    """
    config = SessionConfig(threads, limits.batch_rows)
    session = Session.open(bundle.model, device, threads, config=config)
    run_self_test(session, bundle, limits.deadline_seconds)
    examples = as_rows(bundle.examples.input)
    took = 0.0
    for rows in (size for size in SIZES if size <= limits.inline_batch_rows):
        if rows > limits.batch_rows and 2 * took > MAX_INLINE_SECONDS:
            return
        batch = np.resize(examples, (rows, *examples.shape[1:]))
        took = median(_timed(session, batch, seconds))
        yield Measured(
            device=device,
            threads=threads,
            rows=rows,
            milliseconds=round(took * 1e3, 5),
            rows_per_second=round(rows / took, 1),
        )


def hand_over_seconds() -> float:
    """What it costs to hand a call from an event loop to a thread, and its answer back."""
    return asyncio.run(_hand_over())


async def _hand_over() -> float:
    thread = DaemonThread("hand-over")
    took = []
    for _ in range(_HAND_OVERS):
        started = perf_counter()
        await thread.run(_nothing)
        took.append(perf_counter() - started)
    thread.stop()
    return median(took)


def _nothing() -> None:
    """What is handed over."""


def _timed(session: Session, batch: Array, seconds: float) -> Iterator[float]:
    """The time of one run after another, the first of which is not counted."""
    session.run((batch,))
    until = perf_counter() + seconds
    for count in range(_MOST_RUNS):
        started = perf_counter()
        if count >= _FEWEST_RUNS and started > until:
            return
        session.run((batch,))
        yield perf_counter() - started
