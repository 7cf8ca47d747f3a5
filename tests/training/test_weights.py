"""Weights of ensembles, compared with the optimum and with rows that did not choose them."""

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from training.data.table import Float32s, Floats
from training.evaluation.losses import compute_loss
from training.weights import choose_weights, mix_out_of_fold

_GENERATOR = np.random.default_rng(0)


def _members(target: Floats, errors: list[float]) -> list[Float32s]:
    """Predictions with independent errors of these deviations."""
    return [
        (target + _GENERATOR.normal(0, error, len(target)))[:, np.newaxis].astype(np.float32)
        for error in errors
    ]


def test_weights_are_near_those_of_least_squares() -> None:
    """With many rows, for members whose errors are independent."""
    target = _GENERATOR.normal(size=5000)
    members = _members(target, [0.5, 1.0, 5.0])

    weights = choose_weights(target, members, classes=False)

    # Of weights that sum to one: the differences from the last member are fitted.
    x = np.hstack(members)
    fitted = LinearRegression(fit_intercept=False).fit(x[:, :2] - x[:, 2:], target - x[:, 2])
    np.testing.assert_allclose(weights[:2], fitted.coef_, atol=0.06)
    assert weights.sum() == pytest.approx(1)
    assert weights[2] == 0


def test_the_loss_is_that_of_rows_that_did_not_choose_the_weights() -> None:
    """Of many members that know nothing, weights of the same rows would find one by chance."""
    targets = [_GENERATOR.normal(size=15) for _ in range(4)]
    useless = [
        [_GENERATOR.normal(size=(15, 1)).astype(np.float32) for _ in targets] for _ in range(30)
    ]

    _, mixed = mix_out_of_fold(targets, useless, classes=False)

    loss = np.mean(
        [compute_loss(t, found, classes=False) for t, found in zip(targets, mixed, strict=True)]
    )
    assert loss > 0.95 * np.concatenate(targets).std()


@pytest.mark.parametrize("labels", [2, 3])
def test_the_loss_of_labels_is_their_log_loss(labels: int) -> None:
    """Also of a model that is sure of a wrong label."""
    target = np.array([0.0, 1.0, 1.0])
    shares = np.array([[0.25, 0.75], [0.5, 0.5], [1.0, 0.0]])
    predictions = shares[:, 1:] if labels == 2 else np.column_stack([shares, np.zeros(3)])

    found = compute_loss(target, predictions.astype(np.float32), classes=True)

    assert found == pytest.approx(-np.mean(np.log([0.25, 0.5, 1e-6])))
