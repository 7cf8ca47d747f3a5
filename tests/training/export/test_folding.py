"""Folding scales into the first and last layers does not change the predictions."""

from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from training.data.table import Float32s
from training.export.folding import fold_scaler
from training.export.onnx_export import export
from training.model.networks import Ensemble, MixedPredictor, Predictor, ValueHead
from training.model.preprocessing import Imputer, Preprocessing, Scaler
from training.onnx_files import Graph

_OFFSET, _SCALE = np.array([65.0, -3.0]), np.array([19.0, 0.5])
# Encoded columns: a number, a category of two words, and a number.
_COLUMNS = 3
_GAP = float("nan")


def _predictor(offset: float = 65.0, first: nn.Module | None = None, members: int = 1) -> Predictor:
    """Two numbers, one of which may be missing, and a category; random weights."""
    torch.manual_seed(1)
    scaler = Scaler(np.array([offset, _OFFSET[1]]), _SCALE)
    steps = nn.Sequential(Imputer(np.array([60.0, -2.5])), scaler)
    preprocessing = Preprocessing(steps, [0, 2], [(1, 2)], [])
    networks: list[nn.Module] = []
    for _ in range(members):
        layers = [nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1)]
        networks.append(nn.Sequential(*([first] if first else []), *layers))
    return Predictor(preprocessing, Ensemble(networks), nn.Sigmoid()).float().eval()


def _rows(offset: float = 65.0) -> Float32s:
    generator = np.random.default_rng(1)
    numbers = generator.normal([offset, _OFFSET[1]], _SCALE, (64, 2))
    rows = np.stack([numbers[:, 0], generator.integers(0, 2, 64), numbers[:, 1]], axis=1)
    rows[::7, 0] = _GAP
    return rows.astype(np.float32)


def _in_64_bits(predictor: Predictor, rows: Float32s) -> Float32s:
    with torch.no_grad():
        predictions = predictor.double()(torch.from_numpy(rows).double()).numpy()
    predictor.float()
    return np.asarray(predictions, np.float32)


def _operators(model: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_model_from_string(model).graph.node]


@pytest.mark.parametrize("members", [1, 2])
def test_folding_does_not_change_predictions(members: int) -> None:
    """With missing values, categories and several networks, up to rounding."""
    predictor, rows = _predictor(members=members), _rows()
    expected = _in_64_bits(predictor, rows)

    model = export(predictor, "probability", _COLUMNS)

    np.testing.assert_allclose(Graph(model).predict(rows), expected, rtol=2e-6)
    assert "Sub" not in _operators(model)
    assert "Div" not in _operators(model)


def test_folding_changes_a_copy() -> None:
    """The original predictor still uses its scaler."""
    predictor, rows = _predictor(), _rows()
    before = predictor.predict(rows)

    same = fold_scaler(predictor)

    assert same is not predictor
    assert predictor.predict(rows).tobytes() == before.tobytes()
    assert predictor.preprocessing.scaler is not None
    assert same.preprocessing.scaler is None


def test_a_column_far_from_zero_is_not_folded() -> None:
    """Subtracting the mean of years first preserves their last digits."""
    predictor, rows = _predictor(offset=65_000.0), _rows(offset=65_000.0)
    expected = _in_64_bits(predictor, rows)

    predictions = Graph(export(predictor, "probability", _COLUMNS)).predict(rows)

    assert fold_scaler(predictor) is predictor
    np.testing.assert_allclose(predictions, expected, rtol=2e-6)


def test_only_linear_layers_are_folded() -> None:
    """A scaler before another layer is not changed."""
    predictor = _predictor(first=nn.Tanh())

    assert fold_scaler(predictor) is predictor
    assert "Div" in _operators(export(predictor, "probability", _COLUMNS))


_WEIGHTS = [0.2, 0.8]


@pytest.mark.parametrize("log", [False, True])
def test_mixed_networks_have_one_last_layer_in_the_unit_of_the_target(*, log: bool) -> None:
    """Also if the logarithm of the target was fitted; the predictor itself does not change."""
    first = _predictor(members=2)
    networks = Ensemble([Ensemble([network]) for network in first.networks.members])
    head = ValueHead(Scaler(np.array([1.5]), np.array([0.4])), log=log)
    predictor = MixedPredictor(first.preprocessing, networks, head, _WEIGHTS).float().eval()
    rows = _rows()
    x = first.preprocessing(torch.from_numpy(rows))
    parts = [head(network(x)).detach().numpy() for network in networks.members]
    mean = sum(weight * part for weight, part in zip(_WEIGHTS, parts, strict=True))

    model = export(predictor, "value", _COLUMNS)

    np.testing.assert_allclose(predictor.predict(rows), mean, rtol=2e-6)
    np.testing.assert_allclose(Graph(model).predict(rows), mean, rtol=5e-6)
    assert Counter(_operators(model))["Gemm"] == 3


def test_mixed_networks_of_several_labels_are_not_joined() -> None:
    """Their predictions are the weighted mean of the probabilities of each label."""
    torch.manual_seed(1)
    networks = Ensemble([nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 3)) for _ in "ab"])
    preprocessing = Preprocessing(nn.Sequential(Scaler(_OFFSET, _SCALE)), [0, 1], [], [])
    head = nn.Softmax(dim=-1)
    predictor = MixedPredictor(preprocessing, networks, head, _WEIGHTS).float().eval()
    rows = _rows()[:, [0, 2]]
    rows[::7] = 1
    x = preprocessing(torch.from_numpy(rows))
    parts = [head(network(x)).detach().numpy() for network in networks.members]

    found = Graph(export(predictor, "probabilities", 2)).predict(rows)

    mean = sum(weight * part for weight, part in zip(_WEIGHTS, parts, strict=True))
    np.testing.assert_allclose(found, mean, rtol=5e-6)


def test_a_graph_of_numbers_selects_no_columns() -> None:
    """A logistic regression is one multiplication and its sigmoid."""
    torch.manual_seed(1)
    preprocessing = Preprocessing(nn.Sequential(Scaler(_OFFSET, _SCALE)), [0, 1], [], [])
    predictor = Predictor(preprocessing, Ensemble([nn.Linear(2, 1)]), nn.Sigmoid()).float().eval()

    assert _operators(export(predictor, "probability", 2)) == ["Gemm", "Sigmoid"]
