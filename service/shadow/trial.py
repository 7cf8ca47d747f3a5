"""A candidate's runs on copies of requests, and what comes of them; without an event loop."""

import contextlib
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from service.engine.batcher import row_count
from service.engine.datatypes import Arrays
from service.engine.model import ServedModel
from service.shadow.comparing import Compared, Tolerance, compare, shown_answer, shown_row
from service.shadow.tally import MOST_DIFFERENCES, Difference, Tally

# A larger request is compared, and not timed: the thread would be at it for too long.
_MOST_TIMED_ROWS = 64
# Requests whose rows cannot be joined are run one by one, for so long in a turn.
_TURN_SECONDS = 0.005


@dataclass(frozen=True, eq=False)
class Copied:
    """A request that has been answered: by whom, what was asked, what was said, and its id."""

    serving: ServedModel
    inputs: Arrays
    outputs: Arrays
    request: str

    @property
    def rows(self) -> int:
        """How many there are."""
        return row_count(self.inputs)

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(array.nbytes for array in (*self.inputs, *self.outputs))


@dataclass(frozen=True, eq=False)
class Trial:
    """A copy that a candidate is to answer, and where the outcome is counted."""

    copied: Copied
    candidate: ServedModel
    tolerance: Tolerance
    tally: Tally

    def is_like(self, other: "Trial") -> bool:
        """Whether both are of the same two models, and counted alike."""
        return (
            self.tally is other.tally
            and self.candidate is other.candidate
            and self.copied.serving is other.copied.serving
            and self.tolerance == other.tolerance
        )


def try_out(trials: Sequence[Trial]) -> tuple[int, Tally]:
    """Have the candidate answer, and hold its answers beside those that went out.

    Args:
        trials: of the same two versions and the same tolerance.

    Returns:
        How many were tried, from the first on, and what they add to their tally.
    """
    first = trials[0]
    counted = Tally(first.copied.serving.version, time.time())
    _time(first, counted)
    # Only a bundle promises that its rows are independent.
    if first.copied.serving.manifest is not None and len(trials) > 1:
        # Where some row breaks the run, one by one it shows which.
        with contextlib.suppress(Exception):
            _try(trials, counted)
            return len(trials), counted
    started = perf_counter()
    for done, trial in enumerate(trials, start=1):
        _try_alone(trial, counted)
        if perf_counter() - started > _TURN_SECONDS:
            return done, counted
    return len(trials), counted


def _time(trial: Trial, counted: Tally) -> None:
    """Run one request by both versions in this very thread, so that their times compare."""
    if trial.copied.rows > _MOST_TIMED_ROWS:
        return
    models = trial.copied.serving, trial.candidate
    seconds = []
    try:
        for model in models:
            started = perf_counter()
            model.trial(trial.copied.inputs)
            seconds.append(perf_counter() - started)
    except Exception:  # noqa: BLE001 - it is counted where the answers are compared
        return
    counted.serving_seconds, counted.candidate_seconds = seconds[:1], seconds[1:]


def _try_alone(trial: Trial, counted: Tally) -> None:
    try:
        _try([trial], counted)
    except Exception as error:  # noqa: BLE001 - whatever it is, the candidate has failed
        counted.failed += 1
        counted.reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def _try(trials: Sequence[Trial], counted: Tally) -> None:
    """Run requests as one, and count; nothing is counted where the run fails."""
    first = trials[0]
    inputs = _joined([trial.copied.inputs for trial in trials])
    said = _joined([trial.copied.outputs for trial in trials])
    answered = first.candidate.trial(inputs)
    models = first.copied.serving, first.candidate
    found = compare(models, inputs, (said, answered), first.tolerance)
    counted.compared += len(trials)
    counted.rows += len(found.same)
    counted.same += int(found.same.sum())
    counted.difference_sum += float(found.apart.sum())
    if found.labels is not None:
        counted.pairs.update(Counter(zip(*found.labels, strict=True)))
    counted.keep(_largest(trials, found, answered))


def _largest(trials: Sequence[Trial], found: Compared, answered: Arrays) -> list[Difference]:
    """The rows that are furthest apart, as far as they are among the furthest of all."""
    known = trials[0].tally.largest
    least = known[-1].amount if len(known) == MOST_DIFFERENCES else 0.0
    places = np.argsort(-found.apart, kind="stable")[:MOST_DIFFERENCES]
    starts = np.cumsum([0, *(trial.copied.rows for trial in trials)])
    differences = []
    for place in map(int, places[found.apart[places] > least]):
        which = int(np.searchsorted(starts, place, side="right")) - 1
        trial, row = trials[which], place - int(starts[which])
        copied = trial.copied
        differences.append(
            Difference(
                float(found.apart[place]),
                shown_answer(copied.serving, copied.outputs, row),
                shown_answer(trial.candidate, answered, place),
                shown_row(copied.serving, copied.inputs, row),
                row,
                copied.request,
            )
        )
    return differences


def _joined(parts: Sequence[Arrays]) -> Arrays:
    if len(parts) == 1:
        return parts[0]
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))
