"""What follows from a curve: the device, the threads, the batch, and where a model runs."""

from collections.abc import Iterator, Sequence

from service.bundle.tuning import Measured, Tuning
from service.cli.benchmark import Absent

# A batch that gives nearly the most rows a second is better than a larger one: nobody waits longer.
WORTH_ROWS = 0.95
# A setting that takes more of the machine has to be quicker by as much.
_WORTH_MORE = 0.9
# A run on the event loop holds up everybody, so it has to be short; and where a hand-over would
# take a small part of it, the thread is the better place.
_HAND_OVERS_A_RUN = 5


def best_batch(measured: Sequence[Measured]) -> Measured:
    """The setting with the most rows a second."""
    return max(measured, key=lambda each: each.rows_per_second)


def chosen(measured: Sequence[Measured], hand_over: float) -> Tuning:
    """The choice by these figures; who has one row has the first word, and batches the second.

    Args:
        measured: the curves, the CPU with one thread first.
        hand_over: to a thread and back, in seconds.
    """
    settings = list(dict.fromkeys((each.device, each.threads) for each in measured))
    best = settings[0]
    for setting in settings[1:]:
        if _cost(measured, setting) < _cost(measured, best) * _WORTH_MORE:
            best = setting
    curve = [each for each in measured if (each.device, each.threads) == best]
    enough = WORTH_ROWS * best_batch(curve).rows_per_second
    rows = next(each.rows for each in curve if each.rows_per_second >= enough)
    seconds = curve[0].milliseconds / 1e3
    return Tuning(
        device=best[0],
        threads=best[1],
        execution="inline" if seconds < _HAND_OVERS_A_RUN * hand_over else "batched",
        max_batch_rows=rows,
        measured=tuple(measured),
    )


def compared(measured: Sequence[Measured], absent: Sequence[Absent]) -> Iterator[str]:
    """Each device beside the CPU, by single rows and by batches, or why it was not measured."""
    cpu = [each for each in measured if each.device == "cpu"]
    others = list(dict.fromkeys(each.device for each in measured if each.device != "cpu"))
    for device in others:
        its = [each for each in measured if each.device == device]
        yield f"One row: {_verdict(device, _one_row(its), _one_row(cpu))}."
        its_rows, cpu_rows = (1 / best_batch(some).rows_per_second for some in (its, cpu))
        yield f"Batches: {_verdict(device, its_rows, cpu_rows)}."
    for each in absent:
        yield f"{each.device} was not measured: {each.reason}."
    if not others and not absent:
        yield "No GPU was measured: only the CPU was asked for, or this build has nothing else."


def _verdict(device: str, seconds: float, cpu_seconds: float) -> str:
    if seconds < cpu_seconds:
        return f"{device} is {cpu_seconds / seconds:.1f} times as fast as the CPU"
    return f"the CPU is {seconds / cpu_seconds:.1f} times as fast as {device}"


def _one_row(measured: Sequence[Measured]) -> float:
    return min(each.milliseconds for each in measured if each.rows == 1)


def _cost(measured: Sequence[Measured], setting: tuple[str, int]) -> float:
    """How long a setting takes, by the geometric mean of one row's time and a row's in batches."""
    curve = [each for each in measured if (each.device, each.threads) == setting]
    batched = 1e3 / best_batch(curve).rows_per_second
    return float((curve[0].milliseconds * batched) ** 0.5)
