"""Train many small networks at once, on one or several training sets, as one packed module."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from training.fit import TrainingSet, check_is_finite, count_batches
from training.model.losses import RowLoss
from training.model.network_drafts import NetworkPlan
from training.model.networks import build
from training.model.optimizers import build_schedule
from training.model.packed_optimizer import BestWeights, PackedAdamW
from training.model.packing import PackedNetworks

# The order of the rows and the dropout do not depend on the seeds of the networks.
_ORDER_SEED = 0


def fit_together(  # noqa: PLR0913, PLR0917 - what a fit depends on
    plans: Sequence[NetworkPlan],
    training: Sequence[TrainingSet],
    validation: Sequence[TrainingSet],
    numbers_width: int,
    outputs: int,
    loss: RowLoss,
    seeds: Sequence[int],
) -> list[list[nn.Module]]:
    """Return a fitted network for each training set and plan.

    `training.model.networks.build` builds them. A network has the weights of its epoch with the
    lowest loss on the validation set; without one, those of the last step. The order of the rows
    and the dropout do not depend on the seeds, so a network does not depend on the others.

    Args:
        plans: with the same epochs, batch size, schedule and activation.
        training: sets of preprocessed rows, of the same width and number of batches.
        validation: as many sets, or none.
        numbers_width: the number of the first columns that are numbers.
        outputs: of each network.
        loss: of each row.
        seeds: of the initial weights of each plan.

    Raises:
        FitError: the loss of a network is not finite.
    """
    networks = []
    for rows in training:
        for plan, seed in zip(plans, seeds, strict=True):
            torch.manual_seed(seed)
            networks.append(build(plan.network, rows.x, numbers_width, outputs))
    activation = plans[0].network.activation
    packed = PackedNetworks(networks, activation, [plan.network.dropout for plan in plans])
    with _flush_denormal_numbers(), _use_one_thread():
        _fit(packed, plans, training, validation, loss)
    packed.unpack()
    return [networks[first : first + len(plans)] for first in range(0, len(networks), len(plans))]


def _fit(
    packed: PackedNetworks,
    plans: Sequence[NetworkPlan],
    training: Sequence[TrainingSet],
    validation: Sequence[TrainingSet],
    loss: RowLoss,
) -> None:
    common = plans[0].training
    optimizer = _build_optimizer(packed, plans)
    batches = count_batches(max(map(len, training)), common, packed)
    schedule = build_schedule(common.model_copy(update={"learning_rate": 1.0}), optimizer, batches)
    best = BestWeights(optimizer, len(packed.order))
    examples = _PackedRows(packed, training)
    measured = _PackedRows(packed, validation).all_rows if validation else None

    def compute_losses(batch: _Batch, step: int) -> Tensor:
        """Return the mean loss of each network, in the order of the packed networks."""
        scores = packed(batch.inputs, step)
        y, weight = batch.y[packed.sets], batch.weight[packed.sets]
        losses = loss(scores.flatten(0, 1), y.flatten()).view(len(scores), -1)
        return (losses * weight).sum(dim=1)

    step = 0
    for epoch in range(common.epochs):
        packed.train()
        for batch in examples.shuffle(batches):
            optimizer.zero_grad()
            losses = compute_losses(batch, step)
            losses.sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimizer.step()
            schedule.step()
            step += 1
        packed.eval()
        if measured:
            with torch.no_grad():
                losses = compute_losses(measured, step)
            best.record(losses)
        _check_are_finite(losses, epoch, plans, packed)
        if measured and best.should_stop(common.patience):
            break
    if measured:
        best.restore()


@dataclass(frozen=True)
class _Batch:
    """Some rows of each training set."""

    inputs: list[Tensor]
    """Of each group of networks, ``[sets, rows, width]``."""
    y: Tensor
    """``[sets, rows]``."""
    weight: Tensor
    """``[sets, rows]``: the share of each row in the mean loss of its set; zero for padding."""


class _PackedRows:
    """The rows of several training sets, side by side."""

    def __init__(self, packed: PackedNetworks, sets: Sequence[TrainingSet]) -> None:
        self._sizes = [len(one) for one in sets]
        # What has no parameters is computed once, not in every step.
        self._inputs = packed.embed([one.x for one in sets])
        self._y = pad_sequence([one.y for one in sets], batch_first=True)
        self._weight = pad_sequence([one.weight for one in sets], batch_first=True)
        self._generators = [torch.Generator().manual_seed(_ORDER_SEED) for _ in sets]

    @property
    def all_rows(self) -> _Batch:
        """All rows of each set."""
        return self._select([torch.arange(size) for size in self._sizes])

    def shuffle(self, batches: int) -> Iterator[_Batch]:
        """Yield every row once, in batches whose sizes differ by at most one."""
        orders = [
            torch.randperm(size, generator=generator).tensor_split(batches)
            for size, generator in zip(self._sizes, self._generators, strict=True)
        ]
        for rows in zip(*orders, strict=True):
            yield self._select(rows)

    def _select(self, rows: Sequence[Tensor]) -> _Batch:
        """Return these rows of each set, padded to the same number."""
        counts = torch.tensor([len(one) for one in rows]).unsqueeze(1)
        positions = pad_sequence(list(rows), batch_first=True)
        sets = torch.arange(len(rows)).unsqueeze(1)
        is_row = torch.arange(positions.shape[1]) < counts
        return _Batch(
            [one[sets, positions] for one in self._inputs],
            self._y[sets, positions],
            self._weight[sets, positions] * is_row / counts,
        )


@contextmanager
def _flush_denormal_numbers() -> Iterator[None]:
    """The moments of weights without gradients decay to denormal numbers, which are slow."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@contextmanager
def _use_one_thread() -> Iterator[None]:
    """The steps are so short that threads wait for each other longer than they compute."""
    default_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(default_threads)


def _build_optimizer(packed: PackedNetworks, plans: Sequence[NetworkPlan]) -> PackedAdamW:
    settings = [plans[k % len(plans)].training for k in packed.order]
    return PackedAdamW(
        packed,
        [one.learning_rate for one in settings],
        [one.weight_decay for one in settings],
    )


def _check_are_finite(
    losses: Tensor, epoch: int, plans: Sequence[NetworkPlan], packed: PackedNetworks
) -> None:
    for loss, k in zip(losses.tolist(), packed.order, strict=True):
        check_is_finite(loss, epoch, plans[k % len(plans)].training, remedy=", or choose a scaler")
