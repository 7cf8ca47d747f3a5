"""What is known of a version, whether or not it is in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from service.bundle.manifest import Manifest
from service.engine.session import ActualDevice, TensorSpec
from service.engine.statistics import Statistics


@dataclass(frozen=True)
class About:
    """The facts that every list and description tells.

    ``labels`` are what the classes of an output are called, by its name, where that is known;
    ``device`` is where the version runs when it does. The statistics go on from one load of the
    same files to the next.
    """

    name: str
    version: str
    folder: Path
    device: ActualDevice
    manifest: Manifest | None
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    labels: Mapping[str, Sequence[str]]
    max_batch_rows: int
    statistics: Statistics = field(default_factory=Statistics)
