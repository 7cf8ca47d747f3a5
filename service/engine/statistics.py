"""What one model has done so far, as the Open Inference Protocol counts it."""

import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field


@dataclass
class Duration:
    """How often, and how long in all, in nanoseconds."""

    count: int = 0
    ns: int = 0

    def add(self, seconds: float) -> None:
        """Count one more of this length."""
        self.count += 1
        self.ns += round(seconds * 1e9)


@dataclass
class Statistics:
    """Counted by one process since the model was loaded."""

    last_inference: int = 0
    inference_count: int = 0
    execution_count: int = 0
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)
    runs_by_rows: defaultdict[int, Duration] = field(default_factory=lambda: defaultdict(Duration))

    _runs: threading.Lock = field(default_factory=threading.Lock)

    def ran(self, rows: int, seconds: float) -> None:
        """Count one run of the graph; from the event loop and from the batcher's thread."""
        with self._runs:
            self.execution_count += 1
            self.inference_count += rows
            self.last_inference = time.time_ns() // 1_000_000
            self.runs_by_rows[rows].add(seconds)

    def answered(self, decode: float, queue: float, compute: float, encode: float) -> None:
        """Count one request that was answered; seconds by phase."""
        self.success.add(decode + queue + compute + encode)
        self.compute_input.add(decode)
        self.queue.add(queue)
        self.compute_infer.add(compute)
        self.compute_output.add(encode)
