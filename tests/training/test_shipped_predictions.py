"""Intervals, explanations and confidence of the shipped models, on their test sets."""

import asyncio
import gzip
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from service.bundle.features import BooleanFeature, CategoryFeature, Feature, FeaturesInput
from service.bundle.manifest import ClassesOutput
from service.bundle.store import read_bundle
from service.engine.loader import ExecutionPlan, load
from service.engine.model import BatchLimits, ServedModel
from service.engine.repository import Candidate
from service.engine.tensors import Array
from service.explain import predict_occluded
from service.observability.metrics import Metrics
from tests.conftest import StartApp
from training.data.sources import Folders
from training.data.table import Float32s
from training.evaluation.metrics import measure_low_confidence
from training.evaluation.published import open_model
from training.evaluation.results import EvaluatedModel, load_evaluated_model
from training.onnx_files import Graph

MODELS = Path(__file__).parents[2] / "models"
ADDITIVE = [
    path.parts[-3]
    for path in sorted(MODELS.glob("*/1/manifest.json"))
    if read_bundle(path.parent).manifest.reasons is not None
]


@cache
def evaluated(name: str, folders: Folders) -> EvaluatedModel:
    """A shipped model with its table, split as in training."""
    return load_evaluated_model(open_model(MODELS, name), MODELS, folders)


@pytest.mark.parametrize("name", ["california_mlp", "king_county", "california_linear"])
def test_intervals_cover_their_share_of_the_test_set(
    name: str, folders: Folders, models: Path, start: StartApp
) -> None:
    """Intervals of 90 % cover 88 to 92 % of the true values, and other levels accordingly."""
    made = evaluated(name, folders)
    rows, target = made.data.features[made.parts.test], made.data.target[made.parts.test]
    given = {
        "name": "features",
        "datatype": "FP32",
        "shape": rows.shape,
        "data": [[None if np.isnan(x) else x for x in row] for row in rows.tolist()],
    }
    shutil.copytree(MODELS / name, models / name)
    client = start()

    for level in (0.5, 0.8, 0.9, 0.95):
        body = {"inputs": [given], "parameters": {"interval": level}}
        outputs = client.post(f"/v2/models/{name}/infer", json=body).json()["outputs"]
        value, low, high = (np.array(output["data"]) for output in outputs)
        assert ((low <= value) & (value <= high)).all()
        assert ((low <= target) & (target <= high)).mean() == pytest.approx(level, abs=0.02)


def test_linear_and_logistic_models_have_explanations() -> None:
    """The list of explained models is not empty."""
    assert {"admission", "california_linear", "house_price", "ice_cream", "iris"} <= set(ADDITIVE)


def as_sent(features: list[Feature], row: Float32s) -> list[Any]:
    """A row of the graph's numbers as clients send it: words, booleans and missing values."""
    sent: list[Any] = []
    for feature, number in zip(features, row.tolist(), strict=True):
        if np.isnan(number):
            sent.append(None)
        elif isinstance(feature, CategoryFeature):
            sent.append(feature.categories[int(number)])
        else:
            sent.append(bool(number) if isinstance(feature, BooleanFeature) else number)
    return sent


@pytest.mark.parametrize("name", ADDITIVE)
def test_contributions_add_up_exactly_to_the_score(
    name: str, folders: Folders, models: Path, start: StartApp
) -> None:
    """The sum is exact for up to a hundred rows of the model's own table."""
    made = evaluated(name, folders)
    taken = made.model.manifest.input
    assert isinstance(taken, FeaturesInput)
    rows = [as_sent(taken.features, row) for row in made.data.features[:100]]

    shutil.copytree(MODELS / name, models / name)

    predictions = start().post(f"/models/{name}/explain", json=rows).json()

    assert predictions["method"] == "additive"
    for prediction in predictions["predictions"]:
        explanation = prediction["explanation"]
        base, contributions = explanation["base"], explanation["contributions"].values()
        assert sum(contributions) + base == explanation["score"]
        assert sum([base, *reversed(contributions)]) == explanation["score"]
        assert predicted(prediction, explanation) == pytest.approx(
            of(prediction), rel=1e-5, abs=1e-6
        )


def of(prediction: dict[str, Any]) -> float:
    """The number that is explained."""
    return float(prediction["probability"] if "label" in prediction else prediction["value"])


def predicted(prediction: dict[str, Any], explanation: dict[str, Any]) -> float:
    """The prediction that follows from the score."""
    score = float(explanation["score"])
    if explanation["of"].startswith("log-odds"):
        return float(1 / (1 + np.exp(-score)))
    if explanation["of"].startswith("log-probability"):
        others = np.log(list(prediction["probabilities"].values())).mean()
        return float(np.exp(score + others))
    if "1/2 + score / 6" in explanation["of"]:
        return float(np.clip(0.5 + score / 6, 0, 1))
    return score


def test_unsure_digits_are_wrong_ten_times_as_often_as_the_others(folders: Folders) -> None:
    """The published graph is evaluated on the test set with the threshold of its manifest."""
    bundle = read_bundle(MODELS / "digits_small" / "1")
    output = bundle.manifest.output
    assert isinstance(output, ClassesOutput)
    assert output.unsure_below is not None

    shares = Graph(bundle.model).predict(
        mnist(folders, "images-idx3", offset=16).reshape(-1, 28, 28, 1)
    )
    right = shares.argmax(axis=1) == mnist(folders, "labels-idx1", offset=8)
    found = measure_low_confidence(shares.max(axis=1), right, output.unsure_below)

    assert found["wrong[unsure]"] >= 10 * found["wrong[others]"]
    assert found["unsure_share"] < 0.1


def mnist(folders: Folders, kind: str, offset: int) -> npt.NDArray[np.uint8]:
    """A file of MNIST's test set, without its header."""
    assert folders.data is not None
    path = folders.data / "mnist" / f"t10k-{kind}-ubyte.gz"
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=offset)


def test_the_occlusion_map_of_a_digit_is_highest_at_its_strokes(folders: Folders) -> None:
    """For ten test images, the cell with the largest drop has ink."""
    digits = mnist(folders, "images-idx3", offset=16).reshape(-1, 28, 28, 1)[:10]
    limits = BatchLimits(max_batch_rows=64, max_queued_rows=10_000)
    candidate = Candidate("digits_cnn", "1", MODELS / "digits_cnn" / "1", ())

    async def explained(model: ServedModel) -> tuple[Array, Array]:
        whole = (await model.predict((digits,))).outputs[0]
        return whole, await predict_occluded(model, digits, 7)

    with load(candidate, ExecutionPlan(), limits, Metrics()) as model:
        whole, without = asyncio.run(explained(model))
        asyncio.run(model.close())

    for digit, prediction, grid in zip(digits, whole, without, strict=True):
        drops = prediction[prediction.argmax()] - grid[:, :, prediction.argmax()]
        down, across = np.divmod(int(drops.argmax()), 7)
        # Cells of four pixels, each with a margin of two.
        patch = digit[max(4 * down - 2, 0) : 4 * down + 6, max(4 * across - 2, 0) : 4 * across + 6]
        assert drops.max() > 0
        assert patch.max() > 127
