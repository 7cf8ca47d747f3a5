"""A bundle whose input is float64 gets the bits that a client sent, in every protocol."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from onnx import TensorProto

from tests.conftest import Serve, StartApp
from tests.models import publish
from tests.tensors import LENGTH, infer_in_binary, infer_in_json, outputs_in_binary, outputs_in_json
from tests.wide_models import (
    LARGEST,
    RECENT,
    WORDS,
    lost_bits,
    publish_wide,
    publish_words,
    wide_examples,
    wide_graph,
    wide_manifest,
)

Row = list[float]
ROWS: list[Row] = [[LARGEST, RECENT], [LARGEST - 1, 0.1], [-LARGEST, 1e30 / 3], [7, -1e-30]]
ROWS += [[2**24 + 1 + k, 1.1 * k] for k in range(40)]


@pytest.fixture(scope="module")
def client(serve: Serve) -> httpx.Client:
    """A client of the models of this file."""

    def publish_all(models: Path) -> None:
        publish_wide(models)
        publish_words(models)

    return serve(publish_all)


def named(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows as objects by feature name."""
    return [{"id": row[0], "time": row[1]} for row in rows]


def assert_exact(found: Sequence[Any], rows: Sequence[Row]) -> None:
    """Compare predictions with the oracle to the bit."""
    np.testing.assert_array_equal(np.array(found, np.float32), lost_bits(rows).ravel())


def post(client: httpx.Client, path: str, document: object) -> Any:  # noqa: ANN401 - JSON
    response = client.post(path, content=orjson.dumps(document))
    assert response.status_code == 200, response.text
    return response.json()


def score(client: httpx.Client, table: str, model: str = "wide") -> list[dict[str, str]]:
    """Score a CSV table, and return the rows of the response."""
    response = client.post(
        f"/models/{model}/predict", content=table, headers={"content-type": "text/csv"}
    )
    assert response.status_code == 200, response.text
    return list(csv.DictReader(io.StringIO(response.text)))


@pytest.mark.parametrize("rows", [ROWS[:1], ROWS], ids=["one row", "many rows"])
def test_json_rows_reach_the_graph_exactly(client: httpx.Client, rows: list[Row]) -> None:
    """As objects, arrays and instances."""
    for document in (named(rows), rows, {"instances": named(rows)}, {"instances": rows}):
        body = post(client, "/models/wide/predict", document)
        assert_exact([one["value"] for one in body["predictions"]], rows)


def test_one_object_reaches_the_graph_exactly(client: httpx.Client) -> None:
    """A single object has a single prediction."""
    for row in ROWS[:5]:
        body = post(client, "/models/wide/predict", named([row])[0])
        assert_exact([body["value"]], [row])


def test_missing_values_are_nan_in_64_bits(client: httpx.Client) -> None:
    """The optional feature may be null, which the careful decoder reads."""
    body = post(client, "/models/wide/predict", [{"id": LARGEST, "time": None}, {"id": LARGEST}])

    assert_exact([one["value"] for one in body["predictions"]], [[LARGEST, np.nan]] * 2)


def test_tables_reach_the_graph_exactly(client: httpx.Client) -> None:
    """CSV, and newline-delimited JSON; an invalid row does not change the others."""
    table = "id,time\n" + "".join(f"{row[0]},{row[1]!r}\n" for row in ROWS)
    lines = b"\n".join(map(orjson.dumps, named(ROWS)))

    for text in (table, table + "x,1\n", table.replace("\n7,", '\n"7",')):
        found = score(client, text)
        assert_exact([row["value"] for row in found[: len(ROWS)]], ROWS)
    for body in (lines, lines + b'\n{"id": "x"}'):
        response = client.post(
            "/models/wide/predict", content=body, headers={"content-type": "application/x-ndjson"}
        )
        predictions = list(map(orjson.loads, response.text.splitlines()))
        assert_exact([one["value"] for one in predictions[: len(ROWS)]], ROWS)


def test_v1_rows_and_columns_reach_the_graph_exactly(client: httpx.Client) -> None:
    """By feature, as the matrix of the graph, and by columns."""
    columns = {"id": [row[0] for row in ROWS], "time": [row[1] for row in ROWS]}
    for document, key in (
        ({"instances": named(ROWS)}, "predictions"),
        ({"instances": ROWS}, "predictions"),
        ({"instances": ROWS[:1]}, "predictions"),
        ({"instances": [{"features": row} for row in ROWS]}, "predictions"),
        ({"inputs": columns}, "outputs"),
        ({"inputs": ROWS}, "outputs"),
        ({"inputs": {"features": ROWS}}, "outputs"),
    ):
        found = post(client, "/v1/models/wide:predict", document)[key]
        assert_exact(np.ravel(found).tolist(), ROWS[: len(found)])


def test_v2_tensors_reach_the_graph_exactly(client: httpx.Client) -> None:
    """In JSON and in binary, also when a request repeats the JSON of another."""
    matrix = {"features": np.array(ROWS, np.float64)}
    for _ in range(2):
        for send, read in ((infer_in_json, outputs_in_json), (infer_in_binary, outputs_in_binary)):
            array = read(send(client, "wide", matrix), ["value"])[0]
            assert array is not None
            assert_exact(array.ravel().tolist(), ROWS)


def test_a_raw_body_is_one_row_of_doubles(client: httpx.Client) -> None:
    """A binary request without JSON has the bytes of the graph's input."""
    response = client.post(
        "/v2/models/wide/infer",
        content=np.array(ROWS[0], np.float64).tobytes(),
        headers={LENGTH: "0"},
    )

    array = outputs_in_binary(response, ["value"])[0]
    assert array is not None
    assert_exact(array.ravel().tolist(), ROWS[:1])


@pytest.mark.parametrize(
    "dtype", ["float32", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
)
def test_tensors_of_other_numbers_are_converted_exactly(client: httpx.Client, dtype: str) -> None:
    """Every such number is one in 64 bits; clients of the 32-bit version keep working."""
    largest = min(LARGEST, int(np.iinfo(dtype).max)) if dtype != "float32" else 2**24
    matrix = np.array([[largest, 3], [5, largest]], dtype)

    for send, read in ((infer_in_json, outputs_in_json), (infer_in_binary, outputs_in_binary)):
        array = read(send(client, "wide", {"features": matrix}), ["value"])[0]
        assert array is not None
        assert_exact(array.ravel().tolist(), matrix.tolist())


def test_tensors_of_words_are_rejected(client: httpx.Client) -> None:
    """The message names the type that the model expects."""
    for datatype in ("BYTES", "BOOL", ["FP32"], None):
        tensor = {"name": "features", "shape": [1, 2], "datatype": datatype, "data": ["1", "2"]}
        response = client.post("/v2/models/wide/infer", content=orjson.dumps({"inputs": [tensor]}))

        assert response.status_code == 400
        assert "the model expects FP64" in response.json()["error"]


def test_metadata_states_64_bits(client: httpx.Client) -> None:
    """Clients of v2 and of TensorFlow Serving read the type of the input."""
    metadata = client.get("/v2/models/wide").json()
    signature = client.get("/v1/models/wide/metadata").text

    assert metadata["inputs"] == [{"name": "features", "datatype": "FP64", "shape": [-1, 2]}]
    assert "DT_DOUBLE" in signature


def test_the_openapi_document_has_the_numbers_of_64_bits(client: httpx.Client) -> None:
    """Only integers have a largest one."""
    document = client.get("/openapi.json").json()

    row = document["components"]["schemas"]["WideRow"]
    identifier, time = row["properties"]["id"], row["properties"]["time"]
    assert (identifier["minimum"], identifier["maximum"]) == (-LARGEST, LARGEST)
    assert not {"minimum", "maximum"} & set(time)


def test_integers_beyond_53_bits_are_rejected(client: httpx.Client) -> None:
    """They may have been rounded before they arrived, and the message names the largest."""
    largest = "9,007,199,254,740,991"
    beyond = LARGEST + 2
    wide = {"features": np.array([[beyond, 1]], np.int64)}
    doubles = {"features": np.array([[beyond, 1]], np.float64)}
    replies = [
        client.post("/models/wide/predict", content=orjson.dumps({"id": beyond, "time": 1})),
        client.post("/models/wide/predict", content=orjson.dumps([[1, 1], [beyond, 1]])),
        client.post("/v1/models/wide:predict", content=orjson.dumps({"inputs": [[beyond, 1]]})),
        infer_in_json(client, "wide", wide),
        infer_in_binary(client, "wide", wide),
        infer_in_json(client, "wide", doubles),
        infer_in_binary(client, "wide", doubles),
    ]

    for reply in replies:
        assert reply.status_code == 400
        assert largest in reply.text
        assert "'id'" in reply.text
    (row,) = score(client, f"id,time\n{beyond},1\n")
    assert not row["value"]
    assert str(beyond) in row["error"]


def test_large_tensors_of_integers_name_the_row_and_the_feature(client: httpx.Client) -> None:
    """The first number that 64 bits of floating point cannot hold."""
    matrix = np.array([[1, 1], [2, 1], [2**63 + 1, 1]], np.uint64)

    reply = infer_in_json(client, "wide", {"features": matrix})

    assert reply.json()["error"] == (
        "Row 2: feature 'id' is 9223372036854775809; UINT64 is exact in FP64 up to "
        "9,007,199,254,740,991."
    )


def test_warnings_show_as_many_digits_as_differ(client: httpx.Client) -> None:
    """With seven digits the value would be within the range."""
    (sentence,) = post(client, "/models/wide/predict", {"id": LARGEST, "time": 1})["warnings"]

    assert sentence == (
        "Feature 'id' is 9007199254740991, outside the training range 9007198180999167 to "
        "9007199254740990; the prediction is unreliable."
    )
    assert "warnings" not in post(client, "/models/wide/predict", {"id": LARGEST - 1, "time": 1})


def test_explanations_mix_rows_in_64_bits(client: httpx.Client) -> None:
    """The score of an explanation is the prediction, and its parts add up to it."""
    row = {"id": LARGEST, "time": RECENT}

    explained = post(client, "/models/wide/explain", row)["explanation"]

    assert explained["score"] == float(lost_bits([[LARGEST, RECENT]])[0, 0])
    # The reference is the example, which is this row.
    assert explained["contributions"] == {"id": 0, "time": 0}
    moved = post(client, "/models/wide/explain", {"id": LARGEST - 1, "time": RECENT})["explanation"]
    assert moved["contributions"]["time"] == 0
    assert moved["score"] == float(lost_bits([[LARGEST - 1, RECENT]])[0, 0])


def test_the_graph_and_the_examples_must_have_the_type_of_the_manifest(
    models: Path, start: StartApp
) -> None:
    """Each other version is rejected with its reason."""
    examples = wide_examples()
    narrow = examples.input.model_copy(update={"datatype": "FP32"})
    publish(models, wide_manifest("graph"), wide_graph(TensorProto.FLOAT), examples)
    publish(
        models,
        wide_manifest("examples"),
        wide_graph(),
        examples.model_copy(update={"input": narrow}),
    )

    index = start().post("/v2/repository/index").json()

    reasons = {entry["name"]: entry["reason"] for entry in index}
    assert "features FP32 [-1, 2], not features FP64 [-1, 2]" in reasons["graph"]
    assert "input is FP32, not FP64" in reasons["examples"]


def test_the_self_test_replays_64_bits(models: Path, start: StartApp) -> None:
    """A graph that rounds its input to 32 bits gives other outputs than the examples."""
    examples = wide_examples()
    rounded = examples.output.model_copy(update={"data": [0, 0, 0]})
    publish_wide(models, "exact")
    publish(
        models,
        wide_manifest("rounded"),
        wide_graph(),
        examples.model_copy(update={"output": rounded}),
    )

    states = {
        entry["name"]: entry["state"] for entry in start().post("/v2/repository/index").json()
    }

    assert states == {"exact": "READY", "rounded": "UNAVAILABLE"}


@pytest.mark.parametrize("word", WORDS)
def test_words_are_categories_as_they_are(client: httpx.Client, word: str) -> None:
    """Also those with blanks, and those that mean a missing value elsewhere."""
    position = float(WORDS.index(word))

    body = post(client, "/models/words/predict", {"word": word, "x": 1})
    plain, quoted = score(client, f'word,x\n{word},1\n"{word}",1\n', "words")

    assert body["value"] == position
    assert float(plain["value"]) == position
    assert float(quoted["value"]) == position


def test_words_that_are_no_categories_are_stripped(client: httpx.Client) -> None:
    """As training strips cells; other words for missing values are still missing."""
    for word, found in (("NA ", "NA"), ("  Private", "Private"), ("\tNone", "None"), (" ", "")):
        position = float(WORDS.index(found))
        assert post(client, "/models/words/predict", {"word": word, "x": 1})["value"] == position
        (row,) = score(client, f"word,x\n{word},1\n", "words")
        assert float(row["value"]) == position
    (missing,) = score(client, "word,x\nn/a,1\n", "words")
    assert "Every row needs it." in missing["error"]


def test_an_unknown_word_is_shown_with_its_blanks(client: httpx.Client) -> None:
    """So that a reader sees what differs."""
    (row,) = score(client, "word,x\n Pirvate,1\n", "words")

    assert '" Pirvate"' in row["error"]
