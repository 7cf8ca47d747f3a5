"""Measure the training of the same rows by this project, scikit-learn and Keras 3.

All of them get the same prepared training rows, and only the fit is measured. They run alternately,
several times, so that other load affects all equally. Run it by ``python -m bench.training_speed``.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
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
from training.data.rows import load_rows
from training.data.sources import Folders
from training.data.table import Dataset, Rows, encode
from training.learn import fit_model
from training.model.preprocessing import fit_preprocessing
from training.recipe.table import Recipe

# Keras reads its backend when it is imported; PyTorch is the one that this project uses.
os.environ["KERAS_BACKEND"] = "torch"
os.environ["KERAS_HOME"] = os.devnull

import keras

Matrix = npt.NDArray[np.float32]
# By the name of a library, a function that fits a model and returns its error.
Fits = Mapping[str, Callable[[], float]]
_CACHE = Path.home() / ".cache" / "onward"


@dataclass(frozen=True)
class Task:
    """A recipe with its rows, encoded and prepared."""

    recipe: Recipe
    data: Dataset
    training: Rows
    test: Rows
    prepared: Matrix


def main() -> int:
    """Measure both tasks, and write the table into ``RESULTS.md``."""
    folders = Folders(
        Path(os.environ["ONWARD_DATA"]) if "ONWARD_DATA" in os.environ else None, _CACHE
    )
    torch.set_num_threads(os.cpu_count() or 1)
    admission = _task(read_recipe("admission"), folders)
    shipped = _task(read_recipe("california_mlp"), folders)
    simple = ["network.embedding=none", "network.members=1", "network.dropout=0"]
    california = _task(read_recipe("california_mlp", simple), folders)
    lines = [
        f"Made by `python -m bench.training_speed` on {os.cpu_count()} cores.",
        "The simple network is that of the recipe without embedding, dropout and second member;",
        "the shipped one takes longer because its two networks get each number in 64 bins,",
        "which reduces the error.",
        "On admission scikit-learn finds the same optimum faster: its L-BFGS is compiled, while",
        "each of our steps uses PyTorch's autograd; both take a few milliseconds.",
        "",
    ]
    lines += ["| task | by | seconds | relative to ours | error |", "|---|---|---|---|---|"]
    lines += _rows("admission", "log loss", 5, _admission(admission))
    lines += _rows("california_mlp", "test RMSE", 2, _california(california))
    ours = {"ours, the shipped recipe": lambda: _ours(shipped)}
    lines += _rows("california_mlp", "test RMSE", 1, ours)
    sys.stdout.write(replace_section("Training", lines))
    return 0


def _task(recipe: Recipe, folders: Folders) -> Task:
    loaded = load_rows(recipe, folders)
    parts = loaded.parts
    data = encode(loaded.table, recipe, parts.training)
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
    target = task.data.target[task.test]
    if task.recipe.task == "regression":
        return float(root_mean_squared_error(target, predictions))
    return float(log_loss(target, np.clip(predictions.astype(np.float64), 1e-9, 1 - 1e-9)))


def _admission(task: Task) -> Fits:
    x, y = task.prepared[task.training], task.data.target[task.training]

    def sklearn() -> float:
        model = LogisticRegression(C=np.inf, tol=1e-8, max_iter=10_000).fit(x, y)
        return _figure(task, model.predict_proba(x)[:, 1])

    def keras_network() -> float:
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.layers.Dense(1, activation="sigmoid")])
        model.compile(optimizer=keras.optimizers.Adam(0.1), loss="binary_crossentropy")
        model.fit(x, y, epochs=100, batch_size=32, verbose=0)
        return _figure(task, model.predict(x, verbose=0)[:, 0])

    return {
        "ours, L-BFGS to the optimum": lambda: _ours(task),
        "scikit-learn, L-BFGS to the optimum": sklearn,
        "Keras, Adam, 100 epochs": keras_network,
    }


def _california(task: Task) -> Fits:
    plan = task.recipe.training
    if plan is None:
        raise TypeError("the recipe of a network has a training plan")
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

    def keras_network() -> float:
        keras.utils.set_random_seed(1)
        layers = [keras.layers.Dense(units, activation="relu") for units in hidden]
        model = keras.Sequential([*layers, keras.layers.Dense(1)])
        model.compile(optimizer="adam", loss="mse")
        model.fit(x, scaled, epochs=plan.epochs, batch_size=plan.batch_size, verbose=0)
        return _figure(
            task, model.predict(task.prepared[task.test], verbose=0)[:, 0] * scale + mean
        )

    return {
        "ours, the simple network": lambda: _ours(task),
        "scikit-learn MLPRegressor": sklearn,
        "Keras Sequential": keras_network,
    }


def _rows(task: str, figure: str, rounds: int, fits: Fits) -> list[str]:
    seconds: dict[str, list[float]] = {name: [] for name in fits}
    errors: dict[str, float] = {}
    for _ in range(rounds):
        for name, fit in fits.items():
            began = time.perf_counter()
            errors[name] = fit()
            seconds[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    ours = medians[next(iter(fits))]
    return [
        f"| {task} | {name} | {medians[name]:.3g} | {medians[name] / ours:.2g} "
        f"| {figure} {errors[name]:.5g} |"
        for name in medians
    ]


if __name__ == "__main__":
    sys.exit(main())
