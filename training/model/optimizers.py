"""Optimizers and learning-rate schedules by their names in recipes."""

import torch
from torch import nn
from torch.optim import Optimizer, lr_scheduler

from training.recipe.table import OptimizerSettings

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
    other: Optimizer = getattr(torch.optim, plan.optimizer)(
        parameters, lr=rate, weight_decay=weight_decay
    )
    return other


def build_schedule(
    plan: OptimizerSettings, optimizer: Optimizer, batches: int
) -> lr_scheduler.LRScheduler:
    """Build the learning rate schedule of ``epochs * batches`` steps."""
    steps = plan.epochs * batches
    match plan.schedule:
        case "constant":
            return lr_scheduler.ConstantLR(optimizer, factor=1.0)
        case "step":  # multiplies the rate by gamma after one and after two thirds of the steps
            return lr_scheduler.StepLR(optimizer, step_size=max(steps // 3, 1), gamma=plan.gamma)
        case "exponential":  # decays to gamma times the initial rate
            return lr_scheduler.ExponentialLR(optimizer, gamma=plan.gamma ** (1 / steps))
        case "cosine":
            return lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
        case "one-cycle":  # increases to the rate, then decreases to almost zero (Smith, 2018)
            return lr_scheduler.OneCycleLR(
                optimizer,
                max_lr=plan.learning_rate,
                total_steps=steps + 1,
                # PyTorch warms up for pct_start * total_steps - 1, and divides by that number.
                pct_start=_WARM_UP if _WARM_UP * (steps + 1) > 1 else 0.0,
                cycle_momentum=False,
            )
        case "inverse-time":  # multiplies the rate by 1 / (1 + gamma * epoch)
            return lr_scheduler.LambdaLR(
                optimizer, lambda step: 1 / (1 + plan.gamma * step / batches)
            )
