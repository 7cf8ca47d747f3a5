"""Imported models predict like the original ones."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import polars as pl
import pytest
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import (
    DoubleTensorType,
    FloatTensorType,
    Int64TensorType,
    StringTensorType,
)
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import (
    GradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import accuracy_score, root_mean_squared_error
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from service.bundle.features import FeaturesInput
from service.bundle.store import read_bundle
from training.__main__ import main
from training.data.table import Float32s
from training.errors import ImportRejected, RecipeError
from training.export.publish import Publication
from training.importing.publication import import_model
from training.onnx_files import Array, Graph

_IRIS = load_iris()
_X = np.asarray(_IRIS.data, dtype=np.float32)
_Y = np.asarray(_IRIS.target)
_COLUMNS = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
_NAMES = np.array(["setosa", "versicolor", "virginica"])
_FEATURES = [{"name": name, "minimum": 0, "maximum": 10} for name in _COLUMNS]


def _saved(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "some.onnx"
    onnx.save(model, path)
    return path


def _imported(
    fitted: Any,  # noqa: ANN401 - scikit-learn ships no types
    folder: Path,
    *,
    target: dict[str, Any] | None = None,
    options: dict[str, bool] | None = None,
    kind: Any = FloatTensorType,  # noqa: ANN401 - as above
) -> Publication:
    model = to_onnx(fitted, initial_types=[("X", kind([None, 4]))], options=options)
    card = {"features": _FEATURES, "target": target or {}}
    return import_model(_saved(model, folder), card, None, folder / "models")


def _predictions(imported: Publication, rows: Array) -> Float32s:
    """The predictions of the bundle, which must be equal for single rows and batches."""
    graph = Graph(read_bundle(imported.folder).model)
    assert isinstance(imported.manifest.input, FeaturesInput)
    rows = rows.astype(np.float64 if imported.manifest.input.datatype == "FP64" else np.float32)
    together = graph.predict(rows)
    singly = np.concatenate([graph.predict(row[np.newaxis]) for row in rows[:5]])
    np.testing.assert_allclose(together[:5], singly, rtol=1e-5, atol=1e-6)
    return together


@cache
def _classifier(unfitted: Any, *, words: bool) -> Any:  # noqa: ANN401 - scikit-learn ships no types
    """A classifier that has learned iris, once for all tests of it."""
    return clone(unfitted).fit(_X, _NAMES[_Y] if words else _Y)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("words", [True, False])
@pytest.mark.parametrize(
    "classifier",
    [
        LogisticRegression(max_iter=500),
        DecisionTreeClassifier(max_depth=3, random_state=0),
        GradientBoostingClassifier(n_estimators=5, random_state=0),
        RandomForestClassifier(20, random_state=0),
        make_pipeline(StandardScaler(), MLPClassifier((5,), max_iter=1500, random_state=0)),
    ],
    ids=["logistic", "tree", "boosting", "forest", "pipeline"],
)
def test_a_classifier_keeps_its_probabilities(
    classifier: Any,  # noqa: ANN401 - scikit-learn ships no types
    words: bool,  # noqa: FBT001 - a parameter of the test
    zipped: bool,  # noqa: FBT001 - as above
    tmp_path: Path,
) -> None:
    """Labels may be words or numbers, and probabilities maps or tensors."""
    fitted = _classifier(classifier, words=words)

    target = {"labels": list(_NAMES)}
    imported = _imported(fitted, tmp_path, target=target, options={"zipmap": zipped})

    assert imported.manifest.task == "multiclass"
    found = _predictions(imported, _X)
    np.testing.assert_allclose(found, fitted.predict_proba(_X), atol=1e-5)
    assert found.min() >= 0
    assert found.max() <= 1


def test_two_classes_give_the_probability_of_the_second(tmp_path: Path) -> None:
    """The label comes from the graph."""
    rows = _Y < 2
    fitted = LogisticRegression().fit(_X[rows], _NAMES[_Y[rows]])

    imported = _imported(fitted, tmp_path)

    assert imported.manifest.output.model_dump()["labels"] == ["setosa", "versicolor"]
    expected = fitted.predict_proba(_X)[:, 1:]
    np.testing.assert_allclose(_predictions(imported, _X), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("regressor", "kind"),
    [
        (LinearRegression(), FloatTensorType),
        (LinearRegression(), DoubleTensorType),
        (RandomForestRegressor(5, random_state=0), FloatTensorType),
    ],
)
def test_a_regressor_keeps_its_value(
    regressor: Any,  # noqa: ANN401 - scikit-learn ships no types
    kind: Any,  # noqa: ANN401 - as above
    tmp_path: Path,
) -> None:
    """Float and double graphs with ``[batch, 1]`` predict values with the unit of the card."""
    fitted = regressor.fit(_X, _X @ [1.0, 2.0, 3.0, 4.0])

    imported = _imported(fitted, tmp_path, target={"column": "size", "unit": "cm"}, kind=kind)

    assert imported.manifest.output.model_dump()["unit"] == "cm"
    found = _predictions(imported, _X)
    assert found.shape == (150, 1)
    np.testing.assert_allclose(found[:, 0], fitted.predict(_X), rtol=1e-4)


@pytest.mark.parametrize("words", [True, False])
def test_a_label_without_probabilities_becomes_one_and_zero(
    words: bool,  # noqa: FBT001 - a parameter of the test
    tmp_path: Path,
) -> None:
    """Margins are not probabilities, so only the label is used, with a remark."""
    fitted = LinearSVC(random_state=0).fit(_X, _NAMES[_Y] if words else _Y)

    imported = _imported(fitted, tmp_path, target={"labels": list(_NAMES)})

    predicted = np.array([np.flatnonzero(fitted.classes_ == y)[0] for y in fitted.predict(_X)])
    assert (_predictions(imported, _X) == np.eye(3)[predicted]).all()
    assert "1 and 0" in imported.manifest.output.description


def test_k_means_predicts_its_cluster(tmp_path: Path) -> None:
    """Its distances are not read as probabilities."""
    fitted = KMeans(3, n_init=3, random_state=0).fit(_X)

    imported = _imported(fitted, tmp_path, target={"labels": ["a", "b", "c"]})

    assert (_predictions(imported, _X) == np.eye(3)[fitted.predict(_X)]).all()


def _cars() -> tuple[pl.DataFrame, Any]:
    """A table of categories, integers and numbers, and a pipeline fitted to it."""
    generator = np.random.default_rng(3)
    frame = pl.DataFrame(
        {
            "fuel": generator.choice(["petrol", "diesel", "electric"], 80),
            "doors": generator.integers(2, 6, 80),
            "weight": generator.uniform(0.8, 2.5, 80).round(3),
        }
    )
    fast = (frame["weight"].to_numpy() + (frame["fuel"] == "diesel").to_numpy() < 2).astype(str)
    columns = ColumnTransformer(
        [
            ("words", OneHotEncoder(handle_unknown="ignore", sparse_output=False), [0]),
            ("numbers", StandardScaler(), [1, 2]),
        ]
    )
    pipeline = make_pipeline(columns, LogisticRegression())
    rows = np.array(frame.rows(), dtype=object)
    return frame.with_columns(pl.Series("fast", fast)), pipeline.fit(rows, fast)


def _cars_model(fitted: Any) -> onnx.ModelProto:  # noqa: ANN401 - scikit-learn ships no types
    kinds = {"fuel": StringTensorType, "doors": Int64TensorType, "weight": FloatTensorType}
    inputs = [(name, kind([None, 1])) for name, kind in kinds.items()]
    converted: onnx.ModelProto = to_onnx(fitted, initial_types=inputs)
    return converted


def test_typed_inputs_become_one_row_of_columns(tmp_path: Path) -> None:
    """Categories are positions, unknown ones -1, and the measured accuracy is correct."""
    frame, fitted = _cars()
    csv = tmp_path / "cars.csv"
    frame.write_csv(csv)
    path = _saved(_cars_model(fitted), tmp_path)
    card: dict[str, Any] = {
        "target": {"column": "fast", "labels": ["slow", "fast"]},
        "features": [
            {"name": "fuel", "type": "category", "unseen": "other"},
            {"name": "doors"},
            {"name": "weight", "unit": "t"},
        ],
    }

    imported = import_model(path, card, csv, tmp_path / "models")

    dumped = imported.manifest.model_dump()["input"]["features"]
    assert [feature["type"] for feature in dumped] == ["category", "integer", "number"]
    words = ["diesel", "electric", "petrol"]
    assert dumped[0]["categories"] == words
    rows = frame.drop("fast").rows()
    encoded = np.array([[words.index(f), d, w] for f, d, w in rows], dtype=np.float32)
    expected = fitted.predict_proba(np.array(rows, dtype=object))[:, 1:]
    np.testing.assert_allclose(_predictions(imported, encoded), expected, atol=1e-5)
    strange = np.array([[-1, 3, 1.2]], dtype=np.float32)
    unseen = fitted.predict_proba(np.array([["steam", 3, 1.2]], dtype=object))[:, 1:]
    np.testing.assert_allclose(_predictions(imported, strange), unseen, atol=1e-5)
    assert imported.manifest.evaluation is not None
    right = accuracy_score(frame["fast"], fitted.predict(np.array(rows, dtype=object)))
    assert imported.manifest.evaluation.metrics["accuracy"] == pytest.approx(right, abs=1e-6)


def test_columns_are_named_by_the_table(tmp_path: Path) -> None:
    """Without names in the graph, the header of the table is used, without the target."""
    x, y = load_diabetes(return_X_y=True)
    names = [f"blood_{k}" for k in range(x.shape[1])]
    csv = tmp_path / "diabetes.csv"
    pl.DataFrame(np.column_stack([x, y]), schema=[*names, "progress"]).write_csv(csv)
    fitted = LinearRegression().fit(x, y)
    path = _saved(to_onnx(fitted, x[:1].astype(np.float32)), tmp_path)

    imported = import_model(path, {"target": {"column": "progress"}}, csv, tmp_path / "models")

    assert isinstance(imported.manifest.input, FeaturesInput)
    assert [feature.name for feature in imported.manifest.input.features] == names
    assert imported.manifest.evaluation is not None
    expected = root_mean_squared_error(y, fitted.predict(x))
    assert imported.manifest.evaluation.metrics["rmse"] == pytest.approx(expected, rel=1e-4)


def _sums(kind: str, batch: str | int = "batch", shape: tuple[int, ...] = (2,)) -> onnx.ModelProto:
    """A graph that reduces its columns to one number by the named operator, then `Identity`."""
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1], keepdims=1),
            helper.make_node(kind, ["mean"], ["y"]),
        ],
        "sums",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, *shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 1])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


_PAIR: dict[str, Any] = {
    "features": [{"name": name, "minimum": -3, "maximum": 3} for name in ("a", "b")]
}


@pytest.mark.parametrize("batch", ["N", 1])
def test_one_probability_is_that_of_the_second_label(batch: str | int, tmp_path: Path) -> None:
    """A network that ends in a sigmoid is binary; a fixed batch of one becomes dynamic."""
    path = _saved(_sums("Sigmoid", batch), tmp_path)

    imported = import_model(path, _PAIR | {"target": {"labels": ["no", "yes"]}}, None, tmp_path)

    rows = np.array([[0, 0], [2, 4]], dtype=np.float32)
    np.testing.assert_allclose(
        Graph(read_bundle(imported.folder).model).predict(rows),
        1 / (1 + np.exp(-rows.mean(axis=1, keepdims=True))),
        rtol=1e-5,
    )


@pytest.mark.parametrize(
    ("model", "card", "sentence"),
    [
        (
            _sums("Identity"),
            {"target": {"labels": ["no", "yes"]}} | _PAIR,
            "not a probability of 2",
        ),
        (_sums("Identity"), {}, "2 columns without names.*--features"),
        (_sums("Identity"), {"features": [{"name": "a"}]}, "takes 2 columns, but 1 are named: a"),
        (
            _sums("Identity"),
            {"features": [{"name": "a"}, {"name": "b"}]},
            "'a' has no minimum and maximum",
        ),
        (
            _sums("Identity"),
            {"features": [{"name": "a", "type": "datetime"}, {"name": "b"}]},
            "'a' cannot be of type datetime",
        ),
        (
            _sums("Identity"),
            {"features": [{"name": "a", "type": "text"}, {"name": "b"}]},
            "'a' cannot be of type text",
        ),
        (_sums("Identity", shape=(2, 2)), _PAIR, "has 3 axes; a table has two"),
    ],
)
def test_an_unsupported_graph_is_rejected_with_the_reason(
    model: onnx.ModelProto, card: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    """The import fails with the reason and publishes nothing."""
    path = _saved(model, tmp_path)

    with pytest.raises(ImportRejected, match=sentence):
        import_model(path, card, None, tmp_path / "models")

    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("card", "problem"),
    [
        ({"features": 3}, "features: input should be a valid list"),
        ({"target": "y"}, "target: input should be a valid dictionary"),
        (_PAIR | {"target": {"unti": "cm"}}, "target.unti: .*did you mean unit"),
        (_PAIR | {"network": {}}, "network: there is no such key"),
    ],
)
def test_problems_of_a_card_are_reported(
    card: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    """Unknown keys of a card get suggestions like those of a recipe."""
    path = _saved(_sums("Identity"), tmp_path)

    with pytest.raises(RecipeError, match=problem):
        import_model(path, card, None, tmp_path / "models")


def test_the_number_of_labels_must_match_the_classes(tmp_path: Path) -> None:
    """Two labels for three classes are rejected."""
    fitted = LogisticRegression(max_iter=500).fit(_X, _Y)

    with pytest.raises(ImportRejected, match="has 3 classes, but 2 labels are named"):
        _imported(fitted, tmp_path, target={"labels": ["a", "b"]})


def test_a_file_that_is_not_a_model_is_rejected(tmp_path: Path) -> None:
    """A missing file and a text file are rejected."""
    words = tmp_path / "words.onnx"
    words.write_text("this is no model")

    for path in (words, tmp_path / "missing.onnx"):
        with pytest.raises(ImportRejected, match=f"{path.name} cannot be imported: it "):
            import_model(path, {}, None, tmp_path / "models")


def test_the_import_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It imports iris with names, labels and title, and measures it."""
    csv = tmp_path / "iris.csv"
    frame = pl.DataFrame(_X, schema=_COLUMNS).with_columns(pl.Series("species", _NAMES[_Y]))
    frame.write_csv(csv)
    fitted = LogisticRegression(max_iter=500).fit(_X, _NAMES[_Y])
    path = _saved(to_onnx(fitted, _X[:1]), tmp_path)
    models = str(tmp_path / "models")
    words = ["--features", ",".join(_COLUMNS), "--csv", str(csv), "--target", "species"]

    code = main(["import", str(path), *words, "--models", models, "name=irises", "title=Irises"])
    compared = main(["compare", "--models", models])

    assert (code, compared) == (0, 0)
    said = capsys.readouterr().out
    assert "Published" in said
    assert "irises/1" in said
    bundle = read_bundle(Path(models) / "irises" / "1")
    assert bundle.manifest.title == "Irises"
    assert bundle.manifest.evaluation is not None
    right = accuracy_score(_NAMES[_Y], fitted.predict(_X))
    assert bundle.manifest.evaluation.metrics["accuracy"] == pytest.approx(right, abs=1e-6)
