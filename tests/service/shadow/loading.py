"""Load models like the service."""

from pathlib import Path

from service.engine.loader import ExecutionPlan, load
from service.engine.model import BatchLimits, ServedModel
from service.engine.repository import Candidate
from service.observability.metrics import Metrics


def loaded(folder: Path) -> ServedModel:
    """The version in a folder ``<name>/<version>``."""
    candidate = Candidate(folder.parent.name, folder.name, folder, ())
    return load(candidate, ExecutionPlan(), BatchLimits(1024, 200_000), Metrics())
