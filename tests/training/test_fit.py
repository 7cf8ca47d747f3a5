"""The training loop: optima, early stopping, best weights, and divergence."""

import copy

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import nn

from tests.recipes import read_recipe
from training.errors import FitError
from training.fit import FitState, TrainingSet, fit
from training.model.losses import select_loss
from training.recipe.table import Training

_MSE = select_loss(read_recipe("ice_cream"))
_RIDGE_PENALTY = 0.05


def _examples(rows: int, seed: int) -> TrainingSet:
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(rows, 3))
    y = x @ [1.0, -2.0, 0.5] + 3 + generator.normal(scale=0.3, size=rows)
    return TrainingSet(
        torch.from_numpy(x), torch.from_numpy(y), torch.ones(rows, dtype=torch.float64)
    )


def _plan(**changes: object) -> Training:
    usual: dict[str, object] = {"optimizer": "LBFGS", "learning_rate": 1.0, "epochs": 50}
    return Training.model_validate(usual | changes)


def test_lbfgs_reaches_the_ridge_optimum() -> None:
    """Full-batch L-BFGS with an L2 penalty gives scikit-learn's ridge coefficients."""
    data, network = _examples(60, seed=1), nn.Linear(3, 1).double()

    fit(network, _MSE, data, None, _plan(l2=_RIDGE_PENALTY))

    ridge = Ridge(alpha=_RIDGE_PENALTY * 60).fit(data.x.numpy(), data.y.numpy())
    np.testing.assert_allclose(network.weight.detach()[0], ridge.coef_, atol=1e-7)
    assert network.bias.item() == pytest.approx(ridge.intercept_, abs=1e-7)


@pytest.mark.parametrize("batch_size", [0, 16, 1])
def test_batch_mini_batch_and_stochastic_descent_agree(batch_size: int) -> None:
    """All batch sizes reach the same optimum."""
    data, network = _examples(60, seed=1), nn.Linear(3, 1).double()
    plan = _plan(
        optimizer="SGD", learning_rate=0.03, epochs=300, batch_size=batch_size, schedule="cosine"
    )

    fit(network, _MSE, data, None, plan)

    np.testing.assert_allclose(network.weight.detach()[0], [1, -2, 0.5], atol=0.15)


def test_the_weights_of_the_best_epoch_are_restored() -> None:
    """After early stopping, the network has the lowest validation loss."""
    network = nn.Sequential(nn.Linear(3, 64), nn.ReLU(), nn.Linear(64, 1)).double()
    watched = _examples(20, seed=2)
    plan = _plan(optimizer="Adam", learning_rate=0.05, epochs=200, patience=5)

    history = fit(network, _MSE, _examples(10, seed=1), watched, plan)

    loss = _MSE(network(watched.x), watched.y).mean().item()
    assert loss == pytest.approx(min(history.validation))
    assert history.validation.index(min(history.validation)) == history.best_epoch
    assert len(history.validation) == history.best_epoch + 1 + plan.patience


def test_a_diverging_fit_is_reported() -> None:
    """A loss that is not finite ends the fit with a message."""
    plan = _plan(optimizer="SGD", learning_rate=1e6, epochs=500, patience=500)

    with pytest.raises(FitError, match=r"training\.learning_rate below 1e\+06"):
        fit(nn.Linear(3, 1).double(), _MSE, _examples(60, seed=1), None, plan)


@pytest.mark.parametrize(("rows", "batch_size"), [(4, 1), (3, 2), (1, 0)])
def test_a_batch_of_one_row_cannot_be_normalized(rows: int, batch_size: int) -> None:
    """Batch normalization of a single row is rejected before the fit, with what to change."""
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)).double()

    with pytest.raises(FitError, match=r"at least two examples.*training\.batch_size"):
        fit(network, _MSE, _examples(rows, seed=1), None, _plan(batch_size=batch_size))


def test_a_loss_of_zero_ends_the_fit() -> None:
    """It cannot improve, so no further epoch runs."""
    state = FitState()

    state.record(0.5, 0.25, nn.Linear(1, 1))
    assert not state.should_stop(patience=10)

    state.record(0.1, 0.0, nn.Linear(1, 1))
    assert state.should_stop(patience=10)


def test_a_change_by_rounding_is_no_improvement() -> None:
    """The epoch before it stays the best, so the fit stops after `patience` such epochs."""
    state, network = FitState(), nn.Linear(1, 1)

    for loss in (1.0, 1.0 - 1e-12, 1.0 - 2e-12):
        state.record(loss, loss, network, validated=False)

    assert state.history.best_epoch == 0
    assert state.history.validation == []
    assert state.should_stop(patience=2)


def test_rows_are_weighted() -> None:
    """A row with weight two counts like two rows."""
    once = _examples(30, seed=1)
    first_twice = torch.cat([torch.arange(30), torch.tensor([0])])
    doubled = TrainingSet(once.x[first_twice], once.y[first_twice], torch.ones(31).double())
    weight = once.weight.clone()
    weight[0] = 2
    start = nn.Linear(3, 1).double()
    by_weight, by_rows = copy.deepcopy(start), copy.deepcopy(start)

    fit(by_weight, _MSE, TrainingSet(once.x, once.y, weight), None, _plan())
    fit(by_rows, _MSE, doubled, None, _plan())

    np.testing.assert_allclose(by_weight.weight.detach(), by_rows.weight.detach(), atol=1e-6)
