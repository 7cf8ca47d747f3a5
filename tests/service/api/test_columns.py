"""A graph with an input for each column serves every protocol by the names of its inputs.

The oracle is ONNX Runtime itself on the same file.
"""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.conftest import StartApp
from tests.foreign import serialized, tensor
from tests.models import publish_bare, sum_and_difference
from tests.processes import run_here

# The largest integers of 64 bits, which no floating-point number represents.
LARGE, UNSIGNED = 2**63 - 25, 2**64 - 3
ROWS: list[dict[str, Any]] = [
    {"age": 62, "id": LARGE, "key": UNSIGNED, "level": 255, "size": 0.1, "exact": 0.1},
    {"age": -5, "id": -LARGE, "key": 0, "level": 0, "size": None, "exact": 1e300},
    {"age": 0, "id": 2**53 + 1, "key": 2**53 + 1, "level": 7, "size": -3.25, "exact": None},
]
WORDS = [(" east", True), ("größe, „x“", False), ("", True)]
for _row, (_word, _flag) in zip(ROWS, WORDS, strict=True):
    _row |= {"word": _word, "flag": _flag}
TYPES: Mapping[str, tuple[int, Any, bool]] = {
    "age": (TensorProto.INT32, np.int32, True),
    "id": (TensorProto.INT64, np.int64, False),
    "key": (TensorProto.UINT64, np.uint64, True),
    "level": (TensorProto.UINT8, np.uint8, False),
    "size": (TensorProto.FLOAT, np.float32, True),
    "exact": (TensorProto.DOUBLE, np.float64, False),
    "word": (TensorProto.STRING, np.object_, True),
    "flag": (TensorProto.BOOL, np.bool_, False),
}
LABELS = ["low", "high", "none"]
CONFIG = 'output [ { name: "p" data_type: TYPE_FP32 dims: [3] label_filename: "labels.txt" } ]'


def copies() -> bytes:
    """Each input, ``[N]`` or ``[N, 1]``, is an output of the same type."""
    inputs, outputs, nodes = [], [], []
    for name, (element, _, wide) in TYPES.items():
        shape: list[int | str] = ["N", 1] if wide else ["N"]
        inputs.append(tensor(name, [*shape], element))
        outputs.append(tensor(f"{name}_out", [*shape], element))
        nodes.append(helper.make_node("Identity", [name], [f"{name}_out"]))
    return serialized(nodes, inputs, outputs)


def classifier() -> bytes:
    """The label is the last of the most probable ones, unlike that of an argmax."""
    weights = np.array([[1, 1, -1], [-1, 1, 1]], np.float32)
    nodes = [
        helper.make_node("Concat", ["a", "b"], ["ab"], axis=1),
        helper.make_node("MatMul", ["ab", "weights"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["p"], axis=1),
        helper.make_node("ArgMax", ["p"], ["best"], axis=1, keepdims=0, select_last_index=1),
        helper.make_node("Gather", ["names", "best"], ["label"]),
    ]
    constants = [
        numpy_helper.from_array(weights, "weights"),
        numpy_helper.from_array(np.array(LABELS, np.object_), "names"),
    ]
    outputs = [tensor("label", ["N"], TensorProto.STRING), tensor("p", ["N", 3])]
    return serialized(nodes, [tensor("a", ["N", 1]), tensor("b", ["N", 1])], outputs, constants)


def product() -> bytes:
    """``y = a * b``, of floats."""
    ends = [tensor(name, ["N"]) for name in ("a", "b", "y")]
    return serialized([helper.make_node("Mul", ["a", "b"], ["y"])], ends[:2], ends[2:])


def publish_classifier(models: Path) -> None:
    folder = publish_bare(models, "classifier", classifier())
    (folder.parent / "config.pbtxt").write_text(CONFIG)
    (folder.parent / "labels.txt").write_text("\n".join(LABELS))


def run(model: bytes, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """The outputs of ONNX Runtime, by name."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_outputs()]
    return dict(zip(names, session.run(None, dict(inputs)), strict=True))


def expected_copies() -> list[dict[str, Any]]:
    """The values of ONNX Runtime for `ROWS`; NaN is None."""
    inputs = {
        name: np.array([np.nan if row[name] is None else row[name] for row in ROWS], dtype).reshape(
            (-1, 1) if wide else (-1,)
        )
        for name, (_, dtype, wide) in TYPES.items()
    }
    outputs = run(copies(), inputs)
    table = {name: array.ravel().tolist() for name, array in outputs.items()}
    return [
        {
            name: None if values[row] != values[row] else values[row]
            for name, values in table.items()
        }
        for row in range(len(ROWS))
    ]


def same(got: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether values are equal, floats of 32 bits to their last bit."""
    floats = {name for name in got if name == "size_out" and got[name] is not None}
    for name in floats:
        if np.float32(got[name]) != np.float32(wanted[name]):
            return False
    rest = got.keys() - floats
    return got.keys() == wanted.keys() and all(got[name] == wanted[name] for name in rest)


def table_of(rows: list[dict[str, Any]]) -> str:
    """A CSV file whose columns are in another order than the inputs, with one more column."""
    output = io.StringIO()
    writer = csv.writer(output)
    names = ["note", *reversed(list(TYPES))]
    writer.writerow(names)
    for row in rows:
        cells = {"note": "n"} | row | {"flag": "yes" if row["flag"] else "False"}
        writer.writerow(["" if cells[name] is None else cells[name] for name in names])
    return output.getvalue()


def post_table(
    client: httpx.Client, model: str, content: str, media_type: str = "text/csv"
) -> httpx.Response:
    headers = {"content-type": media_type}
    return client.post(f"/models/{model}/predict", content=content.encode(), headers=headers)


def test_json_rows_of_every_type_reach_the_graph_unchanged(models: Path, start: StartApp) -> None:
    """Integers have all 64 bits, strings their blanks, and null is NaN."""
    publish_bare(models, "copies", copies())
    client = start()

    several = client.post("/models/copies/predict", json=ROWS)
    single = client.post("/models/copies/predict", json=ROWS[0])
    arrays = client.post(
        "/models/copies/predict", json=[[row[name] for name in TYPES] for row in ROWS]
    )

    assert several.status_code == 200, several.text
    predictions = several.json()["predictions"]
    assert all(map(same, predictions, expected_copies()))
    assert single.json() == predictions[0] | {"model_version": "1"}
    assert arrays.json() == several.json()


def test_tables_of_every_type_reach_the_graph_unchanged(models: Path, start: StartApp) -> None:
    """Columns are found by their names; empty cells are NaN, and words of truth are booleans."""
    publish_bare(models, "copies", copies())
    client = start()
    lines = "\n".join(map(json.dumps, ROWS))

    table = post_table(client, "copies", table_of(ROWS))
    ndjson = post_table(client, "copies", lines, "application/x-ndjson")

    assert table.status_code == 200, table.text
    rows = list(csv.DictReader(io.StringIO(table.text)))
    wanted = expected_copies()
    assert [row["note"] for row in rows] == ["n"] * len(ROWS)
    assert [row["error"] for row in rows] == [""] * len(ROWS)
    for row, line in zip(rows, wanted, strict=True):
        assert row["id_out"] == str(line["id_out"])
        assert row["key_out"] == str(line["key_out"])
        assert row["word_out"] == line["word_out"]
        assert row["flag_out"] == str(line["flag_out"]).lower()
        assert json.loads(row["exact_out"]) == line["exact_out"]
    assert all(map(same, map(json.loads, ndjson.text.splitlines()), wanted))


def test_the_command_scores_a_table_as_http_does(
    models: Path, start: StartApp, tmp_path: Path
) -> None:
    """The output is the same bytes."""
    publish_bare(models, "copies", copies())
    (tmp_path / "in.csv").write_text(table_of(ROWS))
    response = post_table(start(), "copies", table_of(ROWS))

    done = run_here("score", "--models", str(models), "copies", str(tmp_path / "in.csv"))

    assert done.stdout == response.content


def test_v1_takes_rows_columns_and_scalars(models: Path, start: StartApp) -> None:
    """Each value bare or in a list of its own; the predictions are those of ONNX Runtime."""
    publish_bare(models, "copies", copies())
    client = start()
    lists = [{name: [value] for name, value in row.items()} for row in ROWS]
    bodies: list[dict[str, Any]] = [
        {"instances": ROWS},
        {"instances": lists},
        {"instances": [[row[name] for name in TYPES] for row in ROWS]},
        {"inputs": {name: [row[name] for row in ROWS] for name in TYPES}},
        {"inputs": {name: [[row[name]] for row in ROWS] for name in TYPES}},
    ]

    for body in bodies:
        response = client.post("/v1/models/copies:predict", json=body)

        assert response.status_code == 200, response.text
        for name, values in _columns_of(response.json()).items():
            wanted = [row[name] for row in expected_copies()]
            assert [
                None if v is None else np.float32(v) if name == "size_out" else v for v in values
            ] == [None if v is None else np.float32(v) if name == "size_out" else v for v in wanted]
    scalars = client.post("/v1/models/copies:predict", json={"inputs": ROWS[0]})
    assert scalars.json()["outputs"]["id_out"] == [LARGE]


def _columns_of(document: dict[str, Any]) -> dict[str, list[Any]]:
    """The values of each output, flat."""
    if "outputs" in document:
        table = document["outputs"]
        return {name: np.array(table[name], np.object_).ravel().tolist() for name in table}
    rows = document["predictions"]
    return {
        name: np.array([row[name] for row in rows], np.object_).ravel().tolist() for name in rows[0]
    }


def test_v2_takes_null_for_a_missing_number(models: Path, start: StartApp) -> None:
    """Of a floating-point input; the metadata has the names and types."""
    publish_bare(models, "product", product())
    client = start()
    tensors = [
        {"name": name, "shape": [2], "datatype": "FP32", "data": [2.5, None]} for name in "ab"
    ]

    response = client.post("/v2/models/product/infer", json={"inputs": tensors})
    metadata = client.get("/v2/models/product").json()

    assert response.json()["outputs"][0]["data"] == [6.25, None]
    assert [spec["name"] for spec in metadata["inputs"]] == ["a", "b"]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"agee": 1}, "unknown feature \"agee\"; did you mean 'age'?"),
        ({"age": None}, "feature 'age' must be a whole number, got null. It is INT32"),
        ({"age": 2.5}, "feature 'age' must be a whole number, got 2.5"),
        ({"age": 2**31}, "It does not fit INT32; send a number from -2147483648 to 2147483647."),
        ({"level": 256}, "feature 'level' must be a whole number from 0 to 255, got 256"),
        ({"size": "1"}, "feature 'size' must be a number, got \"1\". Send 1 without the quotes."),
        ({"size": 1e39}, "It does not fit FP32"),
        ({"word": 5}, "feature 'word' must be a string, got 5. Send it as a string."),
        ({"flag": "yes"}, "feature 'flag' must be true or false"),
    ],
)
def test_an_invalid_value_is_reported_with_its_feature(
    models: Path, start: StartApp, changed: dict[str, Any], sentence: str
) -> None:
    """The message has the type in the graph, and what to send."""
    publish_bare(models, "copies", copies())
    row = ROWS[0] | changed
    if "agee" in changed:
        del row["age"]

    response = start().post("/models/copies/predict", json=[ROWS[0], row])

    assert response.status_code == 400
    assert sentence in response.json()["error"]
    assert response.json()["details"][0]["row"] == 1


def test_an_invalid_cell_is_the_error_of_its_row(models: Path, start: StartApp) -> None:
    """An empty cell is one in a column of integers."""
    publish_bare(models, "copies", copies())
    rows = [ROWS[0], ROWS[0] | {"id": None}, ROWS[0] | {"size": "wide"}]

    table = post_table(start(), "copies", table_of(rows))

    errors = [row["error"] for row in csv.DictReader(io.StringIO(table.text))]
    assert errors[0] == ""
    assert errors[1].startswith("Line 3: feature 'id' must be a whole number, got an empty cell.")
    assert errors[2].startswith("Line 4: feature 'size' must be a number, got \"wide\".")


def test_a_header_without_a_feature_is_rejected(models: Path, start: StartApp) -> None:
    """Nothing is scored, and the message has the name."""
    publish_bare(models, "product", product())

    response = post_table(start(), "product", "a,c\n1,2\n")

    assert response.status_code == 400
    assert "has no column 'b'" in response.json()["error"]


def test_the_class_is_the_graphs_own_label_output(models: Path, start: StartApp) -> None:
    """Also at a tie, where the first label would be as probable."""
    publish_classifier(models)
    client = start()
    rows = [{"a": 1.0, "b": 0.0}, {"a": 0.0, "b": 0.0}, {"a": -3.0, "b": 1.5}]
    inputs = {name: np.array([[row[name]] for row in rows], np.float32) for name in "ab"}
    wanted = run(classifier(), inputs)

    response = client.post("/models/classifier/predict", json=rows)
    single = client.post("/models/classifier/predict", json=rows[1])
    table = post_table(
        client, "classifier", "a,b\n" + "".join(f"{r['a']},{r['b']}\n" for r in rows)
    )
    ranked = client.post("/v1/models/classifier:classify", json={"examples": rows})

    predictions = response.json()["predictions"]
    assert wanted["label"].tolist() == ["high", "none", "none"]
    assert [row["label"] for row in predictions] == wanted["label"].tolist()
    for row, probabilities in zip(predictions, wanted["p"], strict=True):
        assert list(row["probabilities"]) == LABELS
        assert np.array_equal(np.array([*row["probabilities"].values()], np.float32), probabilities)
        assert row["probability"] == row["probabilities"][row["label"]]
    assert single.json() == predictions[1] | {"model_version": "1"}
    cells = list(csv.DictReader(io.StringIO(table.text)))
    assert [row["label"] for row in cells] == wanted["label"].tolist()
    assert [float(row["probability_high"]) for row in cells] == [
        row["probabilities"]["high"] for row in predictions
    ]
    assert [[name for name, _ in row] for row in ranked.json()["results"]] == [LABELS] * 3


def test_parameters_choose_the_parts_of_a_prediction(models: Path, start: StartApp) -> None:
    """Of labels; a graph without them has no parameter ``top``."""
    publish_classifier(models)
    publish_bare(models, "product", product())
    client = start()
    row = {"a": 1.0, "b": 0.0}

    top = client.post("/models/classifier/predict?top=2", json=row).json()
    none = client.post("/models/classifier/predict?probabilities=none", json=row).json()
    rejected = client.post("/models/product/predict?top=2", json=row)

    assert list(top["probabilities"]) == ["low", "high"]
    assert "probabilities" not in none
    assert rejected.status_code == 400
    assert "Parameter 'top' needs class labels" in rejected.json()["error"]


def test_numbers_are_explained_compared_with_zero(models: Path, start: StartApp) -> None:
    """Base and contributions add up to the prediction."""
    publish_bare(models, "product", product())
    publish_classifier(models)
    client = start()

    response = client.post("/models/product/explain", json={"a": 3.0, "b": 4.0}).json()
    svg = {"accept": "image/svg+xml"}
    image = client.post("/models/product/explain", json={"a": 3.0, "b": 4.0}, headers=svg)
    named = client.post("/models/classifier/explain?label=low", json=[{"a": 1, "b": 2}] * 2)

    assert response["y"] == 12
    assert response["explanation"] == {
        "of": "y",
        "base": 0.0,
        "contributions": {"a": 6.0, "b": 6.0},
        "score": 12.0,
    }
    assert response["reference"] == {"a": 0.0, "b": 0.0}
    for row in named.json()["predictions"]:
        explanation = row["explanation"]
        assert explanation["of"] == "probability of 'low'"
        assert explanation["score"] == pytest.approx(row["probabilities"]["low"])
    for title in ("base: 0.0", "a = 3: 6.0", "b = 4: 6.0", "result: 12.0"):
        assert f"<title>{title}</title>" in image.text


def test_a_graph_of_strings_says_why_it_has_no_explanations(models: Path, start: StartApp) -> None:
    """No string is neutral."""
    ends = [tensor(name, ["N"], TensorProto.STRING) for name in ("word", "same")]
    copied = serialized([helper.make_node("Identity", ["word"], ["same"])], ends[:1], ends[1:])
    publish_bare(models, "words", copied)

    client = start()
    response = client.post("/models/words/explain", json={"word": "east"})

    assert "/models/words/explain" not in client.get("/openapi.json").json()["paths"]
    assert response.status_code == 400
    assert "its features are strings" in response.json()["error"]


def test_the_features_are_listed_with_their_types(models: Path, start: StartApp) -> None:
    """In the description of the model and in the OpenAPI document."""
    publish_bare(models, "copies", copies())
    client = start()

    described = client.get("/models/copies").json()
    document = client.get("/openapi.json").json()

    features = {feature["name"]: feature for feature in described["features"]}
    assert list(features) == list(TYPES)
    assert features["id"] == {"name": "id", "type": "integer", "datatype": "INT64"}
    assert {features[name]["type"] for name in ("word", "flag", "size")} == {
        "string",
        "boolean",
        "number",
    }
    properties = document["components"]["schemas"]["CopiesRow"]["properties"]
    assert properties["word"]["type"] == "string"
    assert (properties["level"]["minimum"], properties["level"]["maximum"]) == (0, 255)
    assert "/models/copies/explain" in document["paths"]


def test_a_model_that_is_not_loaded_yet_is_described(models: Path, start: StartApp) -> None:
    """Its graph is opened for that, once."""
    publish_bare(models, "product", product())
    client = start(max_loaded_models=1)

    described = client.get("/models/product").json()

    assert [feature["name"] for feature in described["features"]] == ["a", "b"]


def test_a_matrix_without_names_refers_to_v2(models: Path, start: StartApp) -> None:
    """The message has its shape, and the shapes that would have names."""
    publish_bare(models, "simple", sum_and_difference())

    response = start().post("/models/simple/predict", json={"a": 1})

    assert response.status_code == 400
    assert "have no names for single features" in response.json()["error"]
    assert "/v2/models/simple/infer" in response.json()["error"]


def test_an_output_that_has_no_value_for_each_row_refers_to_v2(
    models: Path, start: StartApp
) -> None:
    """For one row it is the prediction of that row."""
    ends = [tensor("x", ["N"]), tensor("mean", [])]
    mean = helper.make_node("ReduceMean", ["x"], ["mean"], keepdims=0)
    publish_bare(models, "mean", serialized([mean], ends[:1], ends[1:]))
    client = start()

    one = client.post("/models/mean/predict", json={"x": 3})
    several = client.post("/models/mean/predict", json=[{"x": 3}, {"x": 4}])

    assert one.json() == {"mean": 3.0, "model_version": "1"}
    assert several.status_code == 400
    assert "not a value for each of 2 rows" in several.json()["error"]
