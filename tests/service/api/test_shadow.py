"""Shadow deployments over HTTP: copies of live requests of any protocol, and their report."""

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service.bundle.manifest import ClassesOutput
from service.bundle.policy import POLICY
from tests.conftest import StartApp
from tests.models import (
    examples,
    graph,
    manifest,
    number,
    publish,
    publish_iris,
    publish_mixed,
    publish_price,
)
from tests.processes import several
from tests.service.api.test_invalid_requests import assert_contract

LABELS = ["setosa", "versicolor", "virginica"]
REPORT = "/models/{}/versions/candidate/shadow"


def shadow(models: Path, name: str, share: object = 1, **aliases: int) -> None:
    """Make version 2 a shadow of the stable version 1."""
    policy = {"aliases": {"stable": 1, "candidate": 2} | aliases, "shadow": {"candidate": share}}
    (models / name / POLICY).write_text(json.dumps(policy))


def publish_doubtful_iris(models: Path, shift: float) -> None:
    """Publish the tests' iris model with the third label's score lower by ``shift``."""
    output = ClassesOutput(kind="classes", name="species", labels=LABELS)
    stated = manifest("iris", [number(letter) for letter in "abc"], output)
    rows = [[1.0, 2.0, 3.0], [3.0, 0.0, 0.0]]
    outputs = softmax(np.array(rows) - [0, 0, shift])
    model = graph(np.eye(3).tolist(), [0.0, 0.0, -shift], "probabilities", "Softmax")
    publish(models, stated, model, examples(rows, outputs, stated))


def softmax(scores: Any) -> Any:  # noqa: ANN401 - numpy's own
    exponentials = np.exp(scores)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def compared(client: httpx.Client, name: str, requests: int) -> Any:  # noqa: ANN401 - JSON
    """Return the report once that many requests are counted."""
    for _ in range(2000):
        report = client.get(REPORT.format(name)).json()
        if sum(report["requests"].values()) >= requests:
            return report
        time.sleep(0.02)
    raise AssertionError(report)


def test_a_difference_in_one_class_is_reported(models: Path, start: StartApp) -> None:
    """The statistics by class, by row and in total are those that numpy computes."""
    publish_iris(models)
    publish_doubtful_iris(models, shift=1.0)
    shadow(models, "iris")
    client = start()
    rows = np.random.default_rng(0).normal(0, 1, (300, 3)).astype(np.float32)

    for part in np.split(rows, 30):
        instances = [dict(zip("abc", row, strict=True)) for row in part.tolist()]
        response = client.post("/models/iris/predict", json={"instances": instances})
        assert response.json()["model_version"] == "1"
    report = compared(client, "iris", 30)

    one, other = softmax(rows), softmax(rows - [0, 0, 1.0])
    pairs = Counter(zip(one.argmax(axis=1).tolist(), other.argmax(axis=1).tolist(), strict=True))
    same = sum(count for (a, b), count in pairs.items() if a == b)
    virginica = sum(count for (a, _), count in pairs.items() if a == 2)
    assert report["requests"] == {"compared": 30, "dropped": 0, "failed": 0}
    assert (report["serving_version"], report["version"], report["rows"]) == ("1", "2", 300)
    assert report["agreement"] == pytest.approx(same / 300)
    by_label = {label["label"]: label for label in report["labels"]}
    assert [by_label[label]["agreement"] for label in LABELS[:2]] == [1.0, 1.0]
    assert by_label["virginica"]["rows"] == virginica
    assert by_label["virginica"]["agreement"] == pytest.approx(pairs[2, 2] / virginica)
    assert by_label["virginica"]["instead"] == {
        LABELS[label]: pairs[2, label] for label in (0, 1) if pairs[2, label]
    }
    apart = np.abs(other - one).max(axis=1)
    assert report["mean_difference"] == pytest.approx(apart.mean(), rel=1e-4)
    largest = [one["difference"] for one in report["largest_differences"]]
    assert largest == pytest.approx(sorted(apart, reverse=True)[:10], rel=1e-4)
    worst = report["largest_differences"][0]
    assert list(worst["row"].values()) == pytest.approx(rows[apart.argmax()].tolist())
    assert worst["serving"]["label"] == LABELS[one[apart.argmax()].argmax()]
    assert report["milliseconds"]["runs"] > 0
    assert set(report["milliseconds"]["candidate"]) == {"median", "p99"}


def test_numbers_are_compared_within_the_policys_tolerance(models: Path, start: StartApp) -> None:
    """Requests of every protocol are compared, each with its id."""
    publish_price(models, slope=2.0)
    publish_price(models, slope=2.1)
    shadow(models, "price", {"relative": 0, "absolute": 0.25})
    client = start()

    tensor = {"name": "features", "shape": [1, 1], "datatype": "FP32", "data": [2]}
    for path, body in (
        ("/models/price/predict", {"size": 1}),
        ("/v2/models/price/infer", {"inputs": [tensor]}),
        ("/v1/models/price:predict", {"instances": [[3]]}),
    ):
        client.post(path, json=body, headers={"x-request-id": path})
    report = compared(client, "price", 3)

    assert report["agreement"] == pytest.approx(2 / 3)
    assert "labels" not in report
    assert report["largest_differences"][0] == {
        "difference": pytest.approx(0.3, rel=1e-4),
        "serving": [6.0],
        "candidate": [pytest.approx(6.3)],
        "row": {"size": 3.0},
        "row_number": 0,
        "request_id": "/v1/models/price:predict",
    }


def test_only_requests_that_name_no_version_are_copied(models: Path, start: StartApp) -> None:
    """Requests for a version or an alias and invalid requests are not copied."""
    publish_price(models)
    publish_price(models)
    shadow(models, "price")
    client = start()

    for version in ("1", "2", "stable", "candidate"):
        client.post(f"/models/price/versions/{version}/predict", json={"size": 1})
    client.post("/models/price/predict", json={"siez": 1})
    client.post("/models/price/predict", json={"size": 1})

    assert compared(client, "price", 1)["requests"]["compared"] == 1
    page = client.get("/models/price").json()
    assert page["aliases"]["candidate"] == {"version": "2", "shadow": 1.0}


def test_a_share_of_the_requests_is_copied(models: Path, start: StartApp) -> None:
    """The number of copies is half of 200, within four standard deviations."""
    publish_price(models)
    publish_price(models)
    shadow(models, "price", 0.5)
    client = start()

    for _ in range(200):
        client.post("/models/price/predict", json={"size": 1})

    report = compared(client, "price", 70)
    assert 70 <= report["requests"]["compared"] <= 130


def test_a_candidate_with_other_inputs_affects_no_client(models: Path, start: StartApp) -> None:
    """Clients get predictions, and the report gives the reason why nothing is compared."""
    publish_price(models)
    publish_mixed(models, "price")
    shadow(models, "price")
    client = start()

    response = client.post("/models/price/predict", json={"size": 1})
    report = compared(client, "price", 1)

    assert response.json()["value"] == 2.0
    assert report["requests"] == {"compared": 0, "dropped": 0, "failed": 1}
    assert "takes other inputs" in report["failure"]
    assert (report["agreement"], report["rows"]) == (None, 0)


def test_deleting_a_report_resets_it(models: Path, start: StartApp) -> None:
    """The report is empty after a deletion, and then counts later requests."""
    publish_price(models)
    publish_price(models)
    shadow(models, "price")
    client = start()
    client.post("/models/price/predict", json={"size": 1})
    compared(client, "price", 1)

    deleted = client.delete(REPORT.format("price"))
    empty = client.get(REPORT.format("price")).json()
    client.post("/models/price/predict", json={"size": 1})

    assert (deleted.status_code, deleted.json()) == (200, {})
    assert (empty["requests"]["compared"], empty["since"]) == (0, None)
    assert compared(client, "price", 1)["rows"] == 1


def test_a_version_that_is_not_a_shadow_has_no_report(models: Path, start: StartApp) -> None:
    """The 404 error explains how to configure a shadow."""
    publish_price(models)
    client = start()

    response = client.get("/models/price/versions/1/shadow")

    assert 'under "shadow" in policy.json' in assert_contract(response, 404)["error"]
    assert_contract(client.get("/models/price/versions/7/shadow"), 404)


def test_the_stable_version_cannot_shadow_itself(models: Path, start: StartApp) -> None:
    """The description of the model has the error of its policy file."""
    publish_price(models)
    (models / "price" / POLICY).write_text('{"aliases": {"stable": 1}, "shadow": {"stable": 1}}')

    assert "cannot be a shadow of itself" in start().get("/models/price").json()["reason"]


def test_the_report_adds_up_the_comparisons_of_all_workers(models: Path) -> None:
    """Any worker reports and resets the tallies of all."""
    publish_price(models, slope=2.0)
    publish_price(models, slope=2.1)
    shadow(models, "price")

    with several(models, 2) as service:
        limits = httpx.Limits(max_keepalive_connections=0)
        with httpx.Client(base_url=service.address, limits=limits, timeout=30) as client:
            for size in range(1, 41):
                client.post("/models/price/predict", json={"size": size})
            compared(client, "price", 40)
            reports = [client.get(REPORT.format("price")).json() for _ in range(4)]
            client.delete(REPORT.format("price"))
            emptied = [client.get(REPORT.format("price")).json()["rows"] for _ in range(4)]

    assert [report["requests"]["compared"] for report in reports] == [40] * 4
    assert reports[0]["largest_differences"][0]["row"] == {"size": 40.0}
    assert emptied == [0] * 4
