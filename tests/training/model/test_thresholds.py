"""The threshold of the unsure flag separates wrong predictions."""

import numpy as np
import pytest

from training.evaluation.metrics import measure_low_confidence
from training.model.thresholds import choose_low_confidence


def predictions(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated confidences, most of them high, and which predictions are correct."""
    generator = np.random.default_rng(seed)
    confidence = 1 - 0.5 * generator.beta(0.1, 3, rows)
    return confidence, generator.random(rows) < confidence


def test_unsure_predictions_are_ten_times_as_often_wrong_on_other_rows() -> None:
    """The threshold is chosen on one sample and measured on another."""
    threshold = choose_low_confidence(*predictions(5000, seed=1), min_ratio=10)

    assert threshold is not None
    found = measure_low_confidence(*predictions(50_000, seed=2), threshold)
    assert found["wrong[unsure]"] >= 10 * found["wrong[others]"]
    assert found["unsure_share"] <= 0.2


def test_the_threshold_maximizes_youdens_index() -> None:
    """No other threshold has a higher index."""
    confidence, right = predictions(400, seed=3)

    chosen = choose_low_confidence(confidence, right)

    def index(threshold: float) -> float:
        unsure = confidence < threshold
        return float(unsure[~right].mean() - unsure[right].mean())

    assert chosen is not None
    allowed = [t for t in confidence if 0 < (confidence < t).mean() <= 0.2]
    assert index(chosen) == pytest.approx(max(map(index, allowed)))


@pytest.mark.parametrize(
    ("confidence", "right"),
    [
        ([0.6, 0.7, 0.8, 0.9] * 50, [True] * 200),
        ([0.9] * 200, [False, True] * 100),
        ([0.6, 0.9] * 100, [False, False, True, True] * 50),
    ],
    ids=["nothing wrong", "one confidence", "confidence is irrelevant"],
)
def test_there_is_no_threshold_if_none_is_useful(
    confidence: list[float], right: list[bool]
) -> None:
    """There is none if few predictions are wrong or the confidence does not separate them."""
    assert choose_low_confidence(np.array(confidence), np.array(right)) is None


def test_a_prediction_at_the_threshold_is_not_unsure() -> None:
    """Only probabilities below the threshold are unsure."""
    found = measure_low_confidence(np.array([0.4, 0.5, 0.6]), np.array([False, True, True]), 0.5)

    assert found["unsure_share"] == pytest.approx(1 / 3)
    assert found["wrong[unsure]"] == 1
    assert found["wrong[others]"] == 0
