"""Every optimizer, loss, activation, scaler and schedule on real tables."""

from typing import get_args

import numpy as np
import pytest

from tests.recipes import read_recipe
from training.data.rows import load_rows
from training.data.sources import Folders, load
from training.data.table import encode
from training.evaluation.metrics import measure
from training.learn import fit_model
from training.recipe.table import Activation, Loss, Optimizer, ScalerKind, Schedule

_RATES = {
    "SGD": 0.1,
    "RMSprop": 0.01,
    "Adagrad": 0.1,
    "Adadelta": 1.0,
    "Adam": 0.01,
    "AdamW": 0.01,
    "Adamax": 0.02,
    "NAdam": 0.01,
    "Adafactor": 0.05,
    "LBFGS": 1.0,
}
_MLP = (
    "network.family=mlp",
    "network.hidden_layer_sizes=[16]",
    "training.optimizer=Adam",
    "training.learning_rate=0.02",
    "training.epochs=30",
    "training.batch_size=16",
    "training.precision=32",
    "split.folds=0",
)


def _measured(recipe_name: str, overrides: list[str], folders: Folders) -> dict[str, float]:
    """The metrics on the test set of a recipe's fit, without exporting it."""
    recipe = read_recipe(recipe_name, overrides)
    loaded = load_rows(recipe, folders)
    parts = loaded.parts
    data = encode(loaded.table, recipe, parts.training)
    fitted = fit_model(recipe, data, parts.training, parts.validation)
    predictions = fitted.predictor.predict(data.features[parts.test])
    return measure(recipe, data.target[parts.test], predictions, fitted.threshold)


@pytest.mark.parametrize("optimizer", [*_RATES])
def test_every_optimizer_learns_iris(optimizer: str, folders: Folders) -> None:
    """Each optimizer of torch reaches an accuracy of 0.9; scikit-learn has no hidden layers."""
    assert set(get_args(Optimizer)) == {*_RATES, "scikit-learn"}
    rate = f"training.learning_rate={_RATES[optimizer]}"
    size = "training.batch_size=" + ("0" if optimizer == "LBFGS" else "16")
    changes = [*_MLP, f"training.optimizer={optimizer}", rate, size]

    assert _measured("iris", changes, folders)["accuracy"] >= 0.9


@pytest.mark.parametrize("schedule", get_args(Schedule))
def test_every_schedule_learns_iris(schedule: str, folders: Folders) -> None:
    """Each learning rate schedule reaches an accuracy of 0.9."""
    assert _measured("iris", [*_MLP, f"training.schedule={schedule}"], folders)["accuracy"] >= 0.9


@pytest.mark.parametrize("activation", get_args(Activation))
def test_every_activation_learns_iris(activation: str, folders: Folders) -> None:
    """With dropout and batch normalization, each reaches an accuracy of 0.9."""
    regularized = ["network.dropout=0.1", "network.batch_norm=true", "training.l1=1e-5"]
    changes = [*_MLP, *regularized, f"network.activation={activation}"]

    assert _measured("iris", changes, folders)["accuracy"] >= 0.9


@pytest.mark.parametrize("scaler", get_args(ScalerKind))
def test_every_scaler_learns_iris(scaler: str, folders: Folders) -> None:
    """The logistic regression has the same accuracy with each scaler."""
    changes = [f"preprocessing.scaler={scaler}", "training.l2=0", "split.folds=0"]

    assert _measured("iris", changes, folders)["accuracy"] >= 0.9


@pytest.mark.parametrize("loss", get_args(Loss))
def test_every_loss_fits_its_task(loss: str, folders: Folders) -> None:
    """Losses for numbers fit house values, losses for classes separate two species."""
    if loss in ("mse", "mae", "huber"):
        found = _measured("california_linear", [f"training.loss={loss}"], folders)
        assert found["r2"] > 0.55
    else:
        family = "perceptron" if loss == "perceptron" else "logistic"
        changes = [f"training.loss={loss}", f"network.family={family}", "training.epochs=20"]
        assert _measured("iris_perceptron", changes, folders)["accuracy"] == 1


@pytest.mark.parametrize("embedding", ["none", "piecewise-linear", "periodic"])
def test_every_embedding_learns_iris(embedding: str, folders: Folders) -> None:
    """Each embedding of numbers reaches an accuracy of 0.9."""
    changes = [*_MLP, f"network.embedding={embedding}", "network.bins=8"]

    assert _measured("iris", changes, folders)["accuracy"] >= 0.9


@pytest.mark.parametrize(("weights", "expected"), [("none", 0.1), ("balanced", 0.5)])
def test_balanced_class_weights_shift_probabilities(
    weights: str, expected: float, folders: Folders
) -> None:
    """With an irrelevant column, a label of one row in ten gets 0.5 instead of 0.1."""
    cells = ", ".join(f"[{k % 2}, {int(k < 2)}]" for k in range(20))
    recipe = read_recipe(
        "xor",
        [
            f"data={{columns=['a', 'differ'], rows=[{cells}]}}",
            "features=[{name='a', type='number'}]",
            "network={family='logistic'}",
            "training.l2=0",
            f"training.class_weight={weights}",
        ],
    )
    everything = np.arange(20)
    data = encode(load(recipe.data, folders), recipe, everything)

    fitted = fit_model(recipe, data, everything, everything[:0])

    np.testing.assert_allclose(fitted.predictor.predict(data.features), expected, atol=1e-3)
