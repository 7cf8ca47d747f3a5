"""Metrics computed by hand, and thresholds compared with a search."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from tests.recipes import read_recipe
from training.evaluation.metrics import (
    compute_calibration_error,
    measure,
    measure_classes,
    measure_regression,
    predict_baseline,
)
from training.model.thresholds import choose_threshold


def test_regression_metrics_by_hand() -> None:
    """Errors of 1, 0 and -2 give the expected metrics."""
    found = measure_regression(np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 1.0]))

    assert found["sse"] == pytest.approx(5)
    assert found["mse"] == pytest.approx(5 / 3)
    assert found["rmse"] == pytest.approx((5 / 3) ** 0.5)
    assert found["mae"] == pytest.approx(1)
    assert found["r2"] == pytest.approx(1 - 5 / 2)


def test_binary_metrics_by_hand() -> None:
    """Two true positives of three, one false positive among three negatives."""
    target = np.array([1, 1, 1, 0, 0, 0])
    second = np.array([0.9, 0.8, 0.3, 0.7, 0.2, 0.1])
    shares = np.column_stack([1 - second, second])

    found = measure_classes(target, shares, (second >= 0.5).astype(np.intp), ["no", "yes"])

    assert found["accuracy"] == pytest.approx(4 / 6)
    assert found["recall[yes]"] == pytest.approx(2 / 3)
    assert found["specificity[yes]"] == pytest.approx(2 / 3)
    assert found["precision[yes]"] == pytest.approx(2 / 3)
    assert found["roc_auc"] == pytest.approx(8 / 9)
    assert found["brier"] == pytest.approx(np.square(second - target).mean())


def test_baseline_predictions_only_use_the_training_target() -> None:
    """The mean, or the shares of the labels, for every row."""
    name, value = predict_baseline(read_recipe("ice_cream"), np.array([1.0, 3.0]), 3)
    _, share = predict_baseline(read_recipe("admission"), np.array([0.0, 1.0, 1.0, 1.0]), 2)

    assert name == "the training mean"
    assert value.tolist() == [[2], [2], [2]]
    assert share.tolist() == [[0.75], [0.75]]


def test_the_mean_has_an_r2_of_zero() -> None:
    """R² of the mean is zero on the rows from which it was computed."""
    target = np.array([1.0, 2.0, 6.0])
    _, baseline = predict_baseline(read_recipe("ice_cream"), target, 3)

    assert measure(read_recipe("ice_cream"), target, baseline, 0.5)["r2"] == pytest.approx(0)


def test_the_f1_threshold_is_optimal() -> None:
    """No other threshold gives a higher F1."""
    generator = np.random.default_rng(1)
    target = (generator.random(200) < 0.1).astype(np.float64)
    predictions = (target[:, None] * 0.2 + generator.random((200, 1)) * 0.5).astype(np.float32)

    chosen = choose_threshold("f1", target, predictions)

    def f1(threshold: float) -> float:
        return float(f1_score(target, predictions[:, 0] >= np.float32(threshold)))

    assert f1(chosen) == max(f1(float(threshold)) for threshold in predictions[:, 0])


def test_fixed_thresholds() -> None:
    """A number is used as it is; with a single class the threshold is one half."""
    predictions = np.array([[0.2], [0.4]], dtype=np.float32)

    assert choose_threshold(0.3, np.array([0.0, 1.0]), predictions) == 0.3
    assert choose_threshold("half", np.array([0.0, 1.0]), predictions) == 0.5
    assert choose_threshold("youden", np.array([0.0, 1.0]), predictions) == pytest.approx(0.4)
    assert choose_threshold("f1", np.array([0.0, 0.0]), predictions) == 0.5


def test_calibrated_confidence_has_no_calibration_error() -> None:
    """Correct in 80 of 100 cases at a confidence of 0.8 is calibrated; at 0.95 it is not."""
    right = np.array([True] * 80 + [False] * 20)

    assert compute_calibration_error(np.full(100, 0.8), right) == pytest.approx(0)
    assert compute_calibration_error(np.full(100, 0.95), right) == pytest.approx(0.15)
