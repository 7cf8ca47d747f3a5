"""What a long fit leaves on the disk after each epoch, so that it can go on after any accident."""

import copy
import math
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from training.errors import DataError
from training.fit import History

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Keeping:
    """Where a run leaves what it needs to go on, and whether it shall."""

    folder: Path
    resume: bool = False


@dataclass
class State:
    """How far a fit has come."""

    epoch: int = 0
    """The next one, from nought."""
    history: History = field(default_factory=History)
    best: float = math.inf
    """The least loss on the validation part."""
    seconds: float = 0.0
    """What earlier runs of this fit took."""
    weights: Weights = field(default_factory=dict)
    """The network's at that epoch; none before the first."""

    def note(self, training: float, validation: float, network: nn.Module) -> None:
        """An epoch's losses; the weights are kept where they are the best so far."""
        self.history.training.append(training)
        self.history.validation.append(validation)
        if validation < self.best:
            self.best = validation
            self.history.best_epoch = len(self.history.validation) - 1
            self.weights = copy.deepcopy(network.state_dict())


class Checkpoint:
    """One file, replaced whole after each epoch; read without unpickling any code.

    Args:
        path: the file; None keeps nothing.
        fingerprint: of recipe and data; a checkpoint of another one is refused.
        resume: go on from the file where there is one.
    """

    def __init__(self, path: Path | None, fingerprint: str, *, resume: bool) -> None:
        self._path = path
        self._fingerprint = fingerprint
        self._resume = resume
        self._parts: dict[str, Any] = {}  # modules, optimizers and schedules share no type
        self._state = State()
        self._started = time.perf_counter()

    def begin(
        self, network: nn.Module, averaged: nn.Module, optimizer: Optimizer, schedule: LRScheduler
    ) -> State:
        """Where the fit starts: at nought, or with everything put back as the file has it.

        Raises:
            DataError: the file is of another recipe or other data, or is no checkpoint.
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
            self._state = State(
                found["epoch"],
                History(**found["history"]),
                found["best"],
                found["seconds"],
                found["weights"],
            )
        return self._state

    def save(self, epoch: int) -> None:
        """Write the state after an epoch; a crash leaves the file before or the file after."""
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
        self._path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self._path.with_suffix(".unfinished")
        with unfinished.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(self._path)

    @property
    def earlier_seconds(self) -> float:
        """What the runs took that this one goes on from."""
        return self._state.seconds

    def remove(self) -> None:
        """Nothing is left to go on with."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def _read(path: Path, fingerprint: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        raise DataError(
            f"{path} is not a checkpoint that can be read ({error}); remove it, or leave out "
            "--resume."
        ) from None
    if found["fingerprint"] != fingerprint:
        raise DataError(
            f"{path} was left by another recipe or other pictures; go on with those, remove it, "
            "or leave out --resume."
        )
    return found
