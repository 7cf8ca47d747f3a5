"""Small models of other libraries, fitted on real data, as the page `Serve your model` expects."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

SPECIES = ("setosa", "versicolor", "virginica")
IRIS = ("sepal_length", "sepal_width", "petal_length", "petal_width")


@dataclass
class Fitted:
    """A fitted model with its table, and its own predictions for other rows."""

    model: Any
    X: Any
    """A table of pandas; None for images."""
    y: Any
    predict: Callable[[Any], Any]
    """Maps a table to probabilities ``[rows, classes]`` or to values ``[rows]``."""
    labels: Sequence[str] = ()
    """In the order of the probabilities; empty for values."""


def fit_pipeline() -> Fitted:
    """A scikit-learn pipeline with numbers, gaps and words."""
    pandas = pytest.importorskip("pandas")
    random = np.random.default_rng(0)
    rows = 400
    table = pandas.DataFrame(
        {
            "age": random.normal(40, 12, rows).round(1),
            "plan": random.choice(["basic", "plus", "pro"], rows),
            "visits": random.integers(0, 50, rows),
        }
    )
    older = (table.age > 40) ^ (table.plan == "pro")
    table.loc[random.random(rows) < 0.1, "age"] = np.nan
    target = np.where(older ^ (random.random(rows) < 0.1), "yes", "no")
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    words = OneHotEncoder(handle_unknown="ignore")
    columns = ColumnTransformer(
        [("numbers", numbers, ["age", "visits"]), ("words", words, ["plan"])]
    )
    model = make_pipeline(columns, LogisticRegression()).fit(table, target)
    return Fitted(model, table, target, model.predict_proba, ("no", "yes"))


def fit_xgboost() -> Fitted:
    """A classifier of XGBoost, fitted on a table with named columns."""
    xgboost = pytest.importorskip("xgboost")
    pytest.importorskip("onnxmltools")
    data = load_breast_cancer(as_frame=True)
    table = data.data.iloc[:, :4].set_axis(["radius", "texture", "perimeter", "area"], axis=1)
    model = xgboost.XGBClassifier(n_estimators=30, max_depth=3, n_jobs=1).fit(table, data.target)
    labels = ("malignant", "benign")
    return Fitted(
        model, table, np.array(labels)[data.target], _on_arrays(model.predict_proba), labels
    )


def fit_lightgbm() -> Fitted:
    """A classifier of LightGBM with names of classes."""
    lightgbm = pytest.importorskip("lightgbm")
    pytest.importorskip("onnxmltools")
    table, target = _iris()
    model = lightgbm.LGBMClassifier(n_estimators=20, n_jobs=1, verbose=-1).fit(table, target)
    return Fitted(model, table, target, model.predict_proba, SPECIES)


def fit_catboost() -> Fitted:
    """A regressor of CatBoost."""
    catboost = pytest.importorskip("catboost")
    data = load_diabetes(as_frame=True)
    table = data.data[["age", "bmi", "bp"]].set_axis(["age", "bmi", "pressure"], axis=1)
    model = catboost.CatBoostRegressor(
        iterations=40, depth=3, verbose=False, thread_count=1, allow_writing_files=False
    ).fit(table, data.target)
    return Fitted(model, table, data.target.to_numpy(), model.predict)


def fit_torch() -> Fitted:
    """A network of PyTorch that returns logits."""
    torch = import_module("torch")
    table, target = _iris()
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    x = torch.tensor(table.to_numpy(), dtype=torch.float32)
    classes = torch.tensor([SPECIES.index(name) for name in target])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(80):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), classes).backward()
        optimizer.step()

    def predict(rows: Any) -> Any:  # noqa: ANN401 - a table of pandas
        with torch.no_grad():
            return model(torch.tensor(rows.to_numpy(), dtype=torch.float32)).softmax(1).numpy()

    return Fitted(model, table, target, predict, SPECIES)


def fit_keras() -> Fitted:
    """A dense network of Keras."""
    keras = import_keras()
    table, target = _iris()
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(8, activation="relu"),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    classes = np.array([SPECIES.index(name) for name in target])
    model.fit(table.to_numpy("float32"), classes, epochs=2, verbose=0)
    return Fitted(
        model,
        table,
        target,
        lambda rows: model.predict(rows.to_numpy("float32"), verbose=0),
        SPECIES,
    )


def fit_keras_images() -> Fitted:
    """A convolutional network of Keras that rescales its images itself."""
    keras = import_keras()
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    model.predict(np.zeros((1, 28, 28, 1)), verbose=0)
    return Fitted(
        model,
        None,
        None,
        lambda images: model.predict(images, verbose=0),
        ("horizontal", "vertical"),
    )


def fit_mlflow() -> Fitted:
    """The pipeline, to be saved by MLflow."""
    pytest.importorskip("mlflow")
    return fit_pipeline()


def import_keras() -> Any:  # noqa: ANN401 - keras ships no types
    """Import Keras, which must run on PyTorch here; skip the test otherwise."""
    keras = pytest.importorskip("keras")
    if keras.backend.backend() != "torch":
        pytest.skip("Keras runs on another backend; set KERAS_BACKEND=torch")
    return keras


def _iris() -> tuple[Any, Any]:
    data = load_iris(as_frame=True)
    return data.data.set_axis(list(IRIS), axis=1), np.array(SPECIES)[data.target]


def _on_arrays(predict: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Predict for a table without its names: the export removes those of the model."""
    return lambda rows: predict(rows.to_numpy())
