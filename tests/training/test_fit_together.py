"""Networks trained together, compared with `training.fit` and with themselves trained alone."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.recipes import read_recipe
from training.errors import FitError
from training.fit import TrainingSet, fit
from training.fit_together import fit_together
from training.model.losses import select_loss
from training.model.network_drafts import NetworkPlan, draw_networks, find_common_keys
from training.model.networks import build

_NUMBERS = 3
_LABELS = 3
_CROSS_ENTROPY = select_loss(read_recipe("iris"))


def _examples(rows: int, seed: int) -> TrainingSet:
    """Three numbers and a label of three."""
    x = torch.from_numpy(np.random.default_rng(seed).normal(size=(rows, _NUMBERS))).float()
    y = (x[:, 0] > 0).float() + (x[:, 1] * x[:, 2] > 0).float()
    return TrainingSet(x, y, torch.ones(rows))


def _draw(*, dropout: float | None = None, **training: object) -> list[NetworkPlan]:
    """Six plans with these keys of the training section, and dropout if it is given."""
    return [
        replace(
            plan,
            network=plan.network.model_copy(update={} if dropout is None else {"dropout": dropout}),
            training=plan.training.model_copy(update=training),
        )
        for plan in draw_networks(6, 90, _NUMBERS, _LABELS, seed=1)
    ]


def _fit(plans: list[NetworkPlan], seeds: list[int], **data: Any) -> list[nn.Module]:  # noqa: ANN401 - of either set
    sets = {"training": [_examples(90, seed=1)], "validation": []} | data
    (networks,) = fit_together(
        plans,
        sets["training"],
        sets["validation"],
        _NUMBERS,
        _LABELS,
        _CROSS_ENTROPY,
        seeds,
    )
    return networks


def _score(network: nn.Module) -> np.ndarray[Any, Any]:
    with torch.no_grad():
        return np.asarray(network.eval()(_examples(20, seed=2).x).numpy())


def test_on_full_batches_each_network_is_that_of_the_training_loop() -> None:
    """Embeddings, depths, widths, rates and weight decay are those of each plan."""
    plans = _draw(dropout=0.0, batch_size=0, epochs=20)
    depths = {len(plan.network.hidden_layer_sizes) for plan in plans}
    embeddings = {plan.network.embedding for plan in plans}
    assert len(depths) > 1
    assert embeddings == {"none", "piecewise-linear", "periodic"}

    together = _fit(plans, [*range(6)])

    for seed, plan in enumerate(plans):
        torch.manual_seed(seed)
        alone = build(plan.network, _examples(90, seed=1).x, _NUMBERS, _LABELS)
        fit(alone, _CROSS_ENTROPY, _examples(90, seed=1), None, plan.training)
        np.testing.assert_allclose(_score(together[seed]), _score(alone), atol=1e-4)


def test_a_network_does_not_depend_on_the_others() -> None:
    """With dropout and mini-batches, a network trained alone is the same to rounding."""
    plans = _draw(dropout=0.3, batch_size=32, epochs=5)

    together = _fit(plans, [*range(6)])

    for seed in (0, 2, 5):
        (alone,) = _fit([plans[seed]], [seed])
        np.testing.assert_allclose(_score(alone), _score(together[seed]), atol=1e-4)


def test_training_sets_do_not_depend_on_each_other() -> None:
    """Each network is that of its set alone, to rounding, though sets have different lengths."""
    plans = _draw(dropout=0.3, batch_size=32, epochs=5)
    sets = [_examples(90, seed=1), _examples(91, seed=4), _examples(89, seed=5)]
    seeds = [*range(6)]

    together = fit_together(plans, sets, [], _NUMBERS, _LABELS, _CROSS_ENTROPY, seeds)

    for one, networks in zip(sets, together, strict=True):
        alone = _fit(plans, seeds, training=[one])
        for network, other in zip(networks, alone, strict=True):
            np.testing.assert_allclose(_score(network), _score(other), atol=1e-4)


def test_the_same_seeds_give_the_same_networks() -> None:
    """All random numbers are those of the seeds; others give other networks."""
    plans = _draw(epochs=2)

    first, second, other = (_fit(plans, seeds) for seeds in ([1] * 6, [1] * 6, [2] * 6))

    np.testing.assert_array_equal(_score(first[3]), _score(second[3]))
    assert not np.allclose(_score(first[3]), _score(other[3]))


def test_each_network_has_the_weights_of_its_best_epoch() -> None:
    """On the validation set, its loss is at most that after any number of epochs."""
    validation = _examples(60, seed=3)

    def measure(networks: list[nn.Module]) -> np.ndarray[Any, Any]:
        with torch.no_grad():
            losses = [
                _CROSS_ENTROPY(one.eval()(validation.x), validation.y).mean() for one in networks
            ]
        return np.array(losses)

    plans = _draw(epochs=12, schedule="constant", learning_rate=0.02, patience=12)
    stopped = measure(_fit(plans, [*range(6)], validation=[validation]))

    shorter = [
        _draw(epochs=epochs, schedule="constant", learning_rate=0.02) for epochs in (1, 6, 12)
    ]
    every = np.array([measure(_fit(few, [*range(6)])) for few in shorter])
    assert (stopped <= every.min(axis=0) + 1e-6).all()
    assert (stopped < every[-1] - 1e-3).any()


def test_a_loss_that_is_not_finite_is_reported() -> None:
    """The message names the learning rate of the network."""
    data = _examples(90, seed=1)
    infinite = TrainingSet(data.x * torch.inf, data.y, data.weight)

    with pytest.raises(FitError, match="learning_rate below"):
        _fit(_draw(epochs=2), [*range(6)], training=[infinite])


def test_draws_are_the_same_for_a_seed_and_share_batches() -> None:
    """Without numbers, no network has an embedding; fits to labels have three durations."""
    plans = draw_networks(8, 500, 0, 2, seed=4)

    assert plans == draw_networks(8, 500, 0, 2, seed=4)
    assert plans != draw_networks(8, 500, 0, 2, seed=5)
    assert {plan.network.embedding for plan in plans} == {"none"}
    assert len({one.training.batch_size for one in plans}) == 1
    assert len({find_common_keys(one) for one in plans}) == 3
    assert len({find_common_keys(one) for one in draw_networks(8, 500, 2, 0, seed=4)}) == 1
    assert len({plan.training.learning_rate for plan in plans}) > 1
