"""Class names, words and thresholds are read from where converters write them in the graph."""

import numpy as np
import pytest
from onnx import ModelProto
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier, StackingClassifier, VotingClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

from tests.training.export.foreign_graphs import (
    FLOAT,
    INT64,
    STRING,
    assembled,
    constant,
    node,
    tensor,
)
from training.export.foreign_graph import ForeignGraph
from training.export.graph_reading import Comparison

ML = "ai.onnx.ml"
X = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
WORDS = np.array(["no", "maybe", "yes"])[np.arange(60) % 3]


@pytest.mark.parametrize(
    "estimator",
    [
        LogisticRegression(),
        RandomForestClassifier(3),
        KNeighborsClassifier(3),
        VotingClassifier(
            [("a", GaussianNB()), ("b", LogisticRegression())], flatten_transform=False
        ),
        StackingClassifier([("a", GaussianNB()), ("b", LogisticRegression())]),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
@pytest.mark.parametrize("labels", [WORDS, np.arange(60) % 3 * 5 - 5])
@pytest.mark.parametrize("zipped", [True, False])
def test_classes_are_those_of_the_library(estimator, labels, zipped) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001 - scikit-learn ships no types
    """By the attributes of a classifier or map, or the constant from which a label is chosen."""
    fitted = estimator.fit(X, labels)
    kind = FloatTensorType([None, 3])
    options = {id(fitted): {"zipmap": zipped}}
    opset = {"": 18, ML: 3}
    model = to_onnx(fitted, initial_types=[("X", kind)], options=options, target_opset=opset)

    known = ForeignGraph(model).known_labels.classes

    assert next(iter(known.values())) == fitted.classes_.tolist()


def test_each_of_two_labels_has_its_own_classes() -> None:
    """Each output has those of the nodes before it."""
    numbers = [[0, 0, 0], [0, 0, 0]]
    nodes = [
        node(
            "LinearClassifier", ["x"], [f"{name}_label", f"{name}_scores"], domain=ML,
            classlabels_strings=words, coefficients=np.ravel(numbers).astype(float),
            intercepts=[0.0, 0.0], post_transform="SOFTMAX",
        )
        for name, words in (("sex", ["f", "m"]), ("size", ["s", "l"]))
    ]  # fmt: skip
    outputs = [
        tensor(f"{name}_{part}", kind)
        for name in ("sex", "size")
        for part, kind in (("label", STRING), ("scores", FLOAT))
    ]

    known = ForeignGraph(assembled(nodes, [tensor("x", FLOAT, "N", 3)], outputs)).known_labels

    assert known.classes == {
        "sex_label": ["f", "m"],
        "sex_scores": ["f", "m"],
        "size_label": ["s", "l"],
        "size_scores": ["s", "l"],
    }


def label_model(*last: object, opset: int = 18) -> ModelProto:
    """A model whose ``label`` is computed from ``p``, one of three columns, by these nodes."""
    nodes = [node("Gather", ["x", "second"], ["p"], axis=1), *last]
    constants = [
        constant("second", [1]),
        constant("words", ["no", "maybe", "yes"]),
        constant("limit", np.float32(0.25)),
    ]
    outputs = [tensor("label", INT64), tensor("p", FLOAT)]
    return assembled(nodes, [tensor("x", FLOAT, "N", 3)], outputs, constants, opset)  # type: ignore[arg-type]


def test_labels_of_an_encoder_are_in_the_order_of_its_keys() -> None:
    """The words of a LabelEncoder can be listed in any order."""
    model = label_model(
        node("ArgMax", ["x"], ["best"], axis=1),
        node(
            "LabelEncoder", ["best"], ["label"], domain=ML,
            keys_int64s=[2, 0, 1], values_strings=["c", "a", "b"],
        ),
    )  # fmt: skip

    assert ForeignGraph(model).known_labels.classes == {"label": ["a", "b", "c"]}


@pytest.mark.parametrize("operator", ["Gather", "ArrayFeatureExtractor"])
def test_labels_can_be_chosen_from_a_constant(operator: str) -> None:
    """The constant lists the classes."""
    domain = ML if operator == "ArrayFeatureExtractor" else ""
    model = label_model(
        node("ArgMax", ["x"], ["best"], axis=1),
        node(operator, ["words", "best"], ["label"], domain=domain),
    )

    assert ForeignGraph(model).known_labels.classes == {"label": ["no", "maybe", "yes"]}


@pytest.mark.parametrize(("operator", "strict"), [("Greater", True), ("GreaterOrEqual", False)])
def test_the_limit_of_a_label_is_read(operator: str, strict: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """It is the constant in the last comparison."""
    model = label_model(
        node(operator, ["p", "limit"], ["is_second"]),
        node("Cast", ["is_second"], ["label"], to=INT64),
    )

    assert ForeignGraph(model).known_labels.comparisons == {"label": Comparison(0.25, strict)}


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (node("Less", ["limit", "p"], ["is_second"]), Comparison(0.25, strict=True)),
        (node("LessOrEqual", ["limit", "p"], ["is_second"]), Comparison(0.25, strict=False)),
        (node("Less", ["first", "limit"], ["is_second"]), Comparison(0.75, strict=True)),
        (node("LessOrEqual", ["first", "limit"], ["is_second"]), Comparison(0.75, strict=False)),
        (node("Greater", ["p", "first"], ["is_second"]), Comparison(None, strict=True)),
        (node("LessOrEqual", ["first", "p"], ["is_second"]), Comparison(None, strict=False)),
        (node("ArgMax", ["x"], ["is_second"], axis=1), Comparison(None, strict=True)),
        (
            node("ArgMax", ["x"], ["is_second"], axis=1, select_last_index=1),
            Comparison(None, strict=False),
        ),
    ],
    ids=lambda value: value.op_type if hasattr(value, "op_type") else "",
)
def test_what_a_tie_gives_is_read(last: object, expected: Comparison) -> None:
    """By the operator, on which side its constant is, and whose score it compares."""
    model = label_model(
        node("Gather", ["x", "zero"], ["first"], axis=1),
        last,
        node("Cast", ["is_second"], ["label"], to=INT64),
    )
    model.graph.initializer.append(constant("zero", [0]))

    assert ForeignGraph(model).known_labels.comparisons == {"label": expected}


def _regressor(steps: object, kind: object, cells: object) -> ModelProto:
    fitted = make_pipeline(steps, LinearRegression()).fit(cells, np.arange(len(cells)))  # type: ignore[arg-type]
    opset = {"": 18, ML: 3}
    return to_onnx(fitted, initial_types=[("X", kind)], target_opset=opset)  # type: ignore[no-any-return]


PAIRS = np.array([["b", " u"], ["a", "v"], ["c", "None"]], dtype=object)


@pytest.mark.parametrize("encoder", [OneHotEncoder(), OrdinalEncoder()])
def test_words_of_encoders_are_read_by_column(encoder: object) -> None:
    """As they are, with blanks, in the order of the graph."""
    model = _regressor(encoder, StringTensorType([None, 2]), PAIRS)

    found = ForeignGraph(model).vocabularies

    assert found == {("X", 0): ["a", "b", "c"], ("X", 1): [" u", "None", "v"]}


def test_words_are_found_behind_other_steps() -> None:
    """Columns are followed through selections, joins and the replacement of missing cells."""
    imputer = SimpleImputer(missing_values="", strategy="most_frequent")
    steps = ColumnTransformer(
        [
            ("number", "passthrough", [0]),
            ("words", make_pipeline(imputer, OneHotEncoder()), [2]),
            ("others", OrdinalEncoder(), [1]),
        ]
    )
    cells = np.array([[1, "b", "y"], [2, "a", "x"], [3, "a", "x"]], dtype=object)
    fitted = make_pipeline(steps, LinearRegression()).fit(cells, [1, 2, 3])
    inputs = [
        ("n", Int64TensorType([None, 1])),
        ("other", StringTensorType([None, 1])),
        ("word", StringTensorType([None, 1])),
    ]
    model = to_onnx(fitted, initial_types=inputs, target_opset={"": 18, ML: 3})

    found = ForeignGraph(model).vocabularies

    assert found == {("other", 0): ["a", "b"], ("word", 0): ["x", "y"]}


def test_words_of_a_category_mapper_and_of_a_comparison_are_read() -> None:
    """A mapper lists its words, a comparison has them as a constant."""
    nodes = [
        node(
            "CategoryMapper", ["a"], ["mapped"], domain=ML,
            cats_strings=["low", "high"], cats_int64s=[0, 1],
        ),
        node("Cast", ["mapped"], ["y"], to=FLOAT),
        node("Equal", ["b", "colors"], ["is_color"]),
        node("Cast", ["is_color"], ["z"], to=FLOAT),
    ]  # fmt: skip
    inputs = [tensor("a", STRING, "N", 1), tensor("b", STRING, "N", 1)]
    outputs = [tensor("y", FLOAT), tensor("z", FLOAT)]
    colors = constant("colors", [["red", "blue"]])

    found = ForeignGraph(assembled(nodes, inputs, outputs, [colors], opset=19)).vocabularies

    assert found == {("a", 0): ["low", "high"], ("b", 0): ["red", "blue"]}


def test_words_of_a_text_are_no_categories() -> None:
    """A text is split before its words are counted, so a cell is more than one of them."""
    fitted = make_pipeline(CountVectorizer(), LinearRegression())
    fitted.fit(["a long text", "a longer text"], [1, 2])
    kind = StringTensorType([None, 1])
    model = to_onnx(fitted, initial_types=[("X", kind)], target_opset={"": 18, ML: 3})

    assert ForeignGraph(model).vocabularies == {}


def test_words_that_are_counted_without_splitting_are_categories() -> None:
    """Each cell is one word of the pool."""
    nodes = [
        node(
            "TfIdfVectorizer", ["x"], ["y"], mode="TF", min_gram_length=1, max_gram_length=1,
            max_skip_count=0, ngram_counts=[0], ngram_indexes=[0, 1], pool_strings=["b", "a"],
        )
    ]  # fmt: skip
    model = assembled(nodes, [tensor("x", STRING, "N", 1)], [tensor("y", FLOAT, "N", 2)])

    assert ForeignGraph(model).vocabularies == {("x", 0): ["b", "a"]}
