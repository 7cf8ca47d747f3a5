"""The output that becomes the prediction, by what it holds, its labels, or the user's choice."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_iris, make_classification
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from service.predictions import predict_labels
from training.errors import ImportRejected
from training.export.foreign_graph import ForeignGraph
from training.export.graph_reading import Comparison, KnownLabels
from training.export.label_matching import OtherRows
from training.export.node_attributes import ClassNames
from training.export.output_choice import find_output
from training.onnx_files import Array

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(50, 3)).astype(np.float32) * 3
P = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
BEST = P.argmax(axis=1)
WORDS = np.array(["a", "b", "c"], dtype=object)
SECOND = np.linspace(0, 1, 11, dtype=np.float32)
PAIR = np.column_stack([1 - SECOND, SECOND])


@pytest.mark.parametrize(
    "probabilities",
    [
        P,
        P.astype(np.float16),
        P.astype(np.float64),
        np.where(P.min() + 1e-9 > P, np.float32(-1e-7), P),
        np.round(P * 255).astype(np.float32) / 255,
        np.round(P * 256) / 256 + (P.max() == P) / 256,
        P[:1],
        P[:, None, :],
    ],
    ids=["32", "16", "64", "negative", "quantized", "rounded up", "one row", "three axes"],
)
def test_last_bits_and_quantized_steps_are_tolerated(probabilities: Array) -> None:
    """The output is published as it is, without what is outside of 0 and 1."""
    mapping = find_output({"p": probabilities}, None, [])

    assert mapping.form == "probabilities"
    assert mapping.labels == ["0", "1", "2"]
    expected = probabilities.reshape(-1, 3).astype(np.float32).clip(0, 1)
    np.testing.assert_array_equal(mapping.apply({"p": probabilities}), expected)


@pytest.mark.parametrize(
    "scores",
    [LOGITS, np.log(P), 1 / (1 + np.exp(-LOGITS)), P * 0.98, np.round(LOGITS * 16) / 16],
    ids=["logits", "logarithms", "several labels", "off by 2 %", "quantized logits"],
)
def test_other_scores_need_a_softmax(scores: Array) -> None:
    """The message names the option; with it, the output is the softmax."""
    with pytest.raises(ImportRejected, match=r"do not sum to one.*--activation softmax"):
        find_output({"z": scores}, None, [])

    mapping = find_output({"z": scores}, None, ["x", "y", "z"], activation="softmax")

    powers = np.exp(scores.astype(float))
    expected = powers / powers.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(mapping.apply({"z": scores}), expected, rtol=1e-5)
    assert mapping.labels == ["x", "y", "z"]


def test_one_logit_needs_a_sigmoid() -> None:
    """With labels it is rejected without the option; without labels it is a value."""
    logit = LOGITS[:, :1]

    with pytest.raises(
        ImportRejected, match=r"not a probability of 2 labels.*--activation sigmoid"
    ):
        find_output({"z": logit}, None, ["no", "yes"])
    mapping = find_output({"z": logit}, None, ["no", "yes"], activation="sigmoid")

    assert find_output({"z": logit}, None, []).form == "value"
    assert mapping.form == "probability"
    expected = 1 / (1 + np.exp(-logit.astype(float)))
    np.testing.assert_allclose(mapping.apply({"z": logit}), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("outputs", "options", "sentence"),
    [
        ({"p": P}, {"activation": "softmax"}, "already holds probabilities"),
        ({"z": LOGITS}, {"activation": "sigmoid"}, "use --activation softmax"),
        ({"z": LOGITS[:, :1]}, {"activation": "softmax"}, "use --activation sigmoid"),
        ({"z": LOGITS}, {"output": "z"}, "holds no probabilities.*--activation softmax"),
        ({"z": LOGITS}, {"output": "Z"}, "has no output 'Z'; its outputs are 'z'"),
        ({"y": BEST}, {"output": "y", "activation": "softmax"}, "is a label, which has no softmax"),
        ({"y": np.zeros((50, 2), int)}, {}, "has several targets, export a model for each"),
        ({"y": np.float32(3)}, {}, "none of its outputs is one prediction per row"),
        ({"y": [{"a": 1}]}, {}, "none of its outputs is one prediction per row: 'y', a list"),
    ],
)
def test_what_cannot_be_the_prediction_is_rejected_with_the_remedy(
    outputs: Mapping[str, Any], options: dict[str, Any], sentence: str
) -> None:
    """The message names the output and the option."""
    with pytest.raises(ImportRejected, match=sentence):
        find_output(outputs, None, [], **options)


@pytest.mark.parametrize("number", [np.nan, np.inf])
@pytest.mark.parametrize("rows", [1, 50])
@pytest.mark.parametrize("width", [1, 3])
def test_a_prediction_that_is_no_number_is_rejected_with_its_row(
    number: float, rows: int, width: int
) -> None:
    """Also a classifier, which is not published as a bare label because of one row."""
    table = P[:rows, :width].copy()
    table[-1] = number

    with pytest.raises(ImportRejected, match=rf"'p' .*on 1 of {rows} rows, first on row {rows},"):
        find_output({"label": BEST[:rows], "p": table}, [0, 1, 2], [], output="p")


def test_an_output_is_chosen_by_its_name() -> None:
    """Any output can be chosen, if one would not be."""
    outputs = {"p": P, "sex": PAIR, "age": SECOND}
    outputs = {name: array[:11] for name, array in outputs.items()}

    assert find_output(outputs, None, [], output="sex").labels == ["0", "1"]
    assert find_output(outputs, None, [], output="age").form == "value"


def test_several_fitting_outputs_are_listed() -> None:
    """None of them is taken silently."""
    outputs = {"p": P[:11], "sex": PAIR}

    with pytest.raises(ImportRejected, match=r"'p' \(3 probabilities\), 'sex' \(2 prob.*--output"):
        find_output(outputs, None, [])
    with pytest.raises(ImportRejected, match=r"'a' \(one number\), 'b' \(one number\)"):
        find_output({"a": SECOND, "b": SECOND + 1}, None, [])


def test_the_output_that_fits_the_labels_is_chosen() -> None:
    """Two labels are those of two probabilities; what is not served is noted."""
    mapping = find_output({"p": P[:11], "sex": PAIR}, None, ["f", "m"])

    assert mapping.output == "sex"
    assert mapping.labels == ["f", "m"]
    assert mapping.remark == "Not served are the outputs 'p' (3 probabilities)."


@pytest.mark.parametrize(
    ("classes", "target", "output"),
    [
        ({}, {"0", "1"}, "sex"),
        ({}, {"0", "1", "2"}, "p"),
        ({"p": ["a", "b", "c"], "sex": ["f", "m"]}, {"m"}, "sex"),
        ({"p": ["a", "b", "c"], "sex": ["f", "m"]}, {"c"}, "p"),
    ],
)
def test_the_output_that_fits_the_target_is_chosen(
    classes: dict[str, ClassNames], target: set[str], output: str
) -> None:
    """By its class names, or by numbers if it has none."""
    known = KnownLabels(classes, target=frozenset(target))

    assert find_output({"p": P[:11], "sex": PAIR}, known, []).output == output


@pytest.mark.parametrize("label", [WORDS[BEST], BEST, BEST.astype(np.int32).reshape(-1, 1)])
@pytest.mark.parametrize("classes", [None, ["a", "b", "c"]])
def test_names_of_probabilities_come_from_the_graph_or_its_label(
    label: Array, classes: list[str] | None
) -> None:
    """The label's own values, if the graph lists none; numbers can be positions of words."""
    mapping = find_output({"label": label, "p": P}, classes, [])

    words = classes is not None or label.dtype == object
    assert mapping.labels == (["a", "b", "c"] if words else ["0", "1", "2"])
    assert mapping.label_output == "label"
    positions = mapping.read_positions({"label": label, "p": P})
    assert positions is not None
    np.testing.assert_array_equal(positions, BEST)


def test_each_label_belongs_to_its_own_probabilities() -> None:
    """Of two labels, the one with the classes of the output."""
    outputs = {"size": WORDS[BEST][:11], "sex": (SECOND > 0.5) * 1, "p": P[:11], "q": PAIR}
    known = KnownLabels({"size": ["a", "b", "c"], "sex": ["f", "m"]})

    chosen = [find_output(outputs, known, [], output=name) for name in ("p", "q")]

    assert [one.label_output for one in chosen] == ["size", "sex"]
    assert [one.labels for one in chosen] == [["a", "b", "c"], ["f", "m"]]


def test_labels_in_another_order_than_the_graph_are_reordered() -> None:
    """The names of the graph itself are never swapped."""
    mapping = find_output({"p": PAIR}, ["benign", "malignant"], ["malignant", "benign"])

    assert mapping.labels == ["benign", "malignant"]
    assert "order of the graph" in mapping.remark


def test_labels_in_another_spelling_and_order_are_reordered() -> None:
    """Capital letters and blanks do not hide that two names are swapped."""
    mapping = find_output({"p": PAIR}, [" <=50K", " >50K"], [">50k", "<=50k"])

    assert mapping.labels == ["<=50k", ">50k"]


@pytest.mark.parametrize("labels", [[], ["red", "green", "blue"]])
def test_labels_that_the_graph_does_not_list_must_be_named(labels: list[str]) -> None:
    """If rows do not show all of them, their order is unknown."""
    outputs = {"label": WORDS[BEST][BEST < 2], "p": P[BEST < 2]}

    with pytest.raises(ImportRejected, match=r"does not list the labels of 'p'.*--labels"):
        find_output(outputs, None, labels)

    assert find_output(outputs, None, ["a", "b", "c"]).labels == ["a", "b", "c"]
    assert find_output(outputs, None, labels, output="p").label_output is None


def test_a_label_can_be_a_float() -> None:
    """Next to probabilities, whole numbers are positions of their columns."""
    label = (SECOND > 0.5).astype(np.float32)

    mapping = find_output({"label": label, "p": PAIR}, None, [])

    assert mapping.label_output == "label"
    assert mapping.threshold == np.nextafter(np.float32(0.5), np.float32(1))


def test_labels_that_name_another_class_of_the_graph_are_rejected() -> None:
    """A name that is at another position in the graph is a mistake."""
    with pytest.raises(ImportRejected, match="'c' is at position 2 of --labels, but at position 3"):
        find_output({"p": P}, ["a", "b", "c"], ["a", "c", "d"])


@pytest.mark.parametrize("labels", [["x", "y", "z"], ["1", "2", "3"]])
def test_labels_can_be_other_names(labels: list[str]) -> None:
    """Also numbers from 1 on for classes from 0 on."""
    assert find_output({"p": P}, [0, 1, 2], labels).labels == labels


def test_an_empty_class_needs_a_name() -> None:
    """A response cannot show it."""
    with pytest.raises(ImportRejected, match=r"class 1 is empty.*--labels.*'', 'b', 'c'"):
        find_output({"p": P}, ["", "b", "c"], [])

    mapping = find_output({"label": np.array(["", "b", "c"], object)[BEST], "p": P},
                          ["", "b", "c"], ["none", "b", "c"])  # fmt: skip
    assert mapping.labels == ["none", "b", "c"]
    assert mapping.classes == ["", "b", "c"]


def test_labels_of_outlier_detectors_can_be_negative() -> None:
    """Without a list in the graph, -1 and 1 are known; other numbers need names."""
    label = np.where(SECOND > 0.3, 1, -1)

    assert find_output({"label": label}, None, []).classes == [-1, 1]
    for labels in (["-1", "1"], ["outlier", "inlier"]):
        mapping = find_output({"label": label}, None, labels)
        assert mapping.labels == labels
        np.testing.assert_array_equal(mapping.apply({"label": label})[:, 0], SECOND > 0.3)
    with pytest.raises(ImportRejected, match="does not list the labels"):
        find_output({"label": label * 3}, None, [])


@pytest.mark.parametrize(
    ("limit", "comparison"),
    [(0.2, None), (0.5, None), (0.7, None), (0.65, Comparison(0.65, strict=True)), (1.0, None)],
)
@pytest.mark.parametrize("strict", [True, False])
def test_the_graph_s_own_threshold_is_found(
    limit: float,
    comparison: Comparison | None,
    strict: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Also at ties; the service then predicts the graph's own label on every row."""
    exact = np.float32(limit)
    label = np.array([one > exact if strict else one >= exact for one in SECOND]) * 1
    known = KnownLabels(comparisons={} if comparison is None else {"label": comparison})

    mapping = find_output({"label": label, "p": PAIR}, known, [])

    threshold = 0.5 if mapping.threshold is None else mapping.threshold
    scores = mapping.convert({"p": PAIR})
    np.testing.assert_array_equal(predict_labels(scores, threshold), label)
    assert (mapping.threshold is None) == (limit == 0.5 and not strict)
    if comparison is not None:
        assert threshold == np.nextafter(exact, np.float32(1))


def test_labels_without_a_threshold_are_rejected_with_their_rows() -> None:
    """The label can be published alone, or the probabilities with a note."""
    label = (SECOND >= 0.5) * 1
    label[3] = 1
    outputs = {"label": label, "p": PAIR}

    with pytest.raises(ImportRejected, match=r"row 5 is '0'.*row 4 is '1'.*--output label"):
        find_output(outputs, None, [])
    alone = find_output(outputs, [0, 1], [], output="label")
    chosen = find_output(outputs, [0, 1], [], output="p")

    np.testing.assert_array_equal(alone.apply(outputs)[:, 0], label)
    assert (alone.form, chosen.form) == ("label", "probabilities")
    assert "label 'label' differs on 1 of 11 rows" in chosen.remark


def test_labels_of_other_rows_narrow_the_threshold() -> None:
    """The rows of a table can be far from it."""
    far = {"label": np.array([0, 1]), "p": PAIR[[0, 10]]}
    others = OtherRows({"label": (SECOND >= 0.7) * 1, "p": PAIR})

    mapping = find_output(far, None, [], others=others)

    assert mapping.threshold is not None
    assert 0.6 < mapping.threshold <= 0.7


@pytest.mark.parametrize("count", [2, 3])
def test_labels_of_other_rows_that_no_rule_gives_are_rejected_with_the_row(count: int) -> None:
    """A leaf of a tree that the table does not reach can have a label of its own."""
    names = ["a", "b", "c"][:count]
    shares = np.eye(3, dtype=np.float32)[:, :count][:count] * 0.5 + (1 - 0.5) / count
    labels = np.array(names, dtype=object)
    known = KnownLabels({"label": names, "p": names})
    others = OtherRows(
        {"label": labels[[1, 0, *range(2, count)]], "p": shares},
        lambda row: f"the generated row {row}",
    )

    with pytest.raises(ImportRejected, match=r"the generated row 0 is 'b'.*--output label"):
        find_output({"label": labels, "p": shares}, known, [], others=others)
    mapping = find_output({"label": labels, "p": shares}, known, [], output="p", others=others)

    assert "differs on some rows between those of the table" in mapping.remark


def test_a_label_of_other_rows_that_is_no_class_is_rejected() -> None:
    """The classes are those that the rows show, if the graph lists none."""
    rows = {"label": np.array([4, 7]), "p": PAIR[[0, 10]]}
    others = OtherRows({"label": np.array([9]), "p": PAIR[:1]}, "generated row {}".format)

    with pytest.raises(ImportRejected, match=r"on generated row 0.*is 9,.*--labels"):
        find_output(rows, None, ["4", "7"], others=others)


def test_a_label_that_is_not_the_most_probable_one_is_rejected_with_its_row() -> None:
    """Of more than two labels, the service always predicts the most probable one."""
    label = BEST.copy()
    label[7] = (label[7] + 1) % 3

    with pytest.raises(ImportRejected, match=r"on 1 of 50 rows: row 8 is.*--output label"):
        find_output({"label": label, "p": P}, None, [])


def _read(fitted: Any, rows: Array) -> tuple[ForeignGraph, dict[str, Array]]:  # noqa: ANN401 - scikit-learn ships no types
    kind = FloatTensorType([None, rows.shape[1]])
    opset = {"": 18, "ai.onnx.ml": 3}
    foreign = ForeignGraph(to_onnx(fitted, initial_types=[("X", kind)], target_opset=opset))
    return foreign, foreign.run_original({"X": rows})


def test_ties_of_nearest_neighbors_give_the_first_label() -> None:
    """As in scikit-learn, though the probability of the second label is 0.5."""
    rows, classes = make_classification(300, 6, random_state=0)
    rows = rows.astype(np.float32)
    fitted = KNeighborsClassifier(2).fit(rows, classes)
    foreign, outputs = _read(fitted, rows)

    mapping = find_output(outputs, foreign.known_labels, [])

    assert (mapping.apply(outputs) == 0.5).any()
    np.testing.assert_array_equal(mapping.predict_positions(outputs), fitted.predict(rows))


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_support_vector_machine_keeps_its_own_labels() -> None:
    """They are not those of its probabilities, so two classes need a threshold of their own."""
    rows, classes = load_iris(return_X_y=True)
    rows = rows.astype(np.float32)
    fitted = SVC(probability=True, random_state=0).fit(rows, classes == 1)
    foreign, outputs = _read(fitted, rows)

    mapping = find_output(outputs, foreign.known_labels, [])

    assert mapping.threshold is not None
    np.testing.assert_array_equal(mapping.predict_positions(outputs), fitted.predict(rows))


def test_an_isolation_forest_is_a_label_or_a_score() -> None:
    """Its label is -1 or 1; the score can be chosen."""
    rows = load_iris().data.astype(np.float32)
    fitted = IsolationForest(n_estimators=5, random_state=0).fit(rows)
    foreign, outputs = _read(fitted, rows)

    label = find_output(outputs, foreign.known_labels, [])
    score = find_output(outputs, foreign.known_labels, [], output="scores")

    expected = fitted.predict(rows)
    np.testing.assert_array_equal(np.array([-1, 1])[label.predict_positions(outputs)], expected)
    assert "Not served are the outputs 'scores'" in label.remark
    expected = fitted.decision_function(rows)
    np.testing.assert_allclose(score.apply(outputs)[:, 0], expected, atol=1e-6)


def test_probabilities_without_the_classes_of_the_label_do_not_replace_it() -> None:
    """An inner one-hot output next to a label of two classes is not its probabilities."""
    inner = np.eye(3, dtype=np.float32)[BEST]
    outputs = {"inner": inner, "label": np.array(["no", "yes"], object)[BEST % 2]}
    known = KnownLabels({"label": ["no", "yes"]})

    with pytest.raises(ImportRejected, match=r"'inner' \(3 probabilities\), 'label' \(a label\)"):
        find_output(outputs, known, [])
    assert find_output(outputs, known, [], output="label").labels == ["no", "yes"]


@pytest.mark.parametrize("sums", [0.0, 0.5])
def test_probabilities_that_do_not_sum_to_one_on_some_rows_are_rejected(sums: float) -> None:
    """They are neither served as they are nor replaced by a bare label."""
    probabilities = P.copy()
    probabilities[7] *= sums
    outputs = {"label": WORDS[BEST], "probabilities": probabilities}
    known = KnownLabels({"label": ["a", "b", "c"], "probabilities": ["a", "b", "c"]})

    with pytest.raises(ImportRejected, match=rf"sum to {sums:g} instead of one .* first on row 8"):
        find_output(outputs, known, [])
    assert find_output(outputs, known, [], output="label").form == "label"


def test_a_classifier_without_any_probability_is_rejected() -> None:
    """Scores that are zero on every row are probabilities whose division has failed."""
    outputs = {"label": WORDS[BEST], "probabilities": np.zeros_like(P)}

    with pytest.raises(ImportRejected, match="sum to 0 instead of one on 50 of 50 rows"):
        find_output(outputs, KnownLabels({"label": ["a", "b", "c"]}), [])


def test_logits_and_a_number_that_fit_the_labels_need_a_choice() -> None:
    """A number between 0 and 1 next to logits of two labels is not taken silently."""
    outputs = {"logits": LOGITS[:, :2], "inner": SECOND[BEST]}

    with pytest.raises(ImportRejected, match=r"'logits' \(2 numbers\), 'inner' \(one number\)"):
        find_output(outputs, None, ["no", "yes"])


def test_a_number_that_would_need_a_threshold_to_be_the_label_needs_a_choice() -> None:
    """An inner column of 0 and 1 next to probabilities does not decide the served label."""
    outputs = {"probabilities": PAIR, "inner": (SECOND[:, None] >= 0.35).astype(np.float32)}

    with pytest.raises(ImportRejected, match="'inner' is 0 or 1, which may be a label"):
        find_output(outputs, None, ["no", "yes"])


def test_several_numbers_that_explain_the_label_need_a_choice() -> None:
    """The label is not published without its probability."""
    label = np.array(["no", "yes"], object)[(SECOND >= 0.5).astype(int)]
    outputs = {"share": SECOND, "label": label, "inner": (SECOND >= 0.5).astype(np.float32)}

    with pytest.raises(ImportRejected, match=r"'share' \(one number\), 'inner' \(one number\)"):
        find_output(outputs, KnownLabels({"label": ["no", "yes"]}), [])
