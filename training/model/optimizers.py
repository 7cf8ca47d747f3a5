"""Optimisers and learning-rate schedules by the names that recipes use."""

from collections.abc import Callable

import torch
from torch import nn
from torch.optim import Optimizer, lr_scheduler

from training.recipe.table import Descent, Schedule


def build_optimiser(plan: Descent, network: nn.Module) -> Optimizer:
    """The recipe's optimiser over the network's parameters."""
    parameters = list(network.parameters())
    if plan.optimiser == "LBFGS":
        return torch.optim.LBFGS(
            parameters,
            lr=plan.learning_rate,
            tolerance_grad=1e-12,
            tolerance_change=1e-16,
            line_search_fn="strong_wolfe",
        )
    rate, weight_decay, momentum = plan.learning_rate, plan.weight_decay, plan.momentum
    if plan.optimiser == "SGD":
        return torch.optim.SGD(
            parameters,
            lr=rate,
            weight_decay=weight_decay,
            momentum=momentum,
            nesterov=plan.nesterov,
        )
    if plan.optimiser == "RMSprop":
        return torch.optim.RMSprop(
            parameters, lr=rate, weight_decay=weight_decay, momentum=momentum
        )
    build: Callable[..., Optimizer] = getattr(torch.optim, plan.optimiser)
    return build(parameters, lr=rate, weight_decay=weight_decay)


def build_schedule(plan: Descent, optimiser: Optimizer, batches: int) -> lr_scheduler.LRScheduler:
    """How the learning rate moves with each of ``epochs * batches`` steps."""
    return _SCHEDULES[plan.schedule](plan, optimiser, plan.epochs * batches)


def _constant(_: Descent, optimiser: Optimizer, __: int) -> lr_scheduler.LRScheduler:
    return lr_scheduler.LambdaLR(optimiser, lambda _: 1.0)


def _step(plan: Descent, optimiser: Optimizer, steps: int) -> lr_scheduler.LRScheduler:
    """Times ``decay`` after one third and after two thirds."""
    return lr_scheduler.StepLR(optimiser, step_size=max(steps // 3, 1), gamma=plan.decay)


def _exponential(plan: Descent, optimiser: Optimizer, steps: int) -> lr_scheduler.LRScheduler:
    """Evenly in the logarithm, to ``decay`` times the first rate at the end."""
    return lr_scheduler.ExponentialLR(optimiser, gamma=plan.decay ** (1 / steps))


def _cosine(_: Descent, optimiser: Optimizer, steps: int) -> lr_scheduler.LRScheduler:
    return lr_scheduler.CosineAnnealingLR(optimiser, T_max=steps)


def _one_cycle(plan: Descent, optimiser: Optimizer, steps: int) -> lr_scheduler.LRScheduler:
    """Up to the learning rate and down to almost nought (Smith, 2018)."""
    return lr_scheduler.OneCycleLR(
        optimiser,
        max_lr=plan.learning_rate,
        total_steps=steps + 1,
        pct_start=0.2,
        cycle_momentum=False,
    )


def _inverse_time(plan: Descent, optimiser: Optimizer, steps: int) -> lr_scheduler.LRScheduler:
    """``1 / (1 + decay * epoch)``."""
    batches = steps // plan.epochs
    return lr_scheduler.LambdaLR(optimiser, lambda step: 1 / (1 + plan.decay * step / batches))


_SCHEDULES: dict[Schedule, Callable[[Descent, Optimizer, int], lr_scheduler.LRScheduler]] = {
    "constant": _constant,
    "step": _step,
    "exponential": _exponential,
    "cosine": _cosine,
    "one-cycle": _one_cycle,
    "inverse-time": _inverse_time,
}
