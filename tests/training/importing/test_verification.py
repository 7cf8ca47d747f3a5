"""A bundle is published only if it predicts what the original predicts, in its own types."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import (
    DoubleTensorType,
    FloatTensorType,
    Int64TensorType,
    StringTensorType,
)
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from service.bundle.features import CategoryFeature, Feature, FeaturesInput
from service.bundle.manifest import ClassesOutput, ValueOutput
from tests.imported import import_file, read_table, run_original, save, write_table
from training.errors import ImportRejected
from training.export.publish import Publication
from training.importing.options import ImportOptions

_GENERATOR = np.random.default_rng(5)
_SOFTMAX_WEIGHTS = np.array([[1, -1, 0], [0, 1, -1], [2, 0, -1]], np.float32)


def _graph(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, tuple[int, list[int | str]]],
    outputs: Sequence[str],
    weights: Mapping[str, Any] | None = None,
) -> onnx.ModelProto:
    """A graph of float outputs with constants."""
    values = [helper.make_tensor_value_info(name, *kind) for name, kind in inputs.items()]
    found = [onnx.ValueInfoProto(name=name) for name in outputs]
    for value in found:
        value.type.tensor_type.elem_type = TensorProto.FLOAT
    constants = [
        numpy_helper.from_array(np.asarray(array), name) for name, array in (weights or {}).items()
    ]
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    graph = helper.make_graph(list(nodes), "foreign", values, found, constants)
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def _softmax(kind: int, shape: list[int | str]) -> onnx.ModelProto:
    """Three probabilities of three columns of any type."""
    nodes = [
        helper.make_node("Cast", ["x"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["numbers", "w"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["p"], axis=1),
    ]
    return _graph(nodes, {"x": (kind, shape)}, ["p"], {"w": _SOFTMAX_WEIGHTS})


def _features(imported: Publication) -> list[Feature]:
    assert isinstance(imported.manifest.input, FeaturesInput)
    return imported.manifest.input.features


def _datatype(imported: Publication) -> str:
    assert isinstance(imported.manifest.input, FeaturesInput)
    return imported.manifest.input.datatype


def _r2(imported: Publication) -> float:
    assert imported.manifest.evaluation is not None
    return imported.manifest.evaluation.metrics["r2"]


def _accuracy(imported: Publication) -> float:
    assert imported.manifest.evaluation is not None
    return imported.manifest.evaluation.metrics["accuracy"]


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (np.arange(20_000_000, 20_000_060), Int64TensorType),
        (np.arange(-(2**53) + 1, -(2**53) + 61), Int64TensorType),
        (1_700_000_000 + np.arange(60) * 0.5, DoubleTensorType),
    ],
    ids=["identifiers", "near 2^53", "timestamps"],
)
def test_numbers_that_32_bits_change_make_a_bundle_of_64(
    cells: Any,  # noqa: ANN401 - an array of any type
    kind: Any,  # noqa: ANN401 - skl2onnx ships no types
    tmp_path: Path,
) -> None:
    """The graph gets every number as the original does."""
    base = cells.min()
    target = (cells - base) % 7
    columns = make_pipeline(
        ColumnTransformer([("number", OneHotEncoder(handle_unknown="ignore"), [0])]),
        LinearRegression(),
    )
    fitted = columns.fit(cells.reshape(-1, 1), target)
    if kind is DoubleTensorType:
        fitted = DecisionTreeRegressor(random_state=0).fit((cells - base).reshape(-1, 1), target)
    path = save(to_onnx(fitted, initial_types=[("number", kind([None, 1]))]), tmp_path)
    if kind is DoubleTensorType:
        path = save(_subtract(onnx.load(path), base), tmp_path)
    table = write_table(tmp_path, {"number": cells.tolist(), "y": target.tolist()})

    imported = import_file(path, tmp_path / "models", table, target="y")

    assert _datatype(imported) == "FP64"
    assert _r2(imported) == pytest.approx(1, abs=1e-6)


def _subtract(model: onnx.ModelProto, base: float) -> onnx.ModelProto:
    """Let a model of doubles subtract a number from its column first."""
    graph = model.graph
    for node in graph.node:
        node.input[:] = ["difference" if name == "number" else name for name in node.input]
    graph.node.insert(0, helper.make_node("Sub", ["number", "base"], ["difference"]))
    graph.initializer.append(numpy_helper.from_array(np.array(base, np.float64), "base"))
    del graph.value_info[:]
    return model


def test_numbers_that_fit_32_bits_keep_the_usual_input(tmp_path: Path) -> None:
    """Small whole numbers in a double column are exact in 32 bits."""
    x = _GENERATOR.integers(0, 50, (60, 2)).astype(np.float64)
    fitted = LinearRegression().fit(x, x @ [1.0, 2.0])
    path = save(to_onnx(fitted, initial_types=[("x", DoubleTensorType([None, 2]))]), tmp_path)
    table = write_table(tmp_path, {"a": x[:, 0].tolist(), "b": x[:, 1].tolist()})

    assert _datatype(import_file(path, tmp_path / "models", table)) == "FP32"


def test_a_double_model_predicts_on_the_same_side_of_its_thresholds(tmp_path: Path) -> None:
    """Rounding to 32 bits would move rows across thresholds between neighboring numbers."""
    x = np.round(_GENERATOR.uniform(0, 100, (300, 2)), 2)
    fitted = GradientBoostingRegressor(n_estimators=20, random_state=0).fit(x, x[:, 0] * x[:, 1])
    path = save(to_onnx(fitted, initial_types=[("x", DoubleTensorType([None, 2]))]), tmp_path)
    table = write_table(tmp_path, {"a": x[:, 0].tolist(), "b": x[:, 1].tolist()})

    imported = import_file(path, tmp_path / "models", table)

    assert _datatype(imported) == "FP64"


@pytest.mark.parametrize(
    ("cell", "kind", "sentence"),
    [
        ("2.5", TensorProto.INT64, "row 2, column 'a': 2.5 is not a whole number.*int64"),
        ("9007199254740993", TensorProto.INT64, "row 2, column 'a': .*larger than 9,007"),
        ("300", TensorProto.UINT8, "row 2, column 'a': 300 is outside the range.*uint8"),
        ("-1", TensorProto.UINT16, "row 2, column 'a': -1 is outside the range.*uint16"),
    ],
)
def test_cells_that_an_integer_input_cannot_hold_are_rejected(
    cell: str, kind: int, sentence: str, tmp_path: Path
) -> None:
    """They would be cut, rounded or wrapped around."""
    path = save(_softmax(kind, ["N", 3]), tmp_path)
    table = write_table(tmp_path, {"a": ["1", cell], "b": ["0", "1"], "c": ["1", "1"]})

    with pytest.raises(ImportRejected, match=sentence):
        import_file(path, tmp_path / "models", table)


@pytest.mark.parametrize(
    "kind",
    [
        TensorProto.UINT8,
        TensorProto.INT8,
        TensorProto.INT16,
        TensorProto.UINT32,
        TensorProto.FLOAT16,
        TensorProto.INT64,
    ],
    ids=TensorProto.DataType.Name,
)
def test_inputs_of_every_numeric_type_are_imported(kind: int, tmp_path: Path) -> None:
    """The probabilities are those of ONNX Runtime on the original."""
    path = save(_softmax(kind, ["N", 3]), tmp_path)
    cells = _GENERATOR.integers(0, 4, (20, 3))
    table = write_table(tmp_path, {name: cells[:, k].tolist() for k, name in enumerate("abc")})

    imported = import_file(
        path, tmp_path / "models", table, options=ImportOptions(labels=tuple("xyz"))
    )

    assert isinstance(imported.manifest.output, ClassesOutput)
    assert imported.manifest.output.labels == ["x", "y", "z"]


def _words_model(
    words: Sequence[str], target: Sequence[float], known: Sequence[str] | None = None
) -> onnx.ModelProto:
    """A regression of one column of words."""
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    pipeline = make_pipeline(
        ColumnTransformer([("word", encoder, [0])]), LinearRegression(fit_intercept=False)
    )
    pipeline.fit(np.array(known or words, dtype=object).reshape(-1, 1), target)
    converted: onnx.ModelProto = to_onnx(
        pipeline, initial_types=[("word", StringTensorType([None, 1]))]
    )
    return converted


@pytest.mark.parametrize(
    ("words", "categories"),
    [
        ([" Private", " State-gov", " Private"], [" Private", " State-gov"]),
        (["None", "BrkFace", "NA"], ["BrkFace", "NA", "None"]),
        (["a ", "a", " a"], [" a", "a", "a "]),
    ],
    ids=["blanks before", "None and NA", "only blanks differ"],
)
def test_words_are_those_of_the_graph(
    words: list[str], categories: list[str], tmp_path: Path
) -> None:
    """Blanks belong to a word, and None is a category if the model was trained on it."""
    target = [float(categories.index(word)) for word in words]
    path = save(_words_model(words, target), tmp_path)
    table = write_table(tmp_path, {"word": words, "y": target})

    imported = import_file(path, tmp_path / "models", table, target="y")

    (feature,) = _features(imported)
    assert isinstance(feature, CategoryFeature)
    assert sorted(feature.categories) == categories
    assert _r2(imported) == pytest.approx(1, abs=1e-6)


def test_words_that_the_rows_lack_can_be_sent(tmp_path: Path) -> None:
    """The graph lists its words, and the rows need not have all of them."""
    path = save(_words_model(["C", "Q", "S"], [1, 2, 3]), tmp_path)
    table = write_table(tmp_path, {"word": ["S", "C"], "y": [3, 1]})

    (feature,) = _features(import_file(path, tmp_path / "models", table, target="y"))

    assert isinstance(feature, CategoryFeature)
    assert feature.categories == ["C", "Q", "S"]


def test_a_word_with_blanks_that_the_graph_does_not_know_is_a_category(tmp_path: Path) -> None:
    """The original predicts for " east" what it predicts for unknown words, and so must we."""
    path = save(_words_model(["east", "west"], [1, 2]), tmp_path)
    table = write_table(tmp_path, {"word": ["east", " east", "west"]})

    (feature,) = _features(import_file(path, tmp_path / "models", table))

    assert isinstance(feature, CategoryFeature)
    assert feature.categories == ["east", "west", " east"]


def test_blanks_of_the_format_belong_to_no_word(tmp_path: Path) -> None:
    """In a file with ", " between cells every word has a blank before it."""
    path = save(_words_model(["east", "west"], [1, 2]), tmp_path)
    table = write_table(tmp_path, {"word": [" east", " west", " east"], "y": [1, 2, 1]})

    imported = import_file(path, tmp_path / "models", table, target="y")

    (feature,) = _features(imported)
    assert isinstance(feature, CategoryFeature)
    assert feature.categories == ["east", "west"]
    assert _r2(imported) == pytest.approx(1, abs=1e-6)


def test_a_word_that_the_graph_lacks_needs_a_decision(tmp_path: Path) -> None:
    """The message has the row, the words and the option, which makes the import succeed."""
    path = save(_words_model(["C", "S"], [1, 2]), tmp_path)
    table = write_table(tmp_path, {"word": ["S", "X"]})

    with pytest.raises(
        ImportRejected, match=r"row 2, column 'word': 'X' .*'C', 'S'.*--unseen other"
    ):
        import_file(path, tmp_path / "models", table)

    imported = import_file(path, tmp_path / "models", table, ImportOptions(unseen="other"))
    (feature,) = _features(imported)
    assert isinstance(feature, CategoryFeature)
    assert feature.unseen == "other"


def test_an_unknown_word_that_the_graph_treats_differently_is_rejected(tmp_path: Path) -> None:
    """The bundle gives the graph an empty word for it."""
    nodes = [
        helper.make_node(
            "LabelEncoder",
            ["word"],
            ["code"],
            domain="ai.onnx.ml",
            keys_strings=["a", "b", ""],
            values_floats=[1.0, 2.0, 5.0],
            default_float=9.0,
        )
    ]
    path = save(_graph(nodes, {"word": (TensorProto.STRING, ["N", 1])}, ["code"]), tmp_path)
    table = write_table(tmp_path, {"word": ["a", "z"]})

    with pytest.raises(
        ImportRejected, match=r"row 2: 5 instead of 9\. Column 'word': .*'z'.*--card"
    ):
        import_file(path, tmp_path / "models", table, ImportOptions(unseen="other"))


def test_gaps_are_allowed_by_name(tmp_path: Path) -> None:
    """The message lists all columns with gaps; the original must have a prediction for them."""
    nodes = [
        helper.make_node("IsNaN", ["x"], ["gaps"]),
        helper.make_node("Where", ["gaps", "zero", "x"], ["filled"]),
        helper.make_node("ReduceSum", ["filled", "axis"], ["y"], keepdims=1),
    ]
    weights = {"zero": np.float32(0), "axis": np.array([1])}
    path = save(_graph(nodes, {"x": (TensorProto.FLOAT, ["N", 3])}, ["y"], weights), tmp_path)
    table = write_table(tmp_path, {"a": ["1", "", "3"], "b": ["1", "2", "NA"], "c": [1, 2, 3]})

    with pytest.raises(ImportRejected, match=r"row 2, column 'a'.*--optional a,b"):
        import_file(path, tmp_path / "models", table)

    imported = import_file(path, tmp_path / "models", table, ImportOptions(optional=("a", "b")))
    assert [feature.optional for feature in _features(imported)] == [True, True, False]


def test_a_card_may_describe_some_of_the_columns(tmp_path: Path) -> None:
    """The others have the names of the table, in its order."""
    path = save(_softmax(TensorProto.FLOAT, ["N", 3]), tmp_path)
    table = write_table(tmp_path, {"a": [1, 2], "b": [3, 1], "c": [0, 1]})

    imported = import_file(
        path, tmp_path / "models", table, features=[{"name": "b", "unit": "kg", "optional": True}]
    )

    assert [feature.name for feature in _features(imported)] == ["a", "b", "c"]
    assert [feature.optional for feature in _features(imported)] == [False, True, False]


def test_a_prediction_that_is_no_number_is_rejected_by_row(tmp_path: Path) -> None:
    """The message names the gap that causes it."""
    path = save(_softmax(TensorProto.FLOAT, ["N", 3]), tmp_path)
    table = write_table(tmp_path, {"a": ["1", "2", "3"], "b": ["1", "", "2"], "c": [1, 2, 3]})

    with pytest.raises(ImportRejected, match=r"row 2: its output 'p' is NaN.*'b' are empty"):
        import_file(path, tmp_path / "models", table, ImportOptions(optional=("b",)))


@pytest.mark.parametrize(
    ("node", "sentence"),
    [
        (helper.make_node("ReduceMean", ["x", "axis"], ["m"], keepdims=1), "combines the rows"),
        (helper.make_node("ReduceMax", ["x", "axis"], ["m"], keepdims=1), "combines the rows"),
        (helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "m", "z"]), "quantize_static"),
    ],
    ids=["mean", "maximum", "dynamic quantization"],
)
def test_a_graph_that_mixes_rows_is_rejected_with_the_cause(
    node: onnx.NodeProto, sentence: str, tmp_path: Path
) -> None:
    """Requests that arrive together share a run, so rows must not depend on each other."""
    nodes = [
        node,
        helper.make_node("Sub", ["x", "m"], ["centered"]),
        helper.make_node("ReduceSum", ["centered", "columns"], ["y"], keepdims=1),
    ]
    weights = {"axis": np.array([0]), "columns": np.array([1])}
    path = save(_graph(nodes, {"x": (TensorProto.FLOAT, ["N", 2])}, ["y"], weights), tmp_path)
    table = write_table(tmp_path, {"a": [1, 2, 3, 7], "b": [3, 1, 5, 2]})

    with pytest.raises(ImportRejected, match=f"depend on the other rows.*{sentence}"):
        import_file(path, tmp_path / "models", table)


def test_the_label_of_ties_does_not_depend_on_the_batch(tmp_path: Path) -> None:
    """Half of the trees vote for each class: the first wins, as it does in scikit-learn."""
    x = _GENERATOR.normal(size=(400, 3)).astype(np.float32)
    y = np.where(x.sum(axis=1) + _GENERATOR.normal(size=400) > 0, "yes", "no")
    fitted = RandomForestClassifier(10, random_state=0, max_depth=None).fit(x[:200], y[:200])
    options = {"zipmap": False}
    path = save(to_onnx(fitted, x[:1], options=options), tmp_path)
    table = write_table(
        tmp_path,
        {name: x[:, k].tolist() for k, name in enumerate("abc")} | {"p": fitted.predict(x)},
    )

    imported = import_file(path, tmp_path / "models", table, target="p")

    assert _accuracy(imported) == 1


def test_expected_predictions_are_compared(tmp_path: Path) -> None:
    """Values, labels and probabilities of the library; a difference names the row."""
    x = _GENERATOR.normal(size=(80, 2)).astype(np.float32)
    y = np.where(x[:, 0] > 0, "yes", "no")
    fitted = DecisionTreeClassifier(max_depth=2, random_state=0).fit(x, y)
    path = save(to_onnx(fitted, x[:1]), tmp_path)
    columns = {
        "a": x[:, 0].tolist(),
        "b": x[:, 1].tolist(),
        "label": fitted.predict(x).tolist(),
        "p_no": fitted.predict_proba(x)[:, 0].tolist(),
        "p_yes": fitted.predict_proba(x)[:, 1].tolist(),
    }
    table = write_table(tmp_path, columns)
    features = [{"name": "a"}, {"name": "b"}]

    for expected in (("label",), ("p_no", "p_yes"), ("p_yes",)):
        options = ImportOptions(expected=expected)
        imported = import_file(path, tmp_path / "models", table, options, features=features)
        assert "equal those" in imported.remark

    changed = write_table(tmp_path, columns | {"p_yes": [0.25, *columns["p_yes"][1:]]})
    with pytest.raises(ImportRejected, match=r"row 1: .*'p_yes' of --expected has 0\.25"):
        import_file(path, tmp_path / "models", changed, options, features=features)


def test_truth_words_make_a_boolean(tmp_path: Path) -> None:
    """True and False in a column of numbers are 1 and 0 for the original."""
    x = np.column_stack([_GENERATOR.integers(0, 2, 40), _GENERATOR.uniform(40, 150, 40).round(1)])
    fitted = LinearRegression().fit(x, x @ [5.0, 2.0])
    path = save(to_onnx(fitted, initial_types=[("x", FloatTensorType([None, 2]))]), tmp_path)
    columns = {"garden": (x[:, 0] == 1).tolist(), "size": x[:, 1], "y": fitted.predict(x)}

    imported = import_file(path, tmp_path / "models", write_table(tmp_path, columns), target="y")

    assert [feature.type for feature in _features(imported)] == ["boolean", "number"]
    assert isinstance(imported.manifest.output, ValueOutput)
    assert _r2(imported) == pytest.approx(1, abs=1e-6)


def test_rows_without_a_target_are_reported(tmp_path: Path) -> None:
    """They verify the import, and are not measured."""
    x = _GENERATOR.normal(size=(30, 2)).astype(np.float32)
    fitted = LinearRegression().fit(x, x @ [1.0, 2.0])
    path = save(to_onnx(fitted, x[:1]), tmp_path)
    target = [str(value) if k % 3 else "" for k, value in enumerate(fitted.predict(x))]
    table = write_table(tmp_path, {"a": x[:, 0].tolist(), "b": x[:, 1].tolist(), "y": target})

    imported = import_file(path, tmp_path / "models", table, target="y")

    assert "10 of 30 rows have no target" in imported.remark
    assert imported.manifest.evaluation is not None
    assert imported.manifest.evaluation.rows == 20


def test_a_class_can_be_the_empty_word(tmp_path: Path) -> None:
    """An empty cell is then a label, if the user names the classes."""
    x = _GENERATOR.normal(size=(60, 2)).astype(np.float32)
    y = np.where(x[:, 0] > 0, "ill", "")
    fitted = DecisionTreeClassifier(max_depth=1).fit(x, y)
    path = save(to_onnx(fitted, x[:1]), tmp_path)
    table = write_table(tmp_path, {"a": x[:, 0].tolist(), "b": x[:, 1].tolist(), "y": y.tolist()})

    with pytest.raises(ImportRejected, match=r"class 1 is empty.*--labels"):
        import_file(path, tmp_path / "models", table, target="y")

    options = ImportOptions(labels=("well", "ill"))
    imported = import_file(path, tmp_path / "models", table, options, target="y")
    assert imported.manifest.evaluation is not None
    assert imported.manifest.evaluation.rows == 60
    assert _accuracy(imported) == 1


def test_labels_in_another_order_than_the_graph_are_not_swapped(tmp_path: Path) -> None:
    """The same names in another order are put into the order of the graph."""
    x = _GENERATOR.normal(size=(60, 2)).astype(np.float32)
    fitted = DecisionTreeClassifier(max_depth=1).fit(x, np.where(x[:, 0] > 0, "bad", "good"))
    path = save(to_onnx(fitted, x[:1]), tmp_path)
    table = write_table(
        tmp_path, {"a": x[:, 0].tolist(), "b": x[:, 1].tolist(), "y": fitted.predict(x)}
    )

    options = ImportOptions(labels=("good", "bad"))
    imported = import_file(path, tmp_path / "models", table, options, target="y")

    assert isinstance(imported.manifest.output, ClassesOutput)
    assert imported.manifest.output.labels == ["bad", "good"]
    assert _accuracy(imported) == 1


def test_unknown_columns_of_options_are_rejected(tmp_path: Path) -> None:
    """The closest feature is suggested."""
    path = save(_softmax(TensorProto.FLOAT, ["N", 3]), tmp_path)
    table = write_table(tmp_path, {"age": [1, 2], "bmi": [1, 2], "sex": [1, 0]})

    with pytest.raises(ImportRejected, match=r"--optional names 'agee'.*did you mean 'age'"):
        import_file(path, tmp_path / "models", table, ImportOptions(optional=("agee",)))


def test_a_graph_of_one_row_is_rejected_with_the_remedy(tmp_path: Path) -> None:
    """A fixed Reshape predicts single rows only."""
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["flat"]),
        helper.make_node("Softmax", ["flat"], ["p"], axis=1),
    ]
    weights = {"shape": np.array([1, 3])}
    path = save(_graph(nodes, {"x": (TensorProto.FLOAT, [1, 3])}, ["p"], weights), tmp_path)
    table = write_table(tmp_path, {"a": [1, 2], "b": [1, 2], "c": [1, 0]})

    with pytest.raises(ImportRejected, match=r"predicts one row, but not all 2 .*free batch axis"):
        import_file(path, tmp_path / "models", table)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"ir_version": 99}, r"IR version 99 is newer than \d+.*model.ir_version"),
        ({"opset": 999}, r"opset 999 of ai.onnx is newer than \d+.*opset_version"),
        ({"domain": "my.operators"}, "operator Identity of the domain my.operators.*standard"),
    ],
    ids=["IR version", "opset", "custom operator"],
)
def test_a_file_that_the_runtime_cannot_load_is_rejected_with_the_remedy(
    change: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    """The message has both versions, or the operator."""
    nodes = [helper.make_node("Identity", ["x"], ["y"], domain=change.get("domain", ""))]
    model = _graph(nodes, {"x": (TensorProto.FLOAT, ["N", 1])}, ["y"])
    model.ir_version = change.get("ir_version", model.ir_version)
    model.opset_import[0].version = change.get("opset", 18)
    if "domain" in change:
        model.opset_import.append(helper.make_opsetid(change["domain"], 1))
    table = write_table(tmp_path, {"a": [1, 2]})

    with pytest.raises(ImportRejected, match=f"cannot load it: .*{sentence}"):
        import_file(save(model, tmp_path), tmp_path / "models", table)


def test_the_helper_runs_the_original_itself(tmp_path: Path) -> None:
    """The oracle of the other tests is independent of the import."""
    path = save(_words_model(["a", "b"], [1, 2]), tmp_path)
    table = write_table(tmp_path, {"word": ["b", "a", "c"]})

    (found,) = run_original(path, read_table(table)).values()

    np.testing.assert_allclose(found.ravel(), [2, 1, 0], atol=1e-6)
