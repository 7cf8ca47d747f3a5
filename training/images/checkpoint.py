"""Checkpoints: the state of a fit, saved after each epoch, from which it can resume."""

import io
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from training.data.sources import replace_file
from training.errors import DataError
from training.fit import FitState, History


@dataclass(frozen=True)
class CheckpointOptions:
    """Where a run saves its checkpoint, and whether it resumes from one."""

    folder: Path
    resume: bool = False


class Checkpoint:
    """A file that is replaced after each epoch and read without unpickling code.

    Args:
        path: the file; None saves nothing.
        fingerprint: digest of recipe and data; other checkpoints are rejected.
        resume: load the file if it exists.
    """

    def __init__(self, path: Path | None, fingerprint: str, *, resume: bool) -> None:
        self._path = path
        self._fingerprint = fingerprint
        self._resume = resume
        self._parts: dict[str, Any] = {}  # modules, optimizers and schedules share no type
        self._state = FitState()
        self.earlier_seconds = 0.0
        """The duration of the earlier runs of this fit."""
        self._started = time.perf_counter()

    def begin(
        self, network: nn.Module, averaged: nn.Module, optimizer: Optimizer, schedule: LRScheduler
    ) -> FitState:
        """Start a fit: return a new state, or that of the checkpoint, and load all parts.

        Raise `DataError` if the file belongs to another recipe or other data, or is not a
        checkpoint.
        """
        self._parts = {
            "network": network,
            "averaged": averaged,
            "optimizer": optimizer,
            "schedule": schedule,
        }
        if self._path is not None and self._resume and self._path.exists():
            found = _read(self._path, self._fingerprint)
            for name, part in self._parts.items():
                part.load_state_dict(found[name])
            self._state = FitState(History(**found["history"]), found["best"], found["weights"])
            self.earlier_seconds = found["seconds"]
        return self._state

    def save(self) -> None:
        """Write the state after an epoch; after a crash the old or the new file is complete."""
        if self._path is None:
            return
        content = {name: part.state_dict() for name, part in self._parts.items()}
        content |= {
            "fingerprint": self._fingerprint,
            "history": asdict(self._state.history),
            "best": self._state.best,
            "seconds": self.earlier_seconds + time.perf_counter() - self._started,
            "weights": self._state.weights,
        }
        file = io.BytesIO()
        torch.save(content, file)
        replace_file(self._path, file.getvalue())

    def remove(self) -> None:
        """Delete the file."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def _read(path: Path, fingerprint: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        raise DataError(
            f"{path} is not a valid checkpoint ({error}); remove it, or run without --resume."
        ) from None
    if found["fingerprint"] != fingerprint:
        raise DataError(
            f"{path} belongs to another recipe or other images; resume with those, remove it, "
            "or run without --resume."
        )
    return found
