"""Networks: embeddings compared with their formulas, and output shapes."""

import numpy as np
import pytest
import torch

from training.model.networks import Maxout, Periodic, PiecewiseLinear, build
from training.recipe.table import Network


def test_piecewise_linear_encoding() -> None:
    """With bins at 0, 1, 2, 4 the number 3 has passed two bins and half of the third."""
    embedding = PiecewiseLinear(torch.tensor([[0.0], [1.0], [2.0], [4.0]]), bins=3)
    expected = np.array([[1, 1, 0.5], [0, 0, 0], [1, 1, 1]])

    (views,) = embedding(torch.tensor([[3.0], [-1.0], [9.0]]))

    np.testing.assert_allclose(views.numpy(), expected)


def test_bins_between_equal_quantiles_are_steps() -> None:
    """A column with few distinct values has a finite encoding."""
    (views,) = PiecewiseLinear(torch.tensor([[0.0]] * 9 + [[1.0]]), bins=4)(torch.tensor([[0.5]]))

    assert torch.isfinite(views).all()


def test_maxout_is_the_maximum_of_two_linear_layers() -> None:
    """Each unit returns the larger output of its two linear functions."""
    layer = Maxout(3, 2)
    x = torch.randn(5, 3)

    assert torch.equal(layer(x), torch.maximum(layer.first(x), layer.second(x)))


@pytest.mark.parametrize("embedding", ["none", "piecewise-linear", "periodic"])
@pytest.mark.parametrize("outputs", [1, 3])
def test_an_mlp_scores_every_row(embedding: str, outputs: int) -> None:
    """With each embedding, there is one row of scores per row of columns."""
    plan = Network.model_validate(
        {"family": "mlp", "hidden_layer_sizes": [5, 4], "embedding": embedding, "batch_norm": True}
    )
    training = torch.randn(20, 3)

    network = build(plan, training, numbers=2, outputs=outputs)

    assert network(training).shape == (20, outputs)


def test_frequencies_of_a_periodic_embedding_have_the_deviation_of_the_recipe() -> None:
    """Columns of standard deviation one have waves that long, or that short."""
    plan = Network.model_validate(
        {
            "family": "mlp",
            "hidden_layer_sizes": [2],
            "embedding": "periodic",
            "bins": 1000,
            "frequency_deviation": 3.0,
        }
    )

    network = build(plan, torch.randn(20, 4), numbers=4, outputs=1)

    (embedding,) = (part for part in network.modules() if isinstance(part, Periodic))
    assert embedding.frequency.std().item() == pytest.approx(3.0, rel=0.1)


def test_convex_families_start_from_zero() -> None:
    """A linear network has scores of zero before it is fitted."""
    network = build(Network(family="linear"), torch.randn(4, 3), numbers=3, outputs=1)

    assert torch.equal(network(torch.randn(4, 3)), torch.zeros(4, 1))
