"""The exported graph equals PyTorch for every kind of column and recipe."""

from typing import Any

import numpy as np
import onnx
import pytest

from service.bundle.manifest import output_name
from training.data.table import Dataset, Float32s, encode, table_from_rows
from training.errors import ExportError
from training.export.manifest import describe_output
from training.export.onnx_export import create_examples, export, export_all, verify
from training.learn import fit_model
from training.model.blend import Blend
from training.model.networks import Predictor
from training.onnx_files import Graph
from training.recipe.loader import parse_recipe
from training.recipe.table import Recipe

_FEATURES = [
    {"name": "size", "type": "number", "optional": True},
    {"name": "rooms", "type": "integer"},
    {"name": "garden", "type": "boolean", "optional": True},
    {"name": "color", "type": "category", "unseen": "other", "optional": True},
]
_LABELS: dict[str, list[str]] = {
    "regression": [],
    "binary": ["low", "high"],
    "multiclass": ["low", "middle", "high"],
}
# Each family, scaler, embedding, activation, number of members and kind of target, all of which
# are selected by the seed, with and without clipping.
_CASES = [
    ("linear", "regression", 0, "min-max", 0.0),
    ("linear", "regression", 1, "robust", 0.1),
    ("logistic", "binary", 3, "mean", 0.1),
    ("perceptron", "binary", 2, "none", 0.0),
    ("logistic", "multiclass", 5, "standard", 0.0),
    ("mlp", "regression", 4, "standard", 0.1),
    ("mlp", "regression", 7, "none", 0.0),
    ("mlp", "binary", 11, "mean", 0.1),
    ("mlp", "multiclass", 9, "min-max", 0.1),
]


def _recipe(family: str, task: str, seed: int, **preprocessing: object) -> Recipe:
    """A recipe with a random table, which has missing values, rare words and constants."""
    generator = np.random.default_rng(seed)
    labels = _LABELS[task]
    rows: list[list[float | str]] = []
    for k in range(30):
        size = generator.normal(120, 30)
        prediction = labels[k % len(labels)] if labels else size * 2 + k
        rows.append(
            [
                "" if generator.random() < 0.2 else float(size),
                int(generator.integers(1, 6)),
                str(generator.choice(["yes", "no", ""])),
                str(generator.choice(["red", "green", "blue", ""])),
                prediction,
            ]
        )
    network: dict[str, Any] = {"family": family}
    if family == "mlp":
        embedding = ["none", "piecewise-linear", "periodic"][seed % 3]
        network |= {
            "hidden_layer_sizes": [6, 4],
            "embedding": embedding,
            "bins": 4,
            "members": 1 + seed % 2,
            "batch_norm": seed % 2 == 0,
            "activation": ["relu", "gelu", "maxout", "tanh"][seed % 4],
        }
    return parse_recipe(
        {
            "name": "drawn",
            "title": "Drawn",
            "data": {"rows": rows, "columns": ["size", "rooms", "garden", "color", "answer"]},
            "target": {"column": "answer", "labels": labels, "log": not labels and seed % 2 == 0},
            "features": _FEATURES,
            "split": {"test": 0.2},
            "preprocessing": preprocessing | {"rotated": [("size", "rooms")] if seed % 2 else []},
            "network": network,
            "training": {"optimizer": "Adam", "learning_rate": 0.01, "epochs": 2, "batch_size": 8},
        },
        "the test",
    )


def _learned(recipe: Recipe) -> tuple[Predictor, Dataset]:
    table = table_from_rows(recipe.data.rows or [], recipe.data.columns or [])
    everything = np.arange(table.frame.height)
    data = encode(table, recipe, everything)
    predictor = fit_model(recipe, data, everything, everything[:0]).predictor
    assert isinstance(predictor, Predictor)
    return predictor, data


def _unusual_rows() -> Float32s:
    """Missing values, an unknown category, and numbers far outside the training range."""
    gap = np.nan
    rows = [[gap, 1, gap, gap], [1e4, 99, 1, -1], [-1e4, 0, 0, 2], [0, 3, gap, -1], [1, 1, 1, 1]]
    return np.array(rows * 3, dtype=np.float32)


@pytest.mark.parametrize(("family", "task", "seed", "scaler", "clip"), _CASES)
def test_onnx_runtime_agrees_with_pytorch(
    family: str, task: str, seed: int, scaler: str, clip: float
) -> None:
    """On training rows and unusual ones, in batches of 1, 2, 7 and all."""
    recipe = _recipe(family, task, seed, scaler=scaler, clip=clip)
    predictor, data = _learned(recipe)
    output = output_name(describe_output(recipe, 0.5))

    model = export(predictor, output, len(data.columns))

    verify(model, predictor, np.vstack([data.features, _unusual_rows()]))
    assert np.isfinite(Graph(model).predict(_unusual_rows())).all()


def test_probabilities_of_a_row_sum_to_one() -> None:
    """The graph ends with the softmax."""
    predictor, data = _learned(_recipe("logistic", "multiclass", seed=1))

    predictions = Graph(export(predictor, "probabilities", 4)).predict(data.features)

    np.testing.assert_allclose(predictions.sum(axis=1), 1, atol=1e-6)


def test_a_graph_that_disagrees_is_rejected() -> None:
    """The graph of another model is rejected, and the message has both predictions."""
    predictor, data = _learned(_recipe("linear", "regression", seed=1))
    other, _ = _learned(_recipe("linear", "regression", seed=2))

    with pytest.raises(ExportError, match=r"disagree on \d+ of 30 rows.*Nothing was published"):
        verify(export(other, "value", 4), predictor, data.features)


def test_missing_values_of_examples_are_null() -> None:
    """The JSON of the example rows has null for a missing value."""
    predictor, _ = _learned(_recipe("linear", "regression", seed=1))

    examples = create_examples(predictor, _unusual_rows(), "value")

    assert examples.input.data[:4] == [None, 1.0, None, None]
    assert examples.output.shape == [8, 1]


def test_the_same_weights_give_the_same_bytes() -> None:
    """The file has no time and no path, and does not depend on what is exported with it."""
    predictor, data = _learned(_recipe("mlp", "regression", seed=4))
    other, _ = _learned(_recipe("linear", "regression", seed=1))
    columns = len(data.columns)

    alone = [export(one, "value", columns) for one in (predictor, predictor, other)]
    together = export_all([(predictor, columns), (other, columns)], "value")

    assert alone[0] == alone[1] == together[0]
    verify(together[1], other, data.features)


def test_members_share_what_they_compute_alike() -> None:
    """The mean of a model and itself has its nodes once, and those of the mean."""
    predictor, data = _learned(_recipe("mlp", "multiclass", seed=9, scaler="min-max"))
    columns = len(data.columns)

    alone = export(predictor, "value", columns)
    mean = export(Blend([predictor, predictor], [0.5, 0.5]), "value", columns)

    assert len(_nodes(mean)) <= len(_nodes(alone)) + 3
    np.testing.assert_allclose(
        Graph(mean).predict(data.features), Graph(alone).predict(data.features), rtol=1e-6
    )


def _nodes(graph: bytes) -> list[onnx.NodeProto]:
    return list(onnx.load_from_string(graph).graph.node)
