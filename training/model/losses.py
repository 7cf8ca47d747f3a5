"""Losses: each gives one number per row."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.recipe.table import Loss, Recipe

RowLoss = Callable[[Tensor, Tensor], Tensor]
"""Scores ``[rows, outputs]`` and target ``[rows]`` to losses ``[rows]``."""


def select_loss(recipe: Recipe) -> RowLoss:
    """Return the recipe's loss, or the default of its task and family."""
    if recipe.task == "multiclass":
        return _compute_cross_entropy
    default: Loss = recipe.family.binary_loss if recipe.is_classification else "mse"
    chosen = recipe.training.loss if recipe.training else None
    return _LOSSES[chosen or default]


def compute_penalty(network: nn.Module, l1: float, l2: float) -> Tensor | float:
    """Compute ``l1 * sum |w| + l2 * sum w²`` over the weights without biases."""
    if l1 == 0 and l2 == 0:
        return 0.0
    weights = torch.cat([p.flatten() for p in network.parameters() if p.dim() > 1])
    return l1 * weights.abs().sum() + l2 * weights.square().sum()


def compute_mean_cross_entropy(scores: Tensor, target: Tensor) -> Tensor:
    """Compute the mean cross-entropy of scores ``[rows, outputs]``.

    Args:
        scores: of all labels, or of the second of two.
        target: ``[rows]``, label positions; or ``[rows, labels]``, the share of each label.
    """
    if scores.shape[1] > 1:
        return functional.cross_entropy(scores, target)
    second = target if target.dim() == 1 else target[:, 1]
    return functional.binary_cross_entropy_with_logits(scores[:, 0], second.to(scores.dtype))


def _adapt_loss(loss: Callable[..., Tensor]) -> RowLoss:
    """Return a loss of PyTorch as one of the only score, without the mean over the rows."""
    return lambda scores, target: loss(scores[:, 0], target, reduction="none")


def _compute_cross_entropy(scores: Tensor, target: Tensor) -> Tensor:
    return functional.cross_entropy(scores, target.long(), reduction="none")


def _compute_hinge(scores: Tensor, target: Tensor) -> Tensor:
    return torch.relu(1 - (2 * target - 1) * scores[:, 0])


def _compute_perceptron(scores: Tensor, target: Tensor) -> Tensor:
    """Compute a loss whose gradient is Rosenblatt's rule, (prediction - target) * input."""
    prediction = (scores[:, 0].detach() >= 0).to(target.dtype)
    return (prediction - target) * scores[:, 0]


_LOSSES: dict[Loss, RowLoss] = {
    "mse": _adapt_loss(functional.mse_loss),
    "mae": _adapt_loss(functional.l1_loss),
    "huber": _adapt_loss(functional.huber_loss),
    "cross-entropy": _adapt_loss(functional.binary_cross_entropy_with_logits),
    "hinge": _compute_hinge,
    "perceptron": _compute_perceptron,
}
