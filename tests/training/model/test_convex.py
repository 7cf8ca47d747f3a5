"""The solver of linear and logistic models finds the minimum of the loss of `training.fit`."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.recipes import read_recipe
from training.fit import TrainingSet, fit
from training.model.convex import solve
from training.model.losses import RowLoss, compute_penalty, select_loss
from training.recipe.table import Training

_LOSSES: dict[int, RowLoss] = {
    0: select_loss(read_recipe("ice_cream")),
    2: select_loss(read_recipe("admission")),
    3: select_loss(read_recipe("iris")),
}


def _rows(labels: int, width: int = 4, count: int = 80) -> tuple[Tensor, Tensor, Tensor]:
    """Rows with a linear target, or the label nearest to it, and unequal weights."""
    generator = np.random.default_rng(labels)
    x = generator.normal(size=(count, width))
    y = x[:, 0] - x[:, 1] + generator.normal(size=count)
    if labels:
        y = np.clip(np.round(y + (labels - 1) / 2), 0, labels - 1)
    weight = generator.uniform(0.5, 2, count)
    return torch.from_numpy(x), torch.from_numpy(y), torch.from_numpy(weight)


def _measure(
    layer: nn.Linear, rows: tuple[Tensor, Tensor, Tensor], l2: float, labels: int
) -> float:
    x, y, weight = rows
    loss = (_LOSSES[labels](layer(x), y) * weight).mean() + compute_penalty(layer, 0, l2)
    return loss.item()


@pytest.mark.parametrize("labels", _LOSSES)
@pytest.mark.parametrize("l2", [0.0, 0.02])
@pytest.mark.parametrize("width", [4, 300])
def test_the_minimum_is_that_of_the_training_loop(labels: int, l2: float, width: int) -> None:
    """L-BFGS of PyTorch finds no lower loss, with few columns and with more than rows."""
    rows = _rows(labels, width)
    outputs = labels if labels > 2 else 1
    solved, fitted = (nn.Linear(width, outputs).double() for _ in range(2))

    solve(solved, rows, l2, labels)
    plan = Training(optimizer="LBFGS", learning_rate=1, epochs=30, l2=l2)
    fit(fitted, _LOSSES[labels], TrainingSet(*rows), None, plan)

    best = _measure(fitted, rows, l2, labels)
    assert _measure(solved, rows, l2, labels) <= best + 1e-5 * (1 + best)
    if l2:
        np.testing.assert_allclose(solved.weight.detach(), fitted.weight.detach(), atol=1e-3)


@pytest.mark.parametrize(("labels", "present"), [(2, [0]), (2, [1]), (3, [1]), (4, [0, 2])])
def test_a_label_without_rows_is_improbable(labels: int, present: list[int]) -> None:
    """But not impossible: a row with it has a finite loss."""
    x, _, weight = _rows(0)
    y = torch.tensor(present * (len(x) // len(present))).double()
    layer = nn.Linear(4, labels if labels > 2 else 1).double()

    solve(layer, (x, y, weight), 0.1, labels)

    scores = layer(x).detach()
    if labels == 2:
        scores = torch.cat([torch.zeros_like(scores), scores], dim=1)
    shares = torch.softmax(scores, dim=1).mean(dim=0).numpy()
    absent = [k for k in range(labels) if k not in present]
    assert (shares[absent] < 0.05).all()
    assert (shares[absent] > 1e-4).all()
    np.testing.assert_allclose(shares[present], 1 / len(present), atol=0.05)
