"""Estimators of other libraries, each with its ONNX file and what the library predicts."""

import io
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pandas as pd
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.svm import LinearSVC

ROWS = 1000
"""Rows to fit, to verify the import with, and to compare with."""
NUMBERS = ("x0", "x1", "x2", "x3")
PLANTS = ("virginica", "setosa", "versicolor")
_WORDS = ("north", "south", " east", "None")

Array = npt.NDArray[Any]
Predict = Callable[[Any], Any]


@dataclass(frozen=True)
class Estimator:
    """A fitted estimator, exported, with rows that it was not fitted on."""

    name: str
    library: str
    model: onnx.ModelProto
    rows: Any
    """The table to verify with and to compare on, of pandas; images ``[rows, h, w, channels]``."""
    arguments: Sequence[str]
    """Of ``onward import``, in addition to ``--csv``."""
    labels: Sequence[str]
    """Names of the classes in the order of the probabilities; none for values."""
    predict: Predict
    """Probabilities ``[rows, classes]``, or values ``[rows]``; None where a model has no scores."""
    predict_labels: Predict
    """Labels ``[rows]``; None for values."""


def make_rows(seed: int, *, gaps: bool = False, words: bool = False) -> pd.DataFrame:
    """Make rows of numbers, and of words and whole numbers."""
    random = np.random.default_rng(seed)
    numbers = random.normal(0, 2, (ROWS, len(NUMBERS))).round(3)
    if gaps:
        numbers[random.random(numbers.shape) < 0.1] = np.nan  # noqa: PLR2004 - some gaps
    table = pd.DataFrame(numbers, columns=list(NUMBERS))
    if words:
        table["region"] = random.choice(_WORDS, ROWS)
        table["visits"] = random.integers(0, 100, ROWS)
    return table


def make_target(table: pd.DataFrame, seed: int) -> Array:
    """Return the numbers that the targets are made of."""
    noise = np.random.default_rng(seed).normal(0, 0.5, len(table))
    numbers = table[list(NUMBERS)].fillna(0)
    target = numbers.x0 * numbers.x1 + numbers.x2 - 0.5 * numbers.x3 + noise
    if "region" in table:
        target += 2.0 * (table.region == " east") + 0.02 * table.visits
    return np.asarray(target)


class Task:
    """Rows to fit and rows to compare, with the target of one kind."""

    def __init__(self, kind: str, *, gaps: bool = False, words: bool = False) -> None:
        self.kind = kind
        self.fitting = make_rows(1, gaps=gaps, words=words)
        self.rows = make_rows(2, gaps=gaps, words=words)
        self.labels: Sequence[str] = {"binary": ("no", "yes"), "multiclass": PLANTS}.get(kind, ())
        self.numbers = make_target(self.fitting, 3)
        cuts = {"binary": [0.0], "multiclass": [-1.5, 1.5]}.get(kind, [])
        self.positions = np.searchsorted(cuts, self.numbers)
        self.target = np.array(self.labels)[self.positions] if self.labels else self.numbers
        self.optional = ["--optional", ",".join(NUMBERS)] if gaps else []


def list_estimators() -> Iterator[Callable[[], Estimator]]:
    """Yield a function for each estimator, which fits and exports it."""
    yield from _list_scikit_learn()
    yield from _list_boosted()
    yield from _list_networks()


def _list_scikit_learn() -> Iterator[Callable[[], Estimator]]:
    single, double = np.float32, np.float64
    logistic, multiclass = Task("binary"), Task("multiclass")
    value = Task("value")
    for name, model, task, kind, zipmap in (
        ("LogisticRegression, ZipMap", LogisticRegression(), logistic, single, True),
        ("LogisticRegression, 64 bits", LogisticRegression(), logistic, double, False),
        ("LogisticRegression, three classes", LogisticRegression(), multiclass, single, False),
        ("RandomForestClassifier", RandomForestClassifier(61), logistic, single, False),
        ("RandomForestClassifier, 64 bits", RandomForestClassifier(61), logistic, double, True),
        ("GradientBoostingClassifier", GradientBoostingClassifier(), logistic, single, False),
        ("KNeighborsClassifier", KNeighborsClassifier(5), multiclass, single, False),
        ("GaussianNB", GaussianNB(), multiclass, single, True),
        ("CalibratedClassifierCV", CalibratedClassifierCV(LinearSVC()), logistic, single, False),
        ("Ridge", Ridge(), value, single, None),
        ("GradientBoostingRegressor", GradientBoostingRegressor(), value, single, None),
        ("GradientBoostingRegressor, 64 bits", GradientBoostingRegressor(), value, double, None),
    ):
        yield partial(_convert, name, model, task, kind, zipmap=zipmap)
    network = make_pipeline(StandardScaler(), MLPClassifier((8,), max_iter=300))
    yield lambda: _convert("StandardScaler, MLPClassifier", network, multiclass, single)
    gaps = Task("binary", gaps=True)
    boosting = HistGradientBoostingClassifier(max_iter=30)
    yield lambda: _convert("HistGradientBoostingClassifier, gaps", boosting, gaps, single)
    yield _convert_outliers
    for zipmap in (False, True):
        yield partial(_convert_pipeline, "binary", LogisticRegression(), zipmap=zipmap)
    yield lambda: _convert_pipeline("multiclass", RandomForestClassifier(41), zipmap=False)
    yield lambda: _convert_pipeline("value", RandomForestRegressor(41), zipmap=None)
    yield lambda: _convert_pipeline("binary", LogisticRegression(), zipmap=False, exact=True)


def _seeded(model: Any) -> Any:  # noqa: ANN401 - scikit-learn ships no types
    """Set the seed of a model, and of the last step of a pipeline."""
    final = model.steps[-1][1] if hasattr(model, "steps") else model
    if "random_state" in final.get_params():
        final.set_params(random_state=0)
    return model


def _convert(
    name: str,
    model: Any,  # noqa: ANN401 - as above
    task: Task,
    kind: type[np.floating],
    *,
    zipmap: bool | None = False,
) -> Estimator:
    from skl2onnx import to_onnx  # noqa: PLC0415 - only for this library

    model = _seeded(model).fit(task.fitting.to_numpy(kind), task.target)
    options = None if zipmap is None else {"zipmap": zipmap}
    converted = to_onnx(model, task.fitting.to_numpy(kind)[:1], options=options)
    return _describe(name, "scikit-learn", converted, task, model, lambda x: x.to_numpy(kind))


def _convert_outliers() -> Estimator:
    from skl2onnx import to_onnx  # noqa: PLC0415 - as above

    task = Task("value")
    model = IsolationForest(random_state=0).fit(task.fitting.to_numpy(np.float32))
    converted = to_onnx(
        model,
        task.fitting.to_numpy(np.float32)[:1],
        target_opset={"": 18, "ai.onnx.ml": 3},
    )

    def predict_labels(rows: pd.DataFrame) -> list[str]:
        found = model.predict(rows.to_numpy(np.float32))
        return ["outlier" if one < 0 else "inlier" for one in found]

    return Estimator(
        "IsolationForest, label",
        "scikit-learn",
        converted,
        task.rows,
        ["--output", "label", "--labels", "outlier,inlier"],
        ("outlier", "inlier"),
        lambda _: None,
        predict_labels,
    )


def _convert_pipeline(
    kind: str,
    final: Any,  # noqa: ANN401 - as above
    *,
    zipmap: bool | None,
    exact: bool = False,
) -> Estimator:
    """Convert a pipeline of a table with words and, unless the inputs are exact, gaps."""
    from skl2onnx import to_onnx  # noqa: PLC0415 - as above

    task = Task(kind, gaps=not exact, words=True)
    # The page advises against scalers before trees: scikit-learn scales in 64 bits, graphs in 32.
    is_forest = isinstance(final, RandomForestClassifier | RandomForestRegressor)
    numbers = [*([] if exact else [SimpleImputer()]), *([] if is_forest else [StandardScaler()])]
    model = make_pipeline(
        ColumnTransformer(
            [
                ("numbers", make_pipeline(*numbers), [*NUMBERS, "visits"]),
                ("words", OneHotEncoder(handle_unknown="ignore"), ["region"]),
                ("order", OrdinalEncoder(), ["region"]),
            ]
        ),
        _seeded(final),
    ).fit(task.fitting, task.target)
    types = {} if exact else dict.fromkeys([*NUMBERS, "visits"], "float32")
    options = None if zipmap is None else {"zipmap": zipmap}
    converted = to_onnx(model, task.fitting[:1].astype(types), options=options)
    parts = ["words", "64 bits" if exact else "gaps", *(["ZipMap"] if zipmap else [])]
    parts += ["no scaler"] if is_forest else []
    name = f"ColumnTransformer, {type(final).__name__}, {', '.join(parts)}"
    return _describe(name, "scikit-learn", converted, task, model, lambda x: x)


def _describe(  # noqa: PLR0913, PLR0917 - an estimator is described by all of these
    name: str,
    library: str,
    converted: onnx.ModelProto,
    task: Task,
    model: Any,  # noqa: ANN401 - as above
    prepare: Predict,
    arguments: Sequence[str] = (),
) -> Estimator:
    """Describe an estimator with the interface of scikit-learn."""
    labels = task.labels
    if not labels:
        return Estimator(
            name,
            library,
            converted,
            task.rows,
            [*task.optional, *arguments],
            (),
            lambda rows: np.ravel(model.predict(prepare(rows))),
            lambda _: None,
        )
    own = [str(one) for one in model.classes_]
    names = list(labels) if own[0].isdecimal() else own

    def predict_labels(rows: pd.DataFrame) -> list[str]:
        found = np.ravel(model.predict(prepare(rows)))
        return [names[own.index(str(one))] for one in found]

    return Estimator(
        name,
        library,
        converted,
        task.rows,
        [*task.optional, *arguments],
        names,
        lambda rows: model.predict_proba(prepare(rows)),
        predict_labels,
    )


def _list_boosted() -> Iterator[Callable[[], Estimator]]:
    for kind, gaps in (
        ("binary", False),
        ("multiclass", False),
        ("value", False),
        ("binary", True),
    ):
        yield partial(_convert_xgboost, kind, gaps=gaps)
        yield partial(_convert_lightgbm, kind, gaps=gaps)
    for kind in ("binary", "multiclass", "value"):
        yield partial(_convert_catboost, kind)


def _name(model: Any, kind: str, *, gaps: bool) -> str:  # noqa: ANN401 - as above
    return f"{type(model).__name__}, {kind}" + ", gaps" * gaps


def _convert_xgboost(kind: str, *, gaps: bool) -> Estimator:
    import xgboost  # noqa: PLC0415 - only for this library
    from onnxmltools import convert_xgboost  # noqa: PLC0415 - as above
    from onnxmltools.convert.common.data_types import FloatTensorType  # noqa: PLC0415 - as above

    task = Task(kind, gaps=gaps)
    settings = {"n_estimators": 40, "max_depth": 4, "n_jobs": 1}
    model = xgboost.XGBClassifier(**settings) if task.labels else xgboost.XGBRegressor(**settings)
    model.fit(task.fitting.to_numpy(), task.positions if task.labels else task.target)
    types = [("X", FloatTensorType([None, len(NUMBERS)]))]
    converted = convert_xgboost(model, initial_types=types)
    named = ["--labels", ",".join(task.labels)] if task.labels else []
    name = _name(model, kind, gaps=gaps)
    return _describe(name, "XGBoost", converted, task, model, pd.DataFrame.to_numpy, named)


def _convert_lightgbm(kind: str, *, gaps: bool) -> Estimator:
    import lightgbm  # noqa: PLC0415 - only for this library
    from onnxmltools import convert_lightgbm  # noqa: PLC0415 - as above
    from onnxmltools.convert.common.data_types import FloatTensorType  # noqa: PLC0415 - as above

    task = Task(kind, gaps=gaps)
    settings = {"n_estimators": 40, "n_jobs": 1, "verbose": -1}
    model = (
        lightgbm.LGBMClassifier(**settings) if task.labels else lightgbm.LGBMRegressor(**settings)
    )
    model.fit(task.fitting, task.target)
    types = [("X", FloatTensorType([None, len(NUMBERS)]))]
    converted = convert_lightgbm(model, initial_types=types, zipmap=False)
    return _describe(_name(model, kind, gaps=gaps), "LightGBM", converted, task, model, lambda x: x)


def _convert_catboost(kind: str) -> Estimator:
    import catboost  # noqa: PLC0415 - only for this library

    task = Task(kind)
    settings = {"iterations": 40, "depth": 4, "verbose": False, "allow_writing_files": False}
    model = (
        catboost.CatBoostClassifier(**settings)
        if task.labels
        else catboost.CatBoostRegressor(**settings)
    )
    model.fit(task.fitting, task.target)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        model.save_model(str(path), format="onnx")
        converted = onnx.load(path)
    return _describe(
        _name(model, kind, gaps=False), "CatBoost", converted, task, model, lambda x: x
    )


def _list_networks() -> Iterator[Callable[[], Estimator]]:
    yield lambda: _export_torch("logits, softmax", 3, ["--activation", "softmax"], final=False)
    yield lambda: _export_torch("logit, sigmoid", 1, ["--activation", "sigmoid"], final=False)
    yield lambda: _export_torch("probabilities", 3, [], final=True)
    yield _export_keras
    yield _export_keras_images


def _export_torch(name: str, outputs: int, arguments: Sequence[str], *, final: bool) -> Estimator:
    import torch  # noqa: PLC0415 - only for this library

    task = Task("multiclass" if outputs > 1 else "binary")
    torch.manual_seed(0)
    layers = [torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, outputs)]
    model = torch.nn.Sequential(*layers, *([torch.nn.Softmax(1)] if final else [])).eval()
    file = io.BytesIO()
    program = torch.onnx.export(
        model,
        (torch.zeros(2, 4),),
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("rows")},),
        verbose=False,
    )
    assert program is not None  # noqa: S101 - with dynamo
    onnx.save(program.model_proto, file)

    def predict(rows: pd.DataFrame) -> Array:
        with torch.no_grad():
            found = model(torch.tensor(rows.to_numpy(np.float32)))
        if outputs == 1:
            second = found.sigmoid().numpy()
            return np.hstack([1 - second, second])
        return np.asarray((found if final else found.softmax(1)).numpy())

    return Estimator(
        f"Sequential, {name}",
        "PyTorch",
        onnx.load_from_string(file.getvalue()),
        task.rows,
        [*arguments, "--labels", ",".join(task.labels)],
        task.labels,
        predict,
        lambda rows: [task.labels[k] for k in predict(rows).argmax(axis=1)],
    )


def _export_keras() -> Estimator:
    import keras  # noqa: PLC0415 - only for this library

    task = Task("multiclass")
    keras.utils.set_random_seed(0)
    dense = keras.layers.Dense
    model = keras.Sequential(
        [keras.Input((4,)), dense(16, activation="relu"), dense(3, activation="softmax")]
    )

    def predict(rows: pd.DataFrame) -> Array:
        return np.asarray(model.predict(rows.to_numpy(np.float32), verbose=0))

    predict(task.rows)
    return Estimator(
        "Sequential, Dense",
        "Keras",
        _export_to_onnx(model),
        task.rows,
        ["--labels", ",".join(task.labels)],
        task.labels,
        predict,
        lambda rows: [task.labels[k] for k in predict(rows).argmax(axis=1)],
    )


def _export_keras_images() -> Estimator:
    import keras  # noqa: PLC0415 - as above

    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(6, 3, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3, activation="softmax"),
        ]
    )
    images = np.random.default_rng(0).integers(0, 256, (ROWS, 16, 16, 3), dtype=np.uint8)

    def predict(rows: Array) -> Array:
        return np.asarray(model.predict(rows, verbose=0))

    predict(images[:1])
    return Estimator(
        "Sequential, Conv2D, images",
        "Keras",
        _export_to_onnx(model),
        images,
        ["--images", "--labels", ",".join(PLANTS)],
        PLANTS,
        predict,
        lambda rows: [PLANTS[k] for k in predict(rows).argmax(axis=1)],
    )


def _export_to_onnx(model: Any) -> onnx.ModelProto:  # noqa: ANN401 - keras ships no types
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        model.export(str(path), format="onnx", verbose=False)
        return onnx.load(path)
