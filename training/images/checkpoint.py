"""Checkpoints: the state of a fit, saved after each epoch, from which it can resume."""

import copy
import io
import math
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from training.data.sources import replace_file
from training.errors import DataError
from training.fit import History

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class CheckpointOptions:
    """Where a run saves its checkpoint, and whether it resumes from one."""

    folder: Path
    resume: bool = False


@dataclass
class FitState:
    """The progress of a fit."""

    epoch: int = 0
    """The next epoch, from zero."""
    history: History = field(default_factory=History)
    best: float = math.inf
    """The lowest loss on the validation set."""
    seconds: float = 0.0
    """The duration of the earlier runs of this fit."""
    weights: Weights = field(default_factory=dict)
    """The weights of the best epoch; empty before the first."""

    def record(self, training: float, validation: float, network: nn.Module) -> None:
        """Record the losses of an epoch, and its weights if they are the best so far."""
        self.history.training.append(training)
        self.history.validation.append(validation)
        if validation < self.best:
            self.best = validation
            self.history.best_epoch = len(self.history.validation) - 1
            self.weights = copy.deepcopy(network.state_dict())


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
        self._started = time.perf_counter()

    def begin(
        self, network: nn.Module, averaged: nn.Module, optimizer: Optimizer, schedule: LRScheduler
    ) -> FitState:
        """Start a fit: return a new state, or that of the checkpoint, and load all parts.

        Raises:
            DataError: the file belongs to another recipe or other data, or is not a checkpoint.
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
            self._state = FitState(
                found["epoch"],
                History(**found["history"]),
                found["best"],
                found["seconds"],
                found["weights"],
            )
        return self._state

    def save(self, epoch: int) -> None:
        """Write the state after an epoch; after a crash the old or the new file is complete."""
        self._state.epoch = epoch
        if self._path is None:
            return
        content = {name: part.state_dict() for name, part in self._parts.items()}
        content |= {
            "fingerprint": self._fingerprint,
            "epoch": epoch,
            "history": asdict(self._state.history),
            "best": self._state.best,
            "seconds": self._state.seconds + time.perf_counter() - self._started,
            "weights": self._state.weights,
        }
        file = io.BytesIO()
        torch.save(content, file)
        replace_file(self._path, file.getvalue())

    @property
    def earlier_seconds(self) -> float:
        """The duration of the earlier runs of this fit."""
        return self._state.seconds

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
