"""The threshold of the unsure flag, and the temperature of the probabilities."""

import numpy as np
import pytest
import torch

from training.evaluation.metrics import measure_low_confidence
from training.model.thresholds import choose_low_confidence, choose_temperature, is_at_bound


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


def scored_rows(rows: int, labels: int, factor: float) -> tuple[torch.Tensor, np.ndarray]:
    """Scores that are ``factor`` times the logits from which the labels were drawn."""
    generator = np.random.default_rng(4)
    logits = generator.normal(size=(rows, labels)) * 2
    target = (logits + generator.gumbel(size=logits.shape)).argmax(axis=1)
    scores = logits if labels > 2 else logits[:, 1:] - logits[:, :1]
    return torch.from_numpy(scores * factor), target


@pytest.mark.parametrize("labels", [2, 5])
@pytest.mark.parametrize("factor", [0.25, 3.0])
def test_the_temperature_restores_the_logits_of_many_rows(labels: int, factor: float) -> None:
    """It is the factor of the scores, above and below 1."""
    assert choose_temperature(*scored_rows(20_000, labels, factor)) == pytest.approx(
        factor, rel=0.05
    )


def test_few_rows_make_no_probability_more_extreme() -> None:
    """With 99 rows the temperature is at least 1; a hundred may sharpen, and few may soften."""
    assert choose_temperature(*scored_rows(99, 3, 0.25)) == 1
    assert choose_temperature(*scored_rows(100, 3, 0.25)) < 1
    assert choose_temperature(*scored_rows(99, 3, 4.0)) > 2


@pytest.mark.parametrize("outputs", [1, 3])
def test_rows_without_a_wrong_prediction_make_no_probability_more_extreme(outputs: int) -> None:
    """Their cross-entropy has no minimum; one wrong row among them gives it one."""
    target = np.arange(300) % max(outputs, 2)
    scores = torch.from_numpy(np.eye(3)[target] if outputs > 1 else target[:, None] - 0.5)
    one_wrong = target.copy()
    one_wrong[0] = 1

    assert choose_temperature(scores, target) == 1
    assert 0.06 < choose_temperature(scores, one_wrong) < 1


def test_a_temperature_at_the_bound_of_the_search_is_recognized() -> None:
    """Scores that contradict their labels have no best temperature."""
    scores, target = scored_rows(500, 2, 1.0)

    assert is_at_bound(choose_temperature(scores, 1 - target))
    assert not is_at_bound(choose_temperature(scores, target))
