"""The training loop for tables."""

import copy
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from training.errors import FitError
from training.model.losses import RowLoss, compute_penalty
from training.model.optimizers import build_optimizer, build_schedule
from training.recipe.table import OptimizerSettings, Training

T = TypeVar("T")

# Relative; a smaller change is rounding.
_NO_IMPROVEMENT = 1e-10
# Multiplications in a step, from which a second thread helps; measured on two cores.
_MIN_PARALLEL_PRODUCTS = 1_000_000


@dataclass(frozen=True)
class TrainingSet:
    """Preprocessed rows with their targets."""

    x: Tensor
    """``[rows, width]``, scaled."""
    y: Tensor
    """``[rows]``: the scaled value, or the position of the label."""
    weight: Tensor
    """``[rows]``: the weight of each row in the loss."""

    def __len__(self) -> int:
        return len(self.y)


@dataclass
class History:
    """The loss after each epoch."""

    training: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    best_epoch: int = 0


@dataclass
class FitState:
    """The progress of a fit, with the weights of its best epoch."""

    history: History = field(default_factory=History)
    best: float = math.inf
    """The lowest monitored loss."""
    weights: dict[str, Tensor] = field(default_factory=dict)
    """The weights of the best epoch; empty before the first."""

    def record(
        self, training: float, monitored: float, network: nn.Module, *, validated: bool = True
    ) -> None:
        """Record the losses of an epoch, and its weights if they are the best so far.

        Args:
            training: the mean loss of the epoch's batches.
            monitored: the loss that decides which epoch is the best.
            network: whose weights are copied.
            validated: whether the monitored loss is that of a validation set.
        """
        self.history.training.append(training)
        if validated:
            self.history.validation.append(monitored)
        if self.best == math.inf or monitored < self.best - _NO_IMPROVEMENT * abs(self.best):
            self.best = monitored
            self.history.best_epoch = len(self.history.training) - 1
            self.weights = copy.deepcopy(network.state_dict())

    def should_stop(self, patience: int) -> bool:
        """Return whether the loss cannot improve, or did not for ``patience`` epochs."""
        epochs = len(self.history.training) - 1 - self.history.best_epoch
        return self.best == 0 or epochs >= patience


def fit(
    network: nn.Module,
    loss: RowLoss,
    training: TrainingSet,
    validation: TrainingSet | None,
    plan: Training,
) -> History:
    """Fit the network in place and leave it with the weights of its best epoch.

    The best epoch has the lowest loss on the validation set, or on the training set if there is
    none. The loop serves full batches, mini-batches and single rows, with first-order optimizers
    and L-BFGS. It draws from torch's global generator, which must be seeded before. Raise
    `FitError` if the loss is not finite, or a batch is too small for batch normalization.
    """
    batches = count_batches(len(training), plan, network)
    optimizer = build_optimizer(plan, network)
    schedule = build_schedule(plan, optimizer, batches)
    state = FitState()

    def compute_loss(rows: TrainingSet) -> Tensor:
        return (loss(network(rows.x), rows.y) * rows.weight).mean()

    def compute_objective(rows: TrainingSet) -> Tensor:
        return compute_loss(rows) + compute_penalty(network, plan.l1, plan.l2)

    def compute_gradient(batch: TrainingSet) -> float:
        """Return the loss of the batch; a line search calls this several times per step."""
        optimizer.zero_grad()
        value = compute_objective(batch)
        value.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return value.item()

    with _limit_threads(network, len(training) // batches):
        for epoch in show_progress(range(plan.epochs), "epochs"):
            if state.should_stop(plan.patience):
                break
            network.train()
            total = 0.0
            for batch in _shuffle(training, batches):
                total += optimizer.step(partial(compute_gradient, batch))
                schedule.step()

            network.eval()
            with torch.no_grad():
                monitored = compute_loss(validation) if validation else compute_objective(training)
            check_is_finite(monitored.item(), epoch, plan, remedy=", or choose a scaler")
            state.record(total / batches, monitored.item(), network, validated=bool(validation))

    network.load_state_dict(state.weights)
    return state.history


def count_batches(rows: int, plan: OptimizerSettings, network: nn.Module) -> int:
    """Return the number of batches; batch size 0 is one full batch.

    Raise `FitError` if a batch has only one row or image, which cannot be normalized.
    """
    batches = math.ceil(rows / plan.batch_size) if plan.batch_size else 1
    normalized = any(isinstance(module, nn.BatchNorm1d) for module in network.modules())
    if normalized and rows < 2 * batches:
        raise FitError(
            "Batch normalization needs at least two examples in each batch, but the "
            f"{rows} of the training set are split into {batches} batches; increase "
            "training.batch_size, or set network.batch_norm = false."
        )
    return batches


def check_is_finite(loss: float, epoch: int, plan: OptimizerSettings, remedy: str = "") -> None:
    """Reject a loss that is infinite or NaN; ``epoch`` counts from zero.

    Raise `FitError`, with the learning rate to change and another remedy.
    """
    if not math.isfinite(loss):
        raise FitError(
            f"The loss is not finite in epoch {epoch + 1}; set "
            f"training.learning_rate below {plan.learning_rate:g}{remedy}."
        )


def show_progress(items: Sequence[T], title: str) -> Iterator[T]:
    """Yield the items, with a progress bar on a terminal."""
    console = Console(stderr=True)
    yield from track(items, title, console=console, transient=True, disable=not sys.stderr.isatty())


def _shuffle(training: TrainingSet, batches: int) -> Iterator[TrainingSet]:
    """Yield every row once, in batches whose sizes differ by at most one."""
    if batches == 1:
        yield training
        return
    for rows in torch.randperm(len(training)).tensor_split(batches):
        yield TrainingSet(training.x[rows], training.y[rows], training.weight[rows])


@contextmanager
def _limit_threads(network: nn.Module, rows: int) -> Iterator[None]:
    """Use one thread for steps too small to benefit from more."""
    default_threads = torch.get_num_threads()
    products = rows * sum(parameter.numel() for parameter in network.parameters())
    torch.set_num_threads(1 if products < _MIN_PARALLEL_PRODUCTS else default_threads)
    try:
        yield
    finally:
        torch.set_num_threads(default_threads)
