"""Prediction intervals cover their share of new rows."""

import numpy as np
import pytest

from service.bundle.manifest import Interval
from service.predictions import interval_ends
from tests.training.shipped import trained
from training.data.sources import Folders
from training.data.table import Floats
from training.evaluation.intervals import HeldOutPredictions, fit_interval, measure_coverage


def _sample(rows: int, seed: int) -> tuple[Floats, Floats]:
    """Predictions and true values whose errors grow with the prediction."""
    generator = np.random.default_rng(seed)
    value = generator.uniform(10, 1000, rows)
    return value, value * (1 + 0.2 * generator.standard_normal(rows))


def _fitted(rows: int, seed: int = 1) -> Interval:
    interval = fit_interval(HeldOutPredictions("validation", *_sample(rows, seed)), "value")
    assert interval is not None
    return interval


def test_each_level_covers_its_share_of_new_rows() -> None:
    """Margins of one sample cover the rows of a second sample."""
    found = measure_coverage(_fitted(20_000), *_sample(50_000, seed=2))

    for level in found.levels:
        assert level.coverage == pytest.approx(level.level, abs=0.01)


def test_a_level_is_covered_for_small_and_large_predictions() -> None:
    """Each bin has its own margin."""
    interval = _fitted(20_000)
    value, target = _sample(50_000, seed=2)
    (level,) = [one for one in interval.levels if one.level == 0.9]

    low, high = interval_ends(interval, level, value)

    within = (low <= target) & (target <= high)
    assert within[value < 100].mean() == pytest.approx(0.9, abs=0.03)
    assert within[value > 900].mean() == pytest.approx(0.9, abs=0.03)


def test_the_margin_is_the_corrected_quantile() -> None:
    """Of nine errors the largest is the margin at 0.9; higher levels need more rows."""
    distances = np.arange(1.0, 10.0)

    interval = fit_interval(HeldOutPredictions("cross-validation", np.zeros(9), distances), "value")

    assert interval is not None
    assert {one.level: one.margins for one in interval.levels} == {0.5: [5], 0.8: [8], 0.9: [9]}


def test_small_samples_are_covered_on_average() -> None:
    """With twenty rows each, nine tenths of new rows are covered on average."""
    shares = []
    for seed in range(300):
        interval = _fitted(20, seed)
        (level,) = [one for one in interval.levels if one.level == 0.9]
        value, target = _sample(500, seed=1000 + seed)
        low, high = interval_ends(interval, level, value)
        shares.append(((low <= target) & (target <= high)).mean())

    assert 0.89 <= np.mean(shares) <= 0.93


def test_on_the_logarithm_the_margin_is_a_factor() -> None:
    """One plus the value is divided and multiplied by the same number."""
    value, target = _sample(5000, seed=1)
    interval = fit_interval(HeldOutPredictions("validation", value, np.maximum(target, 0)), "log1p")
    assert interval is not None

    low, high = interval_ends(interval, interval.levels[0], value)

    assert (1 + high) / (1 + value) == pytest.approx((1 + value) / (1 + low))
    assert (low < value).all()


def test_equal_predictions_share_a_bin() -> None:
    """A tree with three predictions has at most three bins, each with enough rows."""
    value = np.repeat([1.0, 2.0, 3.0], [4000, 20, 4000])
    target = value + np.random.default_rng(1).standard_normal(len(value))

    interval = fit_interval(HeldOutPredictions("validation", value, target), "value")

    assert interval is not None
    assert len(interval.edges) == 1


def test_a_linear_model_covers_its_test_set(
    folders: Folders, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Trained as shipped, by folds of the rows outside the test set."""
    outcome = trained("california_linear", folders, tmp_path_factory.getbasetemp())

    output = outcome.manifest.output

    assert output.kind == "value"
    assert output.interval is not None
    assert output.interval.source == "cross-validation"
    assert output.interval.rows == 16_512
    coverages = {one.level: one.coverage for one in output.interval.levels}
    assert coverages[0.9] == pytest.approx(0.9, abs=0.02)


def test_cross_validation_also_gives_intervals(
    folders: Folders, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Six rows in leave-one-out cross-validation support the levels 0.5 and 0.8 only."""
    output = trained("ice_cream", folders, tmp_path_factory.getbasetemp()).manifest.output

    assert output.kind == "value"
    assert output.interval is not None
    assert [one.level for one in output.interval.levels] == [0.5, 0.8]
