"""How the workers of one service count together: in files that they share, and add up."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import Metric, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from service.pending import Pending

# Where the workers of one service keep their files; `service.__main__` sets it before they start,
# and prometheus_client reads it itself.
WORKERS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
# What a gauge holds in shared files, where nothing can be removed, once it has nothing to say. The
# least of all workers' values is told, so it loses against any that has.
SILENT = math.inf
_place: int | None = None


def workers_folder() -> Path | None:
    """The folder that this process shares with the other workers, where there are several."""
    folder = os.environ.get(WORKERS_FOLDER)
    return Path(folder) if folder else None


def count_in_files(slot: int) -> None:
    """Keep what is counted from now on in the shared folder, as the worker of this place.

    Counts go on from where the worker before it in this place left them; its states are dropped.
    """
    global _place  # noqa: PLW0603 - as the library's own place for it is
    _place = slot
    values.ValueClass = values.MultiProcessValue(lambda: slot)  # type: ignore[no-untyped-call] # the library leaves it untyped
    mark_process_dead(slot)  # type: ignore[no-untyped-call] # as above


def pending_of_this_worker() -> Pending | None:
    """Where `count_in_files` has this worker keep what is not settled; None of a lone process."""
    folder = workers_folder()
    return None if folder is None or _place is None else Pending(folder / f"{_place}.pending")


class OfAllWorkers(Collector):
    """The workers' metrics added up, without those that have nothing to say.

    Args:
        states: the gauge that counts workers, of which nought says nothing.
    """

    def __init__(self, states: str) -> None:
        self._states = states

    def collect(self) -> Iterator[Metric]:
        """Every metric, as it is now."""
        for metric in MultiProcessCollector(None).collect():  # type: ignore[no-untyped-call] # as above
            silent = 0 if metric.name == self._states else SILENT
            metric.samples = [sample for sample in metric.samples if sample.value != silent]
            yield metric
