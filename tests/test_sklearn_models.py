"""Models of scikit-learn, converted with default options, predict as scikit-learn does."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skl2onnx import to_onnx
from skl2onnx.common.data_types import (
    FloatTensorType,
    Int64TensorType,
    StringTensorType,
)
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

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
FORMS = [(infer_in_binary, outputs_in_binary), (infer_in_json, outputs_in_json)]


def converted(estimator: Any, **options: Any) -> bytes:  # noqa: ANN401 - the converter's own
    content: bytes = to_onnx(estimator, **options).SerializeToString()
    return content


@pytest.mark.parametrize("labels", [SPECIES, SPECIES * 10 - 10, WORDS])
@pytest.mark.parametrize("kind", [LogisticRegression, RandomForestClassifier])
def test_a_classifier_with_a_label_map_predicts_label_and_probabilities(
    models: Path, start: StartApp, kind: type, labels: Array
) -> None:
    """The sequence of maps becomes a tensor of one row each, in the order of ``classes_``."""
    options = {"random_state": 1} | ({"max_iter": 1000} if kind is LogisticRegression else {})
    fitted = kind(**options).fit(FLOWERS, labels)
    publish_bare(models, "iris", converted(fitted, X=ROWS[:1]))
    client = start()
    outputs = client.get("/v2/models/iris").json()["outputs"]

    predictions = [
        read(infer(client, "iris", {"X": ROWS}), ["output_label", "output_probability"])
        for infer, read in FORMS
    ]

    expected = datatype_of(np.asarray(labels)[:0])
    assert [output["datatype"] for output in outputs] == [expected, "FP32"]
    assert outputs[1]["shape"] == [-1, -1]
    for label, probabilities in predictions:
        assert label is not None
        assert probabilities is not None
        np.testing.assert_array_equal(label.astype(fitted.classes_.dtype), fitted.predict(ROWS))
        np.testing.assert_allclose(probabilities, fitted.predict_proba(ROWS), atol=1e-6)


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
    """Classification ranks the tensor that replaces the maps of labels."""
    fitted = LogisticRegression(max_iter=1000).fit(FLOWERS, WORDS)
    publish_bare(models, "iris", converted(fitted, X=ROWS[:1]))
    tensor = {"name": "X", "shape": [1, 4], "datatype": "FP32", "data": ROWS[0].tolist()}
    wanted = {"name": "output_probability", "parameters": {"classification": 1}}

    response = start().post("/v2/models/iris/infer", json={"inputs": [tensor], "outputs": [wanted]})

    (output,) = response.json()["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [1, 1])
    value, index = output["data"][0].split(":")
    assert int(index) == 0
    assert float(value) == pytest.approx(fitted.predict_proba(ROWS[:1])[0, 0], abs=1e-5)
