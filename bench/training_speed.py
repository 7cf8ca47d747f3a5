"""``python -m bench.training_speed``: fit the same rows by ours, scikit-learn and plain Keras 3.

Every contestant gets the same prepared training rows; only the fit is timed, each in its turn,
several times over, so that the machine's moods fall on all alike.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, root_mean_squared_error
from sklearn.neural_network import MLPRegressor

from bench.page import replace_section
from tests.recipes import read_recipe
from training.data.sources import Folders, load
from training.data.split import split_rows
from training.data.table import Dataset, Rows, encode, encode_target, with_target
from training.learn import fit_model
from training.model.preprocessing import fit_preprocessing
from training.recipe.table import Recipe

# Keras reads its backend when it is imported; PyTorch is the one that we use ourselves.
os.environ["KERAS_BACKEND"] = "torch"
os.environ["KERAS_HOME"] = os.devnull

import keras

Matrix = npt.NDArray[np.float32]
_CACHE = Path.home() / ".cache" / "onward"


@dataclass(frozen=True)
class Task:
    """A recipe with its rows, encoded and prepared."""

    recipe: Recipe
    data: Dataset
    training: Rows
    test: Rows
    prepared: Matrix


@dataclass(frozen=True)
class Contestant:
    """A way to fit, which gives the figure reached; and what it does."""

    name: str
    fit: Callable[[], float]


def main() -> int:
    """Measure both tasks, and write the table into ``RESULTS.md``."""
    folders = Folders(
        Path(os.environ["ONWARD_DATA"]) if "ONWARD_DATA" in os.environ else None, _CACHE
    )
    torch.set_num_threads(os.cpu_count() or 1)
    admission = _task(read_recipe("admission"), folders)
    shipped = _task(read_recipe("california_mlp"), folders)
    plain = ["network.embedding=none", "network.members=1", "network.dropout=0"]
    california = _task(read_recipe("california_mlp", plain), folders)
    lines = [
        f"Made by `python -m bench.training_speed`: fits in turn, {os.cpu_count()} cores.",
        "The plain network is the recipe's without its embedding, dropout and second member;",
        "the shipped one takes longer because its two networks see each number in 64 bins,",
        "which is what brings the error down.",
        "On admission scikit-learn is quicker to the same optimum: its L-BFGS is compiled, and",
        "each of our steps goes through PyTorch's autograd; both take a few milliseconds.",
        "",
    ]
    lines += ["| task | who | seconds | times ours | reached |", "|---|---|---|---|---|"]
    lines += _rows("admission", "log loss", 5, _admission(admission))
    lines += _rows("california_mlp", "test RMSE", 2, _california(california))
    ours = [Contestant("ours, the shipped recipe, compared with itself", lambda: _ours(shipped))]
    lines += _rows("california_mlp", "test RMSE", 1, ours)
    sys.stdout.write(replace_section("Training", lines))
    return 0


def _task(recipe: Recipe, folders: Folders) -> Task:
    table = with_target(load(recipe.data, folders), recipe.target)
    classes = recipe.task != "regression"
    parts = split_rows(
        encode_target(table, recipe.target), recipe.split, recipe.seed, classes=classes
    )
    data = encode(table, recipe, parts.training)
    preprocessing = fit_preprocessing(
        recipe.preprocessing, data.columns, data.features[parts.training]
    )
    prepared = preprocessing(torch.from_numpy(data.features).double()).float().numpy()
    test = parts.test if len(parts.test) else parts.training
    return Task(recipe, data, parts.training, test, prepared)


def _ours(task: Task) -> float:
    learned = fit_model(task.recipe, task.data, task.training, np.array([], np.intp))
    predictions = learned.predictor.predict(task.data.features[task.test])[:, 0]
    return _figure(task, predictions)


def _figure(task: Task, predictions: npt.NDArray[np.floating]) -> float:
    wanted = task.data.target[task.test]
    if task.recipe.task == "regression":
        return float(root_mean_squared_error(wanted, predictions))
    return float(log_loss(wanted, np.clip(predictions.astype(np.float64), 1e-9, 1 - 1e-9)))


def _admission(task: Task) -> list[Contestant]:
    x, y = task.prepared[task.training], task.data.target[task.training]

    def sklearn() -> float:
        model = LogisticRegression(C=np.inf, tol=1e-8, max_iter=10_000).fit(x, y)
        return _figure(task, model.predict_proba(x)[:, 1])

    def plain_keras() -> float:
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.layers.Dense(1, activation="sigmoid")])
        model.compile(optimizer=keras.optimizers.Adam(0.1), loss="binary_crossentropy")
        model.fit(x, y, epochs=100, batch_size=32, verbose=0)
        return _figure(task, model.predict(x, verbose=0)[:, 0])

    return [
        Contestant("ours, L-BFGS to the optimum", lambda: _ours(task)),
        Contestant("scikit-learn, L-BFGS to the optimum", sklearn),
        Contestant("Keras, Adam, 100 epochs", plain_keras),
    ]


def _california(task: Task) -> list[Contestant]:
    plan = task.recipe.training
    if plan is None:
        raise TypeError("california_mlp is a network, and a network's recipe has a plan")
    x, y = task.prepared[task.training], task.data.target[task.training]
    mean, scale = y.mean(), y.std()
    scaled = (y - mean) / scale
    hidden = task.recipe.network.hidden_layer_sizes

    def sklearn() -> float:
        model = MLPRegressor(
            hidden_layer_sizes=hidden,
            batch_size=plan.batch_size,
            max_iter=plan.epochs,
            n_iter_no_change=plan.epochs,
        )
        model.set_params(random_state=1).fit(x, scaled)
        return _figure(task, model.predict(task.prepared[task.test]) * scale + mean)

    def plain_keras() -> float:
        keras.utils.set_random_seed(1)
        layers = [keras.layers.Dense(units, activation="relu") for units in hidden]
        model = keras.Sequential([*layers, keras.layers.Dense(1)])
        model.compile(optimizer="adam", loss="mse")
        model.fit(x, scaled, epochs=plan.epochs, batch_size=plan.batch_size, verbose=0)
        return _figure(
            task, model.predict(task.prepared[task.test], verbose=0)[:, 0] * scale + mean
        )

    return [
        Contestant("ours, the same plain network", lambda: _ours(task)),
        Contestant("scikit-learn MLPRegressor", sklearn),
        Contestant("Keras Sequential", plain_keras),
    ]


def _rows(task: str, figure: str, rounds: int, contestants: Sequence[Contestant]) -> list[str]:
    seconds: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    reached: dict[str, float] = {}
    for _ in range(rounds):
        for contestant in contestants:
            started = time.perf_counter()
            reached[contestant.name] = contestant.fit()
            seconds[contestant.name].append(time.perf_counter() - started)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    ours = medians[contestants[0].name]
    return [
        f"| {task} | {name} | {medians[name]:.3g} | {medians[name] / ours:.2g} "
        f"| {figure} {reached[name]:.5g} |"
        for name in medians
    ]


if __name__ == "__main__":
    sys.exit(main())
