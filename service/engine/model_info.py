"""What is known of a version, whether or not it is in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from service.bundle.manifest import Manifest
from service.engine.execution_plan import Execution
from service.engine.session import TensorSpec
from service.engine.statistics import Statistics


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
