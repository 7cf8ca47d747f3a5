"""What one model has done so far, as the Open Inference Protocol counts it."""

import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field

from service.observability.accumulator import Phases


@dataclass(slots=True)
class Duration:
    """How often, and how long in all."""

    count: int = 0
    seconds: float = 0.0

    @property
    def ns(self) -> int:
        """How long in all, in nanoseconds."""
        return round(self.seconds * 1e9)

    def add(self, seconds: float) -> None:
        """Count one more of this length."""
        self.count += 1
        self.seconds += seconds


@dataclass
class Statistics:
    """Counted by one process since the model was loaded."""

    last_inference: int = 0
    inference_count: int = 0
    execution_count: int = 0
    fail: Duration = field(default_factory=Duration)
    runs_by_rows: defaultdict[int, Duration] = field(default_factory=lambda: defaultdict(Duration))

    _answers: int = 0
    _spent: list[float] = field(default_factory=lambda: [0.0] * len(Phases._fields))
    _runs: threading.Lock = field(default_factory=threading.Lock)

    def ran(self, rows: int, seconds: float) -> None:
        """Count one run of the graph; from the event loop and from the batcher's thread."""
        with self._runs:
            self.execution_count += 1
            self.inference_count += rows
            self.last_inference = time.time_ns() // 1_000_000
            self.runs_by_rows[rows].add(seconds)

    def answered(self, phases: Phases) -> None:
        """Count one request that was answered; on the event loop."""
        self._answers += 1
        spent = self._spent
        # Not a loop, as in `service.observability.accumulator`.
        spent[0] += phases[0]
        spent[1] += phases[1]
        spent[2] += phases[2]
        spent[3] += phases[3]

    @property
    def _of_phase(self) -> Phases:
        return Phases(*self._spent)

    @property
    def success(self) -> Duration:
        """Requests that were answered."""
        return Duration(self._answers, sum(self._spent))

    @property
    def compute_input(self) -> Duration:
        """Their decoding."""
        return Duration(self._answers, self._of_phase.decode)

    @property
    def queue(self) -> Duration:
        """Their waiting."""
        return Duration(self._answers, self._of_phase.queue)

    @property
    def compute_infer(self) -> Duration:
        """Their models' runs."""
        return Duration(self._answers, self._of_phase.compute)

    @property
    def compute_output(self) -> Duration:
        """The writing of their answers."""
        return Duration(self._answers, self._of_phase.encode)
