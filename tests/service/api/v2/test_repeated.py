"""Documents around bytes that come again are understood once, and what they ask is not mixed up."""

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest

from tests.conftest import StartApp
from tests.models import publish_admission, publish_price

PATH = "/v2/models/price/infer"


def posted(client: httpx.Client, document: dict[str, Any], content: bytes) -> httpx.Response:
    text = orjson.dumps(document)
    headers = {"inference-header-content-length": str(len(text))}
    return client.post(PATH, content=text + content, headers=headers)


def asked(values: list[float], **others: Any) -> tuple[dict[str, Any], bytes]:  # noqa: ANN401 - JSON
    content = np.array(values, "<f4").tobytes()
    tensor = {
        "name": "features",
        "shape": [len(values), 1],
        "datatype": "FP32",
        "parameters": {"binary_data_size": len(content)},
    }
    return {"inputs": [tensor], **others}, content


def in_bytes(answer: httpx.Response) -> list[float]:
    assert answer.status_code == 200, answer.text
    length = int(answer.headers["inference-header-content-length"])
    (output,) = orjson.loads(answer.content[:length])["outputs"]
    found = np.frombuffer(answer.content[length:], "<f4")
    assert output["shape"] == [len(found), 1]
    assert output["parameters"] == {"binary_data_size": found.nbytes}
    return [float(value) for value in found]


BINARY = {"parameters": {"binary_data_output": True}}


def test_the_same_words_with_other_bytes_are_answered_by_those(
    models: Path, start: StartApp
) -> None:
    """Twice the value, over and over, whatever came between."""
    publish_price(models)
    client = start()

    for values in ([1.0, 2.0], [3.0, 4.0], [5.0], [6.0, 7.0], [8.0], [1.0, 2.0]):
        assert in_bytes(posted(client, *asked(values, **BINARY))) == [2 * v for v in values]


def test_ids_and_forms_are_those_of_the_request(models: Path, start: StartApp) -> None:
    """A document with an id is another document, and so is one that wants JSON."""
    publish_price(models)
    client = start()

    for _ in range(3):
        for identity in ("a", "b"):
            answer = posted(client, *asked([1.0], id=identity))
            assert answer.json()["id"] == identity
            assert answer.json()["outputs"][0]["data"] == [2.0]
        assert in_bytes(posted(client, *asked([4.0], **BINARY))) == [8.0]


def test_bytes_that_do_not_add_up_are_refused_behind_known_words(
    models: Path, start: StartApp
) -> None:
    """As they are behind unknown ones."""
    publish_price(models)
    client = start()
    document, content = asked([1.0, 2.0], **BINARY)
    sent = [content[:-1], content + b"x", content[:4], b""]
    before = [posted(client, document, other) for other in sent]

    good = posted(client, document, content)
    after = [posted(client, document, other) for other in sent]

    assert in_bytes(good) == [2.0, 4.0]
    assert [answer.status_code for answer in before + after] == [400] * 8
    assert [answer.json() for answer in before] == [answer.json() for answer in after]


def test_rules_of_the_features_hold_behind_known_words(models: Path, start: StartApp) -> None:
    """An exam of 101 points is refused, and so is what is no number."""
    publish_admission(models)
    client = start()

    def answer(row: list[float]) -> httpx.Response:
        content = np.array(row, "<f4").tobytes()
        tensor = {"name": "features", "shape": [1, 2], "datatype": "FP32"}
        document = {"inputs": [tensor | {"parameters": {"binary_data_size": 8}}], **BINARY}
        text = orjson.dumps(document)
        return client.post(
            "/v2/models/admission/infer",
            content=text + content,
            headers={"inference-header-content-length": str(len(text))},
        )

    rows: list[list[float]] = [[61, 74], [61, 101], [61, np.nan], [61, 74]]
    found = [answer(row).status_code for row in rows]

    assert found == [200, 400, 400, 200]


@pytest.mark.parametrize("count", [200])
def test_ever_new_words_are_forgotten(models: Path, start: StartApp, count: int) -> None:
    """Each is answered, and none by another's."""
    publish_price(models)
    client = start()

    for number in range(count):
        document, content = asked([float(number)], id=str(number), **BINARY)
        assert in_bytes(posted(client, document, content)) == [2.0 * number]
