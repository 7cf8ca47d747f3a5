"""AdamW and the best weights of packed networks, each with its own rates."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from training.model.packing import PackedNetworks

_BETAS = (0.9, 0.999)
_EPSILON = 1e-8


class PackedAdamW(Optimizer):
    """AdamW with a learning rate and a weight decay for each of the packed networks.

    A schedule changes ``lr``, the factor of all learning rates. All parameters become parts of one
    vector, so that a step costs the same for many parameters as for one. For a single network it
    is `torch.optim.AdamW`.
    """

    def __init__(
        self, packed: PackedNetworks, rates: Sequence[float], decays: Sequence[float]
    ) -> None:
        parameters = list(packed.parameters())
        self.weights = torch.cat([one.data.flatten() for one in parameters])
        self._gradient = torch.zeros_like(self.weights)
        sizes = [one.numel() for one in parameters]
        for one, weights, gradient in zip(
            parameters,
            torch.split(self.weights, sizes),
            torch.split(self._gradient, sizes),
            strict=True,
        ):
            one.data, one.grad = weights.view_as(one), gradient.view_as(one)
        self.owners = torch.cat([owner.flatten() for owner in packed.list_owners()])
        """``[weights]``: the network of each weight."""
        self._rates = torch.tensor(rates)[self.owners]
        self._decay = torch.tensor(rates)[self.owners] * torch.tensor(decays)[self.owners]
        self._mean = torch.zeros_like(self.weights)
        self._square = torch.zeros_like(self.weights)
        # Memory for each step, which is slow to allocate.
        self._scale, self._update = torch.empty_like(self._mean), torch.empty_like(self._mean)
        self._steps = 0
        super().__init__([self.weights], {"lr": 1.0})

    def zero_grad(self, set_to_none: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - of torch
        """Set the gradient to zero, in the memory that all parameters share."""
        self._gradient.zero_()

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]  # torch overloads it
        """Update all weights."""
        loss = closure() if closure else None
        self._steps += 1
        first, second = _BETAS
        rate = float(self.param_groups[0]["lr"])
        self._mean.lerp_(self._gradient, 1 - first)
        self._square.mul_(second).addcmul_(self._gradient, self._gradient, value=1 - second)
        # Both corrections of the bias of early steps are part of the rate.
        correction = math.sqrt(1 - second**self._steps)
        torch.sqrt(self._square, out=self._scale).add_(_EPSILON * correction)
        torch.mul(self._mean, self._rates, out=self._update)
        self.weights.addcmul_(self._decay, self.weights, value=-rate)
        factor = rate * correction / (1 - first**self._steps)
        self.weights.addcdiv_(self._update, self._scale, value=-factor)
        return loss


class BestWeights:
    """The weights of each network's best epoch."""

    def __init__(self, optimizer: PackedAdamW, networks: int) -> None:
        self._optimizer = optimizer
        self._weights = optimizer.weights.clone()
        self._losses = torch.full((networks,), math.inf)
        self._epochs = torch.zeros(networks)

    def record(self, losses: Tensor) -> None:
        """Retain the weights of networks with their lowest loss so far, ``[networks]``."""
        improved = losses < self._losses
        self._epochs = torch.where(improved, 0, self._epochs + 1)
        if improved.any():
            self._losses = torch.where(improved, losses, self._losses)
            mask = improved[self._optimizer.owners]
            self._weights = torch.where(mask, self._optimizer.weights, self._weights)

    def should_stop(self, patience: int) -> bool:
        """Return whether no network has improved for ``patience`` epochs."""
        return bool((self._epochs >= patience).all())

    def restore(self) -> None:
        """Give all networks the weights of their best epochs."""
        self._optimizer.weights.copy_(self._weights)
