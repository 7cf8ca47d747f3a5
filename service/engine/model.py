"""A model that serves: its facts, and the one way to ask it."""

import logging
import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, perf_counter
from typing import Self

import numpy as np

from service.bundle.manifest import Manifest
from service.engine.batching import (
    LoopBatcher,
    OnResult,
    Prediction,
    RunControl,
    ThreadBatcher,
    row_count,
)
from service.engine.dtypes import Array, Arrays
from service.engine.execution_plan import Execution, Mode
from service.engine.session import Session, TensorSpec, new_control
from service.errors import InferenceFailed, InputRefused, OnwardError
from service.observability.metrics import Metrics, Phases

# Handing a call to a thread and back costs some 25 to 60 microseconds; a model a few times slower
# than that is better off there, where callers are joined and the event loop stays free.
QUICK_SECONDS = 0.000_15
# Above this many rows a run is timed before another of its size may hold up the event loop.
_MOST_INLINE_ROWS = 64
LONGEST_INLINE_SECONDS = 0.000_5
_SLOWER = 1.25
# Activations of that many rows fit into memory, whatever the model is.
_BATCH_ROWS = 1024
# What is done once a run costs some 20 microseconds when the caches hold other things. With so many
# rows it is no longer to be seen.
_QUICK_ROWS = 8192
_log = logging.getLogger(__name__)


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
        # Not a loop, as in `service.observability.metrics`.
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


@dataclass(frozen=True)
class About:
    """The facts that every list and description tells.

    ``labels`` are what the classes of an output are called, by its name, where that is known;
    ``max_batch_rows`` are taken at once, ``joined_rows`` of several callers share a run;
    ``device`` is where the version runs when it does, and ``execution`` how, once that is known.
    The statistics go on from one load of the same files to the next.
    """

    name: str
    version: str
    folder: Path
    device: str
    manifest: Manifest | None
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    labels: Mapping[str, Sequence[str]]
    max_batch_rows: int
    joined_rows: int = 1
    execution: Execution | None = None
    statistics: Statistics = field(default_factory=Statistics)

    @property
    def rows_bitwise(self) -> bool:
        """Whether a row's answer was the same to the bit alone and among others."""
        return self.execution is not None and self.execution.rows_bitwise


@dataclass(frozen=True)
class Limits:
    """How much a model takes at once, in rows; 0 leaves it to the model how many are joined.

    ``deadline_seconds`` bound what waits for one run.
    """

    max_batch_rows: int
    max_queued_rows: int
    deadline_seconds: float = 30.0

    @property
    def batch_rows(self) -> int:
        """Most rows joined into one run in a thread."""
        return self.max_batch_rows or _BATCH_ROWS

    @property
    def quick_rows(self) -> int:
        """Most rows joined into one run on the event loop, however short it is."""
        return self.max_batch_rows or _QUICK_ROWS


class ServedModel:
    """One version of one model, proved and ready.

    Args:
        about: what is known of it; its most frequent facts are attributes of the model's own.
        session: what computes.
        execution: ``inline`` runs small requests at once on the event loop, for models so quick
            that handing over to a thread would cost more; ``batched`` joins callers in a thread.
    """

    def __init__(
        self,
        about: About,
        session: Session,
        *,
        execution: Mode,
        limits: Limits,
        metrics: Metrics,
    ) -> None:
        self.about = about
        self.name = about.name
        self.version = about.version
        self.manifest = about.manifest
        self.inputs = about.inputs
        self.outputs = about.outputs
        self.labels = about.labels
        self.statistics = about.statistics
        self.execution = execution
        self._session = session
        self._metrics = metrics
        self.last_used = monotonic()
        self._row_seconds = math.inf  # of the last large run
        self._holders = 0
        self._then: Callable[[], None] | None = None
        # Only where rows are independent; a bundle promises that, and an operator may.
        joins = about.joined_rows > 1
        self._most_quick_rows = limits.quick_rows if joins else 1
        self.deadline_seconds = limits.deadline_seconds
        self._batcher = ThreadBatcher(
            self._run,
            max_batch_rows=limits.batch_rows if joins else 1,
            max_queued_rows=limits.max_queued_rows,
            new_control=new_control,
            deadline_seconds=limits.deadline_seconds,
        )
        self._inline = LoopBatcher(
            self._run,
            max_batch_rows=self._most_joined_rows(),
            max_queued_rows=limits.max_queued_rows,
            map_error=self._map_error,
        )

    async def predict(self, inputs: Arrays) -> Prediction:
        """Answer for checked arrays in the order of ``inputs``.

        Raises:
            InferenceFailed: the runtime failed on rows that the manifest allows.
            InputRefused: the runtime failed on the input of a bare model, or a bundle's answer
                is not a number.
            Unavailable: too much waits, or the service is stopping.
        """
        try:
            return await self._answer(inputs)
        except OnwardError:
            raise
        except Exception as error:
            raise self._map_error(error) from error

    @property
    def is_quick(self) -> bool:
        """Whether small requests are answered on the event loop, by `join`."""
        return self.execution == "inline"

    def joins(self, rows: int) -> bool:
        """Whether a quick model answers so many rows there."""
        return self.is_quick and self._is_short(rows)

    def join(
        self, inputs: Arrays, rows: int, on_result: OnResult, *, exclusive: bool = False
    ) -> None:
        """Have checked arrays answered together with what else this turn of the loop brought.

        Args:
            inputs: as `predict` has them.
            rows: their number; so few that the model `joins` them.
            on_result: called with the prediction, or with an error as `predict` raises it.
            exclusive: no other request can arrive in this turn of the loop.

        Raises:
            Unavailable: too much waits, or the service is stopping.
        """
        self._inline.submit(inputs, rows, on_result, exclusive=exclusive)

    def trial(self, inputs: Arrays, control: RunControl | None = None) -> Arrays:
        """Run the graph and count it nowhere; from any thread.

        Args:
            inputs: as `predict` has them.
            control: of `new_control`, by which another thread may end the run.

        Raises:
            Exception: whatever the runtime raises.
        """
        return self._session.run(inputs, control)

    async def _answer(self, inputs: Arrays) -> Prediction:
        if self.execution == "inline" and self._is_short(row_count(inputs)):
            started = perf_counter()
            outputs = self._run(inputs)
            return Prediction(outputs, 0.0, perf_counter() - started)
        return await self._batcher.submit(inputs)

    def _is_short(self, rows: int) -> bool:
        """Whether handing so many rows over to the thread would cost more than it spares others."""
        return rows <= _MOST_INLINE_ROWS or rows * self._row_seconds < LONGEST_INLINE_SECONDS

    def _most_joined_rows(self) -> int:
        """How many rows of several callers may hold up the event loop together."""
        short = int(LONGEST_INLINE_SECONDS / self._row_seconds)
        return min(max(short, _MOST_INLINE_ROWS), self._most_quick_rows)

    def _map_error(self, error: Exception) -> OnwardError:
        """What an error means to the caller; what is nobody's mistake is logged."""
        if isinstance(error, OnwardError):
            return error
        reason = str(error).partition("\n")[0]
        if self.manifest is None:
            return InputRefused(self.name, reason)
        facts = {"model": self.name, "version": self.version}
        _log.error("inference failed", extra=facts, exc_info=error)
        return InferenceFailed(self.name, reason)

    def _require_numbers(self, output: Array) -> None:
        """Refuse an answer that is no number; only values beyond all reason lead there."""
        # Counting takes a third of the time of numpy's own all().
        if np.count_nonzero(np.isfinite(output)) < output.size:
            finite = np.isfinite(output).all(axis=1)
            place = f" to row {int(np.argmin(finite))}" if finite.size > 1 else ""
            raise InputRefused(
                self.name,
                f"its answer{place} is not a finite number; look for values far outside what it "
                "was trained on.",
            )

    def __enter__(self) -> Self:
        """Hold the model, so that it is not let go before the answer is out."""
        self._holders += 1
        self.last_used = monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self._holders -= 1
        self._let_go_if_free()

    @property
    def held(self) -> bool:
        """Whether somebody waits for its answer."""
        return self._holders > 0

    def retire(self, then: Callable[[], None]) -> None:
        """Let go of session and thread as soon as nobody holds the model any more.

        Args:
            then: called when that is done.
        """
        self._then = then
        self._let_go_if_free()

    async def close(self) -> None:
        """Take no more, and answer what waits, as far as its deadline allows."""
        self._inline.close()
        await self._batcher.close(self.deadline_seconds)

    def _let_go_if_free(self) -> None:
        if self._then is not None and not self._holders:
            then, self._then = self._then, None
            # The batchers know the model and the model the batchers; parted, all go at once.
            self._batcher.shutdown_now()
            self._inline.shutdown_now()
            then()

    def _run(self, inputs: Arrays, control: RunControl | None = None) -> Arrays:
        started = perf_counter()
        outputs = self._session.run(inputs, control)
        seconds = perf_counter() - started
        rows = row_count(inputs)
        if rows > _MOST_INLINE_ROWS:
            # A run that the machine interrupted says little of the next.
            self._row_seconds = min(seconds / rows, _SLOWER * self._row_seconds)
            self._inline.max_batch_rows = self._most_joined_rows()
        self.statistics.ran(rows, seconds)
        self._metrics.ran(self.name, self.version, rows)
        if self.manifest is not None:
            # Where several callers share the run, each is asked again alone, to find whose it is.
            self._require_numbers(outputs[0])
        return outputs
