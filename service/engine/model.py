"""A model in memory: its metadata, its statistics, and how it predicts."""

import logging
import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, perf_counter
from typing import Literal, Self

import numpy as np

from service.bundle.manifest import Manifest
from service.engine.batching import LoopBatcher, OnResult, Prediction, RunControl, ThreadBatcher
from service.engine.session import Session, new_control, summarize_error
from service.engine.tensors import Array, Arrays, TensorSpec, count_rows
from service.errors import InferenceFailed, InputRejected, OnwardError
from service.observability.metrics import Metrics, Phases
from service.settings import Settings

Mode = Literal["inline", "batched"]
ChosenBy = Literal["warm-up", "setting", "tuning.json", "graph"]

# Passing a request to a thread and back takes 25 to 60 microseconds. A model that takes a few times
# longer runs better there, where requests are batched and the event loop stays free.
INLINE_ROW_SECONDS = 0.000_15
# Larger runs block the event loop only if the latest large run shows that they are short.
_MAX_UNTIMED_INLINE_ROWS = 64
MAX_INLINE_SECONDS = 0.000_5
# A run that the operating system interrupted raises the estimate by no more than this factor.
_MAX_SLOWDOWN = 1.25
_DEFAULT_BATCH_ROWS: Mapping[Mode, int] = {
    # Activations of this many rows fit into memory for any model.
    "batched": 1024,
    # The fixed cost of a run, about 20 microseconds with cold CPU caches, is negligible for this
    # many rows.
    "inline": 8192,
}

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Duration:
    """The number of events, and their total duration."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one event."""
        self.count += 1
        self.seconds += seconds


@dataclass
class Statistics:
    """Statistics of one model in one process, as defined by the Open Inference Protocol.

    ``phase_seconds`` are those of all successful requests, in the order of `Phases`.
    """

    last_inference: int = 0
    inference_count: int = 0
    execution_count: int = 0
    successes: int = 0
    phase_seconds: list[float] = field(default_factory=lambda: [0.0] * len(Phases._fields))
    fail: Duration = field(default_factory=Duration)
    runs_by_rows: defaultdict[int, Duration] = field(default_factory=lambda: defaultdict(Duration))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count_run(self, rows: int, seconds: float) -> None:
        """Count one run of the graph. Thread-safe."""
        with self._lock:
            self.execution_count += 1
            self.inference_count += rows
            self.last_inference = time.time_ns() // 1_000_000
            self.runs_by_rows[rows].add(seconds)

    def count_success(self, phases: Phases) -> None:
        """Count one successful request; to be called on the event loop."""
        self.successes += 1
        seconds = self.phase_seconds
        # Unrolled for speed, as in `service.observability.metrics`.
        seconds[0] += phases[0]
        seconds[1] += phases[1]
        seconds[2] += phases[2]
        seconds[3] += phases[3]


@dataclass(frozen=True)
class Execution:
    """How a model runs, and what determined it.

    Attributes:
        mode: ``inline`` runs small requests on the event loop, for models so quick that a thread
            would cost more time than it saves; ``batched`` batches requests in a thread.
        chosen_by: what determined the mode.
        threads: intra-op threads of one run.
        row_seconds: the shortest run of one row; None for a bare model, which is not timed.
        rows_bitwise: whether the examples gave the same bits alone and in a batch.
    """

    mode: Mode
    chosen_by: ChosenBy
    threads: int
    row_seconds: float | None = None
    rows_bitwise: bool = False


@dataclass(frozen=True)
class ModelInfo:
    """The metadata of a version, whether or not it is in memory.

    Attributes:
        device: where the version runs.
        manifest: of a bundle; None for a bare model.
        labels: the class labels of each output that has some, by output name.
        max_batch_rows: most rows of one request.
        shared_batch_rows: most rows of a batch of several requests; 1 if they share no runs.
        execution: how the version runs; None until it was loaded.
        statistics: they continue when the version is loaded again.
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
    shared_batch_rows: int = 1
    execution: Execution | None = None
    statistics: Statistics = field(default_factory=Statistics)


@dataclass(frozen=True)
class BatchLimits:
    """Limits of a model.

    Attributes:
        max_batch_rows: most rows of a batch; 0 chooses a default for the mode of execution.
        max_queued_rows: most waiting rows.
        deadline_seconds: longest time that a client waits for one run.
    """

    max_batch_rows: int
    max_queued_rows: int
    deadline_seconds: float = 30.0

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Return the limits of all models of a service."""
        return cls(settings.max_batch_rows, settings.max_queued_rows, settings.deadline_seconds)

    def rows_for(self, mode: Mode) -> int:
        """Return the most rows of a batch in this mode of execution."""
        return self.max_batch_rows or _DEFAULT_BATCH_ROWS[mode]


class ServedModel:
    """One version of one model in memory, self-tested and ready.

    The attributes of its metadata that requests use are attributes of the model, too.
    """

    def __init__(
        self,
        info: ModelInfo,
        session: Session,
        *,
        execution: Mode,
        limits: BatchLimits,
        metrics: Metrics,
    ) -> None:
        self.info = info
        self.name = info.name
        self.version = info.version
        self.manifest = info.manifest
        self.statistics = info.statistics
        self.execution = execution
        self._session = session
        self._metrics = metrics
        self.last_used = monotonic()
        self._row_seconds = math.inf  # estimated from large runs
        self._users = 0
        self._on_idle: Callable[[], None] | None = None
        # Requests share runs only if rows are independent, as a bundle or the operator states.
        shares_runs = info.shared_batch_rows > 1
        self._inline_batch_rows = limits.rows_for("inline") if shares_runs else 1
        self.deadline_seconds = limits.deadline_seconds
        self._thread_batcher = ThreadBatcher(
            self._run,
            max_batch_rows=limits.rows_for("batched") if shares_runs else 1,
            max_queued_rows=limits.max_queued_rows,
            new_control=new_control,
            deadline_seconds=limits.deadline_seconds,
        )
        self._loop_batcher = LoopBatcher(
            self._run,
            max_batch_rows=self._limit_loop_batch(),
            max_queued_rows=limits.max_queued_rows,
            map_error=self._map_error,
        )

    async def predict(self, inputs: Arrays) -> Prediction:
        """Predict validated arrays in the order of ``inputs``.

        Raises:
            InferenceFailed: ONNX Runtime failed on input that the manifest allows.
            InputRejected: ONNX Runtime failed on the input of a bare model, or the output of a
                bundle is not finite.
            Unavailable: too many rows wait, or the service is stopping.
        """
        try:
            if self.runs_inline(self.count_rows(inputs)):
                started = perf_counter()
                outputs = self._run(inputs)
                return Prediction(outputs, 0.0, perf_counter() - started)
            return await self._thread_batcher.submit(inputs)
        except OnwardError:
            raise
        except Exception as error:
            raise self._map_error(error) from error

    def runs_inline(self, rows: int) -> bool:
        """Return whether this many rows run on the event loop, which a long run must not block."""
        return self.execution == "inline" and (
            rows <= _MAX_UNTIMED_INLINE_ROWS or rows * self._row_seconds < MAX_INLINE_SECONDS
        )

    def predict_inline(
        self, inputs: Arrays, rows: int, on_result: OnResult, *, exclusive: bool = False
    ) -> None:
        """Predict on the event loop, in a batch with the other requests of this turn.

        `runs_inline` must be true for the number of rows. The other arguments are those of
        `LoopBatcher.submit`; errors are those of `predict`.
        """
        self._loop_batcher.submit(inputs, rows, on_result, exclusive=exclusive)

    def count_rows(self, inputs: Arrays) -> int:
        """Return the number of rows of inputs for `predict`."""
        # The inputs of a model with a manifest have rows.
        return len(inputs[0]) if self.manifest is not None else count_rows(inputs)

    def run_uncounted(self, inputs: Arrays, control: RunControl | None = None) -> Arrays:
        """Run the graph without counting the run; raise any error of ONNX Runtime. Thread-safe.

        Another thread may terminate the run with ``control``, which is made by `new_control`.
        """
        return self._session.run(inputs, control)

    def _limit_loop_batch(self) -> int:
        """Return how many rows of several requests may block the event loop together."""
        short = int(MAX_INLINE_SECONDS / self._row_seconds)
        return min(max(short, _MAX_UNTIMED_INLINE_ROWS), self._inline_batch_rows)

    def _map_error(self, error: Exception) -> OnwardError:
        """Return the exception for the client; log an unexpected error."""
        if isinstance(error, OnwardError):
            return error
        reason = summarize_error(error)
        if self.manifest is None:
            return InputRejected(self.name, reason)
        facts = {"model": self.name, "version": self.version}
        _log.error("inference failed", extra=facts, exc_info=error)
        return InferenceFailed(self.name, reason)

    def _require_finite(self, output: Array) -> None:
        """Reject outputs that are not finite, which only extreme inputs cause."""
        # Counting takes a third of the time of numpy's own all().
        if np.count_nonzero(np.isfinite(output)) < output.size:
            finite = np.isfinite(output).all(axis=1)
            row = f" for row {int(np.argmin(finite))}" if finite.size > 1 else ""
            raise InputRejected(
                self.name,
                f"its prediction{row} is not a finite number; check the input for values far "
                "outside the training range.",
            )

    def acquire(self) -> None:
        """Keep the model open until `release`, after the response was written."""
        self._users += 1
        self.last_used = monotonic()

    def release(self) -> None:
        """Allow the model to be closed."""
        self._users -= 1
        self._close_if_idle()

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    @property
    def is_used(self) -> bool:
        """Whether any request uses it."""
        return self._users > 0

    def close_when_idle(self, on_closed: Callable[[], None]) -> None:
        """Release session and thread when no request uses the model; then call ``on_closed``."""
        self._on_idle = on_closed
        self._close_if_idle()

    async def close(self) -> None:
        """Accept no more requests, and finish the waiting ones within the deadline."""
        self._loop_batcher.close()
        await self._thread_batcher.close(self.deadline_seconds)

    def _close_if_idle(self) -> None:
        if self._on_idle is not None and not self._users:
            on_closed, self._on_idle = self._on_idle, None
            # Model and batchers are a reference cycle; breaking it frees all of them immediately.
            self._thread_batcher.shutdown_now()
            self._loop_batcher.shutdown_now()
            on_closed()

    def _run(self, inputs: Arrays, control: RunControl | None = None) -> Arrays:
        started = perf_counter()
        outputs = self._session.run(inputs, control)
        seconds = perf_counter() - started
        rows = self.count_rows(inputs)
        if rows > _MAX_UNTIMED_INLINE_ROWS:
            self._row_seconds = min(seconds / rows, _MAX_SLOWDOWN * self._row_seconds)
            self._loop_batcher.max_batch_rows = self._limit_loop_batch()
        self.statistics.count_run(rows, seconds)
        self._metrics.count_run(self.name, self.version, rows)
        if self.manifest is not None:
            # If requests share the run, each is then run again alone, to find the one that fails.
            self._require_finite(outputs[0])
        return outputs
