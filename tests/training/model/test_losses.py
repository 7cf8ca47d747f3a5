"""Losses compared with their formulas and with scikit-learn."""

import numpy as np
import pytest
import torch

from tests.recipes import read_recipe
from training.model.losses import compute_penalty, select_loss

_SCORES = torch.tensor([[-2.0], [0.0], [0.5], [3.0]], dtype=torch.float64)
_CLASSES = torch.tensor([0.0, 0.0, 1.0, 0.0], dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "cross-entropy",
            [np.log1p(np.exp(-2)), np.log(2), np.log1p(np.exp(-0.5)), np.log1p(np.exp(3))],
        ),
        ("hinge", [0, 1, 0.5, 4]),
        ("perceptron", [0, 0, 0, 3]),
    ],
)
def test_binary_losses_match_their_formulas(name: str, expected: list[float]) -> None:
    """One loss per row, from the score and the position of the label."""
    loss = select_loss(read_recipe("admission", [f"training.loss={name}"]))

    np.testing.assert_allclose(loss(_SCORES, _CLASSES), expected)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("mse", [4, 0, 0.25, 9]), ("mae", [2, 0, 0.5, 3]), ("huber", [1.5, 0, 0.125, 2.5])],
)
def test_regression_losses_match_their_formulas(name: str, expected: list[float]) -> None:
    """One loss per row, from the difference to the target."""
    loss = select_loss(read_recipe("ice_cream", [f"training.loss={name}"]))

    np.testing.assert_allclose(loss(_SCORES, torch.zeros(4, dtype=torch.float64)), expected)


def test_the_gradient_of_the_perceptron_is_rosenblatts_rule() -> None:
    """Incorrect rows change the weights by (prediction - target) * input; correct rows do not."""
    x = torch.tensor([[1.0, 2.0], [3.0, -1.0]])
    weights = torch.zeros(2, 1, requires_grad=True)
    loss = select_loss(read_recipe("iris_perceptron"))

    loss(x @ weights, torch.tensor([0.0, 1.0])).sum().backward()  # type: ignore[no-untyped-call]

    assert weights.grad is not None
    assert weights.grad[:, 0].tolist() == [1.0, 2.0]


def test_penalties_exclude_the_bias() -> None:
    """L1 and L2 only apply to weights."""
    network = torch.nn.Linear(2, 1)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[3.0, -4.0]]))
        network.bias.fill_(100)

    found = compute_penalty(network, l1=0.5, l2=0.1)

    assert isinstance(found, torch.Tensor)
    assert found.item() == pytest.approx(0.5 * 7 + 0.1 * 25)
