"""Models opened as the service opens them."""

from pathlib import Path

from service.engine.loading import load
from service.engine.model import Limits, ServedModel
from service.engine.plan import Plan
from service.engine.repository import Candidate
from service.metrics import Metrics


def loaded(folder: Path) -> ServedModel:
    """The version in a folder ``<name>/<version>``."""
    candidate = Candidate(folder.parent.name, folder.name, folder, ())
    return load(candidate, Plan(), Limits(1024, 200_000), Metrics())
