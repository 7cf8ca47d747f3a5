"""Train many small networks on the same rows at once, as one packed module."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

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
    training: TrainingSet,
    validation: TrainingSet | None,
    numbers_width: int,
    outputs: int,
    loss: RowLoss,
    seeds: Sequence[int],
) -> list[nn.Module]:
    """Return a fitted network for each plan, as `training.model.networks.build` builds it.

    A network has the weights of its epoch with the lowest loss on the validation set; without one,
    those of the last step. The order of the rows and the dropout do not depend on the seeds, so a
    network does not depend on the others.

    Args:
        plans: with the same epochs, batch size, schedule and activation.
        training: preprocessed rows.
        validation: preprocessed rows, or None.
        numbers_width: the number of the first columns that are numbers.
        outputs: of each network.
        loss: of each row.
        seeds: of the initial weights of each network.

    Raises:
        FitError: the loss of a network is not finite.
    """
    networks = []
    for plan, seed in zip(plans, seeds, strict=True):
        torch.manual_seed(seed)
        networks.append(build(plan.network, training.x, numbers_width, outputs))
    activation = plans[0].network.activation
    packed = PackedNetworks(networks, activation, [plan.network.dropout for plan in plans])
    with _flush_denormal_numbers(), _use_one_thread():
        _fit(packed, plans, training, validation, loss)
    packed.unpack()
    return networks


def _fit(
    packed: PackedNetworks,
    plans: Sequence[NetworkPlan],
    training: TrainingSet,
    validation: TrainingSet | None,
    loss: RowLoss,
) -> None:
    common = plans[0].training
    optimizer = _build_optimizer(packed, plans)
    batches = count_batches(len(training), common, packed)
    schedule = build_schedule(common.model_copy(update={"learning_rate": 1.0}), optimizer, batches)
    best = BestWeights(optimizer, len(plans))
    # What has no parameters is computed once, not in every step.
    inputs = packed.embed(training.x)
    measured = packed.embed(validation.x) if validation else []

    def compute_losses(x: Sequence[Tensor], y: Tensor, weight: Tensor, step: int) -> Tensor:
        """Return the mean loss of each network, in the order of the packed networks."""
        scores = packed(x, step)
        losses = loss(scores.flatten(0, 1), y.repeat(len(scores))).view(len(scores), -1)
        return (losses * weight).mean(dim=1)

    generator = torch.Generator().manual_seed(_ORDER_SEED)
    step = 0
    for epoch in range(common.epochs):
        packed.train()
        for rows in torch.randperm(len(training), generator=generator).tensor_split(batches):
            optimizer.zero_grad()
            batch = [one[rows] for one in inputs]
            losses = compute_losses(batch, training.y[rows], training.weight[rows], step)
            losses.sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimizer.step()
            schedule.step()
            step += 1
        packed.eval()
        if validation:
            with torch.no_grad():
                losses = compute_losses(measured, validation.y, validation.weight, step)
            best.record(losses)
        _check_are_finite(losses, epoch, plans, packed)
        if validation and best.should_stop(common.patience):
            break
    if validation:
        best.restore()


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
    settings = [plans[k].training for k in packed.order]
    return PackedAdamW(
        packed,
        [one.learning_rate for one in settings],
        [one.weight_decay for one in settings],
    )


def _check_are_finite(
    losses: Tensor, epoch: int, plans: Sequence[NetworkPlan], packed: PackedNetworks
) -> None:
    for loss, k in zip(losses.tolist(), packed.order, strict=True):
        check_is_finite(loss, epoch, plans[k].training, remedy=", or choose a scaler")
