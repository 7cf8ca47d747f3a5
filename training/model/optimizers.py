"""Optimizers and learning-rate schedules by their names in recipes."""

from collections.abc import Callable

import torch
from torch import nn
from torch.optim import Optimizer, lr_scheduler

from training.recipe.table import OptimizerSettings, Schedule

# The share of a one-cycle schedule in which the learning rate increases.
_WARM_UP = 0.2


def build_optimizer(plan: OptimizerSettings, network: nn.Module) -> Optimizer:
    """Build the recipe's optimizer for the network's parameters."""
    parameters = list(network.parameters())
    if plan.optimizer == "LBFGS":
        return torch.optim.LBFGS(
            parameters,
            lr=plan.learning_rate,
            tolerance_grad=1e-12,
            tolerance_change=1e-16,
            line_search_fn="strong_wolfe",
        )
    rate, weight_decay, momentum = plan.learning_rate, plan.weight_decay, plan.momentum
    if plan.optimizer == "SGD":
        return torch.optim.SGD(
            parameters,
            lr=rate,
            weight_decay=weight_decay,
            momentum=momentum,
            nesterov=plan.nesterov,
        )
    if plan.optimizer == "RMSprop":
        return torch.optim.RMSprop(
            parameters, lr=rate, weight_decay=weight_decay, momentum=momentum
        )
    build: Callable[..., Optimizer] = getattr(torch.optim, plan.optimizer)
    return build(parameters, lr=rate, weight_decay=weight_decay)


def build_schedule(
    plan: OptimizerSettings, optimizer: Optimizer, batches: int
) -> lr_scheduler.LRScheduler:
    """Build the learning rate schedule of ``epochs * batches`` steps."""
    return _SCHEDULES[plan.schedule](plan, optimizer, plan.epochs * batches)


def _constant(_: OptimizerSettings, optimizer: Optimizer, __: int) -> lr_scheduler.LRScheduler:
    return lr_scheduler.ConstantLR(optimizer, factor=1.0)


def _step(plan: OptimizerSettings, optimizer: Optimizer, steps: int) -> lr_scheduler.LRScheduler:
    """Multiply the rate by ``gamma`` after one third and after two thirds of the steps."""
    return lr_scheduler.StepLR(optimizer, step_size=max(steps // 3, 1), gamma=plan.gamma)


def _exponential(
    plan: OptimizerSettings, optimizer: Optimizer, steps: int
) -> lr_scheduler.LRScheduler:
    """Decay exponentially to ``gamma`` times the initial rate."""
    return lr_scheduler.ExponentialLR(optimizer, gamma=plan.gamma ** (1 / steps))


def _cosine(_: OptimizerSettings, optimizer: Optimizer, steps: int) -> lr_scheduler.LRScheduler:
    return lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)


def _one_cycle(
    plan: OptimizerSettings, optimizer: Optimizer, steps: int
) -> lr_scheduler.LRScheduler:
    """Increase to the learning rate, then decrease to almost zero (Smith, 2018)."""
    total = steps + 1
    return lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=plan.learning_rate,
        total_steps=total,
        # PyTorch warms up for pct_start * total - 1 steps, and divides by that number.
        pct_start=_WARM_UP if _WARM_UP * total > 1 else 0.0,
        cycle_momentum=False,
    )


def _inverse_time(
    plan: OptimizerSettings, optimizer: Optimizer, steps: int
) -> lr_scheduler.LRScheduler:
    """Multiply the rate by ``1 / (1 + gamma * epoch)``."""
    batches = steps // plan.epochs
    return lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + plan.gamma * step / batches))


_SCHEDULES: dict[
    Schedule, Callable[[OptimizerSettings, Optimizer, int], lr_scheduler.LRScheduler]
] = {
    "constant": _constant,
    "step": _step,
    "exponential": _exponential,
    "cosine": _cosine,
    "one-cycle": _one_cycle,
    "inverse-time": _inverse_time,
}
