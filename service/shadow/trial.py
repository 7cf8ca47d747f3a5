"""A candidate's runs on copies of requests, and what comes of them; without an event loop."""

import contextlib
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import NamedTuple

import numpy as np

from service.bundle.policy import Shadow
from service.engine.batching import RunControl
from service.engine.dtypes import Arrays
from service.engine.model import ServedModel
from service.shadow.compare import Compared, Tolerance, compare, shown_answer, shown_row
from service.shadow.tally import MOST_DIFFERENCES, Difference, Tally

# A larger request is compared, and not timed: the thread would be at it for too long.
_MOST_TIMED_ROWS = 64
# Requests whose rows cannot be joined are run one by one, for so long in a turn.
_TURN_SECONDS = 0.005


@dataclass(frozen=True, eq=False)
class Pairing:
    """A candidate beside a serving version, and where their comparison is counted.

    ``obstacle`` is why they cannot be compared, where they cannot.
    """

    serving: ServedModel
    candidate: ServedModel
    how: Shadow
    tally: Tally
    obstacle: str | None


class Copy(NamedTuple):
    """A request that the serving version has answered: what was asked, what was said, its id.

    Made for every request of a model with a shadow, so it must cost next to nothing.
    """

    pairing: Pairing
    inputs: Arrays
    outputs: Arrays
    request: str
    rows: int
    size: int
    """Bytes."""


def try_out(copies: Sequence[Copy], control: RunControl) -> tuple[int, Tally]:
    """Have the candidate answer, and hold its answers beside those that went out.

    Args:
        copies: of one pairing.
        control: ends every run from another thread.

    Returns:
        How many were tried, from the first on, and what they add to their tally.
    """
    serving = copies[0].pairing.serving
    counted = Tally(serving.version, time.time())
    _time(copies[0], counted, control)
    # Only a bundle promises that its rows are independent.
    if serving.manifest is not None and len(copies) > 1:
        # Where some row breaks the run, one by one it shows which.
        with contextlib.suppress(Exception):
            _try(copies, counted, control)
            return len(copies), counted
    started = perf_counter()
    for done, copy in enumerate(copies, start=1):
        _try_alone(copy, counted, control)
        if perf_counter() - started > _TURN_SECONDS:
            return done, counted
    return len(copies), counted


def _time(copy: Copy, counted: Tally, control: RunControl) -> None:
    """Run one request by both versions in this very thread, so that their times compare."""
    if copy.rows > _MOST_TIMED_ROWS:
        return
    seconds = []
    try:
        for model in (copy.pairing.serving, copy.pairing.candidate):
            started = perf_counter()
            model.trial(copy.inputs, control)
            seconds.append(perf_counter() - started)
    except Exception:  # noqa: BLE001 - it is counted where the answers are compared
        return
    counted.serving_seconds, counted.candidate_seconds = seconds[:1], seconds[1:]


def _try_alone(copy: Copy, counted: Tally, control: RunControl) -> None:
    try:
        _try([copy], counted, control)
    except Exception as error:  # noqa: BLE001 - whatever it is, the candidate has failed
        counted.failed += 1
        counted.reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def _try(copies: Sequence[Copy], counted: Tally, control: RunControl) -> None:
    """Run requests as one, and count; nothing is counted where the run fails."""
    pairing = copies[0].pairing
    inputs = _joined([copy.inputs for copy in copies])
    said = _joined([copy.outputs for copy in copies])
    answered = pairing.candidate.trial(inputs, control)
    models = pairing.serving, pairing.candidate
    tolerance = Tolerance(pairing.how.absolute, pairing.how.relative)
    found = compare(models, inputs, (said, answered), tolerance)
    counted.compared += len(copies)
    counted.rows += len(found.same)
    counted.same += int(found.same.sum())
    counted.difference_sum += float(found.apart.sum())
    if found.labels is not None:
        counted.pairs.update(Counter(zip(*found.labels, strict=True)))
    counted.keep(_largest(copies, found, answered))


def _largest(copies: Sequence[Copy], found: Compared, answered: Arrays) -> list[Difference]:
    """The rows that are furthest apart, as far as they are among the furthest of all."""
    pairing = copies[0].pairing
    known = pairing.tally.largest
    least = known[-1].amount if len(known) == MOST_DIFFERENCES else 0.0
    places = np.argsort(-found.apart, kind="stable")[:MOST_DIFFERENCES]
    starts = np.cumsum([0, *(copy.rows for copy in copies)])
    differences = []
    for place in map(int, places[found.apart[places] > least]):
        which = int(np.searchsorted(starts, place, side="right")) - 1
        copy, row = copies[which], place - int(starts[which])
        differences.append(
            Difference(
                float(found.apart[place]),
                shown_answer(pairing.serving, copy.outputs, row),
                shown_answer(pairing.candidate, answered, place),
                shown_row(pairing.serving, copy.inputs, row),
                row,
                copy.request,
            )
        )
    return differences


def _joined(parts: Sequence[Arrays]) -> Arrays:
    if len(parts) == 1:
        return parts[0]
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))
