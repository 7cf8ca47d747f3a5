"""Learning rate schedules."""

from itertools import pairwise
from typing import get_args

import pytest
import torch

from training.model.optimizers import build_optimizer, build_schedule
from training.recipe.table import OptimizerSettings, Schedule

_RATE = 0.5


def _rates(schedule: Schedule, epochs: int, batches: int) -> list[float]:
    """Return the learning rate of every step."""
    plan = OptimizerSettings(optimizer="SGD", learning_rate=_RATE, epochs=epochs, schedule=schedule)
    optimizer = build_optimizer(plan, torch.nn.Linear(1, 1))
    steps = build_schedule(plan, optimizer, batches)
    rates = []
    for _ in range(epochs * batches):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        steps.step()
    return rates


@pytest.mark.parametrize("schedule", get_args(Schedule))
def test_every_schedule_works_for_any_number_of_steps(schedule: Schedule) -> None:
    """Also for runs that are shorter than a warm-up: each step has a usable learning rate."""
    for steps in range(1, 41):
        for epochs, batches in ((steps, 1), (1, steps)):
            rates = _rates(schedule, epochs, batches)

            assert all(0 < rate <= _RATE * (1 + 1e-9) for rate in rates)
            assert max(rates) >= _RATE / 2


@pytest.mark.parametrize("steps", [4, 10, 100])
def test_one_cycle_increases_for_a_fifth_of_the_steps(steps: int) -> None:
    """After that, the learning rate decreases to almost zero; four steps have no warm-up."""
    rates = _rates("one-cycle", steps, 1)

    highest = rates.index(max(rates))
    assert abs(highest - 0.2 * steps) <= 1
    assert all(left < right for left, right in pairwise(rates[: highest + 1]))
    assert all(left > right for left, right in pairwise(rates[highest:]))
