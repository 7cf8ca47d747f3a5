"""A version in memory: what is known of it, what it has done, and how to predict with it."""

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
from service.errors import InferenceFailed, InputRejected, OnwardError
from service.observability.metrics import Metrics, Phases

# Handing a call to a thread and back costs 25 to 60 microseconds. A model that takes a few times
# longer runs better there, where requests are batched and the event loop stays free.
QUICK_SECONDS = 0.000_15
# A run of more rows is timed before another of its size may block the event loop.
_MOST_INLINE_ROWS = 64
LONGEST_INLINE_SECONDS = 0.000_5
_SLOWER = 1.25
# Activations of so many rows fit into memory, whatever the model is.
_BATCH_ROWS = 1024
# The fixed cost of a run is about 20 microseconds with cold CPU caches; it is negligible for so
# many rows.
_QUICK_ROWS = 8192

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Duration:
    """A number of events, and their total duration."""

    count: int = 0
    seconds: float = 0.0

    @property
    def ns(self) -> int:
        """The total in nanoseconds."""
        return round(self.seconds * 1e9)

    def add(self, seconds: float) -> None:
        """Count one more event of this duration."""
        self.count += 1
        self.seconds += seconds


@dataclass
class Statistics:
    """Statistics of one model, as the Open Inference Protocol defines them, in one process."""

    last_inference: int = 0
    inference_count: int = 0
    execution_count: int = 0
    fail: Duration = field(default_factory=Duration)
    runs_by_rows: defaultdict[int, Duration] = field(default_factory=lambda: defaultdict(Duration))

    _successes: int = 0
    _spent: list[float] = field(default_factory=lambda: [0.0] * len(Phases._fields))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ran(self, rows: int, seconds: float) -> None:
        """Count one run of the graph; from the event loop and from the batcher's thread."""
        with self._lock:
            self.execution_count += 1
            self.inference_count += rows
            self.last_inference = time.time_ns() // 1_000_000
            self.runs_by_rows[rows].add(seconds)

    def answered(self, phases: Phases) -> None:
        """Count one successful request; on the event loop."""
        self._successes += 1
        spent = self._spent
        # Not a loop, as in `service.observability.metrics`.
        spent[0] += phases[0]
        spent[1] += phases[1]
        spent[2] += phases[2]
        spent[3] += phases[3]

    @property
    def _phases(self) -> Phases:
        return Phases(*self._spent)

    @property
    def success(self) -> Duration:
        """Successful requests."""
        return Duration(self._successes, sum(self._spent))

    @property
    def compute_input(self) -> Duration:
        """Decoding of successful requests."""
        return Duration(self._successes, self._phases.decode)

    @property
    def queue(self) -> Duration:
        """Waiting of successful requests."""
        return Duration(self._successes, self._phases.queue)

    @property
    def compute_infer(self) -> Duration:
        """Runs of the model for successful requests."""
        return Duration(self._successes, self._phases.compute)

    @property
    def compute_output(self) -> Duration:
        """Encoding of successful requests."""
        return Duration(self._successes, self._phases.encode)


@dataclass(frozen=True)
class ModelInfo:
    """What is known of a version, whether or not it is in memory.

    ``labels`` are the class labels of an output, by its name, if they are known;
    ``max_batch_rows`` is the largest request, ``joined_rows`` the largest batch of several;
    ``device`` is where the version runs, and ``execution`` how, once it has been loaded.
    The statistics continue from one load of the version to the next.
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
        """Whether a row's outputs had the same bits alone and in a batch."""
        return self.execution is not None and self.execution.rows_bitwise


@dataclass(frozen=True)
class Limits:
    """Limits of a model, in rows; ``max_batch_rows`` of 0 leaves the batch size to the model.

    ``deadline_seconds`` limits the wait for one run.
    """

    max_batch_rows: int
    max_queued_rows: int
    deadline_seconds: float = 30.0

    @property
    def batch_rows(self) -> int:
        """Most rows of a batch in a thread."""
        return self.max_batch_rows or _BATCH_ROWS

    @property
    def quick_rows(self) -> int:
        """Most rows of a batch on the event loop, however short the run is."""
        return self.max_batch_rows or _QUICK_ROWS


class ServedModel:
    """One version of one model, self-tested and ready.

    Args:
        info: what is known of it; the most used facts are attributes of the model, too.
        session: the open graph.
        execution: ``inline`` runs small requests on the event loop, for models so quick that
            handing over to a thread would cost more; ``batched`` batches requests in a thread.
    """

    def __init__(
        self,
        info: ModelInfo,
        session: Session,
        *,
        execution: Mode,
        limits: Limits,
        metrics: Metrics,
    ) -> None:
        self.info = info
        self.name = info.name
        self.version = info.version
        self.manifest = info.manifest
        self.inputs = info.inputs
        self.outputs = info.outputs
        self.labels = info.labels
        self.statistics = info.statistics
        self.execution = execution
        self._session = session
        self._metrics = metrics
        self.last_used = monotonic()
        self._row_seconds = math.inf  # of the latest large run
        self._users = 0
        self._on_idle: Callable[[], None] | None = None
        # Only if rows are independent; a bundle promises that, and an operator may.
        is_batched = info.joined_rows > 1
        self._most_quick_rows = limits.quick_rows if is_batched else 1
        self.deadline_seconds = limits.deadline_seconds
        self._thread_batcher = ThreadBatcher(
            self._run,
            max_batch_rows=limits.batch_rows if is_batched else 1,
            max_queued_rows=limits.max_queued_rows,
            new_control=new_control,
            deadline_seconds=limits.deadline_seconds,
        )
        self._loop_batcher = LoopBatcher(
            self._run,
            max_batch_rows=self._most_joined_rows(),
            max_queued_rows=limits.max_queued_rows,
            map_error=self._map_error,
        )

    async def predict(self, inputs: Arrays) -> Prediction:
        """Predict checked arrays in the order of ``inputs``.

        Raises:
            InferenceFailed: ONNX Runtime failed on rows that the manifest allows.
            InputRejected: ONNX Runtime failed on the input of a bare model, or the output of a
                bundle is not finite.
            Unavailable: too many rows wait, or the service is stopping.
        """
        try:
            return await self._predict(inputs)
        except OnwardError:
            raise
        except Exception as error:
            raise self._map_error(error) from error

    @property
    def is_quick(self) -> bool:
        """Whether small requests run on the event loop, by `join`."""
        return self.execution == "inline"

    def joins(self, rows: int) -> bool:
        """Whether so many rows run there."""
        return self.is_quick and self._is_short(rows)

    def join(
        self, inputs: Arrays, rows: int, on_result: OnResult, *, exclusive: bool = False
    ) -> None:
        """Predict checked arrays together with the other requests of this turn of the event loop.

        Args:
            inputs: as for `predict`.
            rows: their number; so few that the model `joins` them.
            on_result: called with the prediction, or with an error as `predict` raises it.
            exclusive: no other request can arrive in this turn, so run now.

        Raises:
            Unavailable: too many rows wait, or the service is stopping.
        """
        self._loop_batcher.submit(inputs, rows, on_result, exclusive=exclusive)

    def run_uncounted(self, inputs: Arrays, control: RunControl | None = None) -> Arrays:
        """Run the graph without counting it; from any thread.

        Args:
            inputs: as for `predict`.
            control: of `new_control`, with which another thread may terminate the run.

        Raises:
            Exception: whatever ONNX Runtime raises.
        """
        return self._session.run(inputs, control)

    async def _predict(self, inputs: Arrays) -> Prediction:
        if self.execution == "inline" and self._is_short(row_count(inputs)):
            started = perf_counter()
            outputs = self._run(inputs)
            return Prediction(outputs, 0.0, perf_counter() - started)
        return await self._thread_batcher.submit(inputs)

    def _is_short(self, rows: int) -> bool:
        """Whether handing so many rows to the thread would cost more than it saves others."""
        return rows <= _MOST_INLINE_ROWS or rows * self._row_seconds < LONGEST_INLINE_SECONDS

    def _most_joined_rows(self) -> int:
        """How many rows of several requests may block the event loop together."""
        short = int(LONGEST_INLINE_SECONDS / self._row_seconds)
        return min(max(short, _MOST_INLINE_ROWS), self._most_quick_rows)

    def _map_error(self, error: Exception) -> OnwardError:
        """The exception for the client; an unexpected error is logged."""
        if isinstance(error, OnwardError):
            return error
        reason = str(error).partition("\n")[0]
        if self.manifest is None:
            return InputRejected(self.name, reason)
        facts = {"model": self.name, "version": self.version}
        _log.error("inference failed", extra=facts, exc_info=error)
        return InferenceFailed(self.name, reason)

    def _require_finite(self, output: Array) -> None:
        """Reject outputs that are not finite; only extreme values lead there."""
        # Counting takes a third of the time of numpy's own all().
        if np.count_nonzero(np.isfinite(output)) < output.size:
            finite = np.isfinite(output).all(axis=1)
            row = f" to row {int(np.argmin(finite))}" if finite.size > 1 else ""
            raise InputRejected(
                self.name,
                f"its answer{row} is not a finite number; look for values far outside what it "
                "was trained on.",
            )

    def __enter__(self) -> Self:
        """Use the model, so that it is not closed before the response is written."""
        self._users += 1
        self.last_used = monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self._users -= 1
        self._close_if_idle()

    @property
    def in_use(self) -> bool:
        """Whether a request uses it."""
        return self._users > 0

    def close_when_idle(self, on_closed: Callable[[], None]) -> None:
        """Release session and thread as soon as no request uses the model any more.

        Args:
            on_closed: called when that is done.
        """
        self._on_idle = on_closed
        self._close_if_idle()

    async def close(self) -> None:
        """Accept no more requests, and finish those that wait, within the deadline."""
        self._loop_batcher.close()
        await self._thread_batcher.close(self.deadline_seconds)

    def _close_if_idle(self) -> None:
        if self._on_idle is not None and not self._users:
            on_closed, self._on_idle = self._on_idle, None
            # Model and batchers refer to each other; separated, all are freed immediately.
            self._thread_batcher.shutdown_now()
            self._loop_batcher.shutdown_now()
            on_closed()

    def _run(self, inputs: Arrays, control: RunControl | None = None) -> Arrays:
        started = perf_counter()
        outputs = self._session.run(inputs, control)
        seconds = perf_counter() - started
        # The inputs of a model with a manifest have rows.
        rows = len(inputs[0]) if self.manifest is not None else row_count(inputs)
        if rows > _MOST_INLINE_ROWS:
            # A run that the machine interrupted says little about the next.
            self._row_seconds = min(seconds / rows, _SLOWER * self._row_seconds)
            self._loop_batcher.max_batch_rows = self._most_joined_rows()
        self.statistics.ran(rows, seconds)
        self._metrics.ran(self.name, self.version, rows)
        if self.manifest is not None:
            # If several requests share the run, each is run again alone, to find whose it is.
            self._require_finite(outputs[0])
        return outputs
