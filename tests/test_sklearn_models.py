"""Models of scikit-learn, converted with default options, predict as scikit-learn does."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from skl2onnx import to_onnx
from skl2onnx.common.data_types import (
    DoubleTensorType,
    FloatTensorType,
    Int64TensorType,
    StringTensorType,
)
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.ensemble import (
    GradientBoostingRegressor,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from service.bundle.store import MODEL
from tests.conftest import StartApp
from tests.models import publish_bare
from tests.tensors import (
    Array,
    datatype_of,
    infer_in_binary,
    infer_in_json,
    outputs_in_binary,
    outputs_in_json,
)

FLOWERS, SPECIES = load_iris(return_X_y=True)
ROWS = FLOWERS[::10].astype(np.float32)
WORDS = np.array(["setosa", "versicolor", "virginica"])[SPECIES]
UNSORTED = np.array(["setosa", "Versicolor", "10"])[SPECIES]
FORMS = [(infer_in_binary, outputs_in_binary), (infer_in_json, outputs_in_json)]


def converted(estimator: Any, **options: Any) -> bytes:  # noqa: ANN401 - the converter's own
    content: bytes = to_onnx(estimator, **options).SerializeToString()
    return content


def run_directly(model: bytes, rows: Array) -> Mapping[str, Any]:
    """The outputs that ONNX Runtime itself returns for a graph with one input."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: rows}), strict=True))


def labels_of(output: Mapping[str, Any]) -> Sequence[str] | None:
    """The class names in the metadata of an output."""
    found: Sequence[str] | None = output.get("parameters", {}).get("labels")
    return found


@pytest.mark.parametrize("labels", [SPECIES, SPECIES * 10 - 10, WORDS, UNSORTED])
@pytest.mark.parametrize("kind", [LogisticRegression, RandomForestClassifier])
def test_a_classifier_with_a_label_map_predicts_label_and_probabilities(
    models: Path, start: StartApp, kind: type, labels: Array
) -> None:
    """The sequence of maps becomes a tensor of one row each, in the order of ``classes_``.

    Its bits are those of the maps, and the metadata has the names of its columns.
    """
    options = {"random_state": 1} | ({"max_iter": 1000} if kind is LogisticRegression else {})
    fitted = kind(**options).fit(FLOWERS, labels)
    model = converted(fitted, X=ROWS[:1])
    folder = publish_bare(models, "iris", model)
    client = start()
    outputs = client.get("/v2/models/iris").json()["outputs"]

    predictions = [
        read(infer(client, "iris", {"X": ROWS}), ["output_label", "output_probability"])
        for infer, read in FORMS
    ]

    expected = datatype_of(np.asarray(labels)[:0])
    assert [output["datatype"] for output in outputs] == [expected, "FP32"]
    assert outputs[1]["shape"] == [-1, 3]
    assert [labels_of(output) for output in outputs] == [None, list(map(str, fitted.classes_))]
    maps = run_directly(model, ROWS)["output_probability"]
    direct = np.array([[row[name] for name in fitted.classes_.tolist()] for row in maps])
    for label, probabilities in predictions:
        assert label is not None
        assert probabilities is not None
        np.testing.assert_array_equal(label.astype(fitted.classes_.dtype), fitted.predict(ROWS))
        assert probabilities.tobytes() == direct.astype(np.float32).tobytes()
        np.testing.assert_allclose(probabilities, fitted.predict_proba(ROWS), atol=1e-6)
    assert (folder / MODEL).read_bytes() == model


CLASSIFIERS = [
    LogisticRegression(max_iter=1000),
    DecisionTreeClassifier(random_state=1),
    SVC(probability=True, random_state=1),
    GaussianNB(),
    KNeighborsClassifier(),
    MLPClassifier(max_iter=20, random_state=1),
    StackingClassifier([("tree", DecisionTreeClassifier(random_state=1))]),
    VotingClassifier(
        [("a", GaussianNB()), ("b", DecisionTreeClassifier(random_state=1))],
        voting="soft",
        flatten_transform=False,
    ),
]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("labels", [UNSORTED, SPECIES * 10 - 10])
@pytest.mark.parametrize("estimator", CLASSIFIERS, ids=lambda each: type(each).__name__)
def test_class_names_are_found_without_a_label_map(
    models: Path,
    start: StartApp,
    estimator: Any,  # noqa: ANN401 - scikit-learn has no types
    labels: Array,
) -> None:
    """They are those of the classifier, or those that its label output is translated to."""
    fitted = clone(estimator).fit(FLOWERS, labels)
    model = converted(fitted, X=ROWS[:1], options={id(fitted): {"zipmap": False}})
    publish_bare(models, "iris", model)
    client = start()

    _, probabilities = client.get("/v2/models/iris").json()["outputs"]
    (served,) = outputs_in_binary(infer_in_binary(client, "iris", {"X": ROWS}), ["probabilities"])

    assert labels_of(probabilities) == list(map(str, fitted.classes_))
    assert served is not None
    assert served.tobytes() == run_directly(model, ROWS)["probabilities"].tobytes()


@pytest.mark.parametrize("labels", [UNSORTED, SPECIES * 10 - 10])
def test_columns_that_are_outputs_one_by_one_are_joined(
    models: Path, start: StartApp, labels: Array
) -> None:
    """The tensor with all columns is the last output; the columns remain."""
    fitted = LogisticRegression(max_iter=1000).fit(FLOWERS, labels)
    model = converted(fitted, X=ROWS[:1], options={id(fitted): {"zipmap": "columns"}})
    publish_bare(models, "iris", model)
    client = start()
    direct = run_directly(model, ROWS)
    label, *columns = direct

    outputs = client.get("/v2/models/iris").json()["outputs"]
    joined = outputs[-1]
    names = [*columns, joined["name"]]
    *alone, together = outputs_in_binary(infer_in_binary(client, "iris", {"X": ROWS}), names)

    assert [output["name"] for output in outputs] == [label, *names]
    assert (joined["shape"], labels_of(joined)) == ([-1, 3], list(map(str, fitted.classes_)))
    assert together is not None
    for position, (name, column) in enumerate(zip(columns, alone, strict=True)):
        assert column is not None
        assert column.tobytes() == direct[name].tobytes() == together[:, position].tobytes()


def test_an_output_that_is_declared_with_another_type_is_served(
    models: Path, start: StartApp
) -> None:
    """The converter declares float64 and returns float32, which ONNX Runtime rejects."""
    rows = ROWS.astype(np.float64)
    fitted = GradientBoostingRegressor(n_estimators=3, random_state=1).fit(FLOWERS, SPECIES)
    model = converted(fitted, initial_types=[("X", DoubleTensorType([None, 4]))])
    publish_bare(models, "iris", model)

    response = infer_in_binary(start(), "iris", {"X": rows})

    with pytest.raises(Exception, match="does not match expected type"):
        run_directly(model, rows)
    (value,) = outputs_in_binary(response, ["variable"])
    assert value is not None
    assert value.dtype == np.float32
    np.testing.assert_allclose(value.ravel(), fitted.predict(rows), rtol=1e-5)


def test_a_pipeline_with_several_typed_inputs_predicts_the_same(
    models: Path, start: StartApp
) -> None:
    """A column of words, one of whole numbers and two of floats are four named tensors."""
    inputs = {
        "quarter": np.array([["north"], ["south"], ["east"], ["north"]], object),
        "rooms": np.array([[3], [1], [4], [2]], np.int64),
        "size": np.array([[81.5], [30], [120], [55]], np.float32),
        "age": np.array([[10], [50], [0], [5]], np.float32),
    }
    table = np.concatenate(list(inputs.values()), axis=1)
    parts = ColumnTransformer(
        [("words", OneHotEncoder(), [0]), ("numbers", StandardScaler(), [1, 2, 3])]
    )
    prices = np.array([400.0, 120, 700, 260])
    fitted = make_pipeline(parts, LinearRegression()).fit(table, prices)
    publish_bare(models, "houses", typed(fitted))
    client = start()

    for infer, read in FORMS:
        (value,) = read(infer(client, "houses", inputs), ["variable"])
        assert value is not None
        np.testing.assert_allclose(value.ravel(), fitted.predict(table), rtol=1e-4)


def typed(fitted: Any) -> bytes:  # noqa: ANN401 - scikit-learn has no types
    types = [
        ("quarter", StringTensorType([None, 1])),
        ("rooms", Int64TensorType([None, 1])),
        ("size", FloatTensorType([None, 1])),
        ("age", FloatTensorType([None, 1])),
    ]
    return converted(fitted, initial_types=types)


def test_the_map_of_labels_can_be_ranked(models: Path, start: StartApp) -> None:
    """Classification ranks the tensor that replaces the maps, with the names in its order."""
    fitted = LogisticRegression(max_iter=1000).fit(FLOWERS, WORDS)
    publish_bare(models, "iris", converted(fitted, X=ROWS[:1]))
    tensor = {"name": "X", "shape": [1, 4], "datatype": "FP32", "data": ROWS[0].tolist()}
    wanted = {"name": "output_probability", "parameters": {"classification": 1}}

    response = start().post("/v2/models/iris/infer", json={"inputs": [tensor], "outputs": [wanted]})

    (output,) = response.json()["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [1, 1])
    value, index, label = output["data"][0].split(":")
    assert (int(index), label) == (0, "setosa")
    assert float(value) == pytest.approx(fitted.predict_proba(ROWS[:1])[0, 0], abs=1e-5)


@pytest.mark.parametrize("zipmap", [True, False, "columns"])
def test_classify_returns_the_names_of_the_graph(
    models: Path, start: StartApp, zipmap: object
) -> None:
    """TensorFlow Serving's classification pairs each name with its probability."""
    fitted = LogisticRegression(max_iter=1000).fit(FLOWERS, UNSORTED)
    model = converted(fitted, X=ROWS[:1], options={id(fitted): {"zipmap": zipmap}})
    publish_bare(models, "iris", model)
    examples = [{"X": row} for row in ROWS.tolist()]

    response = start().post("/v1/models/iris:classify", json={"examples": examples})

    results = response.json()["results"]
    assert [[name for name, _ in row] for row in results] == [fitted.classes_.tolist()] * len(ROWS)
    scores = np.array([[score for _, score in row] for row in results])
    np.testing.assert_allclose(scores, fitted.predict_proba(ROWS), atol=1e-6)


def test_the_operators_class_names_take_precedence(models: Path, start: StartApp) -> None:
    """Those of a label file in config.pbtxt replace those of the graph."""
    fitted = LogisticRegression(max_iter=1000).fit(FLOWERS, SPECIES)
    folder = publish_bare(models, "iris", converted(fitted, X=ROWS[:1])).parent
    (folder / "labels.txt").write_text("A\nB\nC\n")
    (folder / "config.pbtxt").write_text(
        'output { name: "output_probability" label_filename: "labels.txt" }'
    )

    output = start().get("/v2/models/iris").json()["outputs"][1]

    assert labels_of(output) == ["A", "B", "C"]
