"""Scalers compared with numpy and scikit-learn."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import preprocessing

from training.data.table import Floats
from training.model.preprocessing import fit_scaler
from training.recipe.table import ScalerKind

_VALUES = np.random.default_rng(1).normal(5, 3, (50, 3))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("min-max", preprocessing.MinMaxScaler().fit_transform(_VALUES)),
        ("standard", preprocessing.StandardScaler().fit_transform(_VALUES)),
        ("robust", preprocessing.RobustScaler().fit_transform(_VALUES)),
        ("mean", (_VALUES - _VALUES.mean(axis=0)) / np.ptp(_VALUES, axis=0)),
        ("none", _VALUES),
    ],
)
def test_a_scaler_matches_its_formula(kind: ScalerKind, expected: Floats) -> None:
    """Each kind agrees with scikit-learn or with its definition."""
    scaled = fit_scaler(kind, _VALUES)(torch.from_numpy(_VALUES))

    np.testing.assert_allclose(scaled.numpy(), expected, atol=1e-12)


@given(values=arrays(np.float64, (9, 2), elements=st.floats(-1e6, 1e6)))
def test_the_inverse_undoes_scaling(values: Floats) -> None:
    """Scaling and its inverse return the original values, also for constant columns."""
    for kind in ("min-max", "standard", "mean", "robust", "none"):
        scaler = fit_scaler(kind, values)
        back = scaler.inverse(scaler(torch.from_numpy(values))).numpy()
        np.testing.assert_allclose(back, values, rtol=1e-9, atol=1e-6)


def test_a_scaler_ignores_missing_values() -> None:
    """NaN is skipped by the fit and stays NaN."""
    gaps = np.vstack([_VALUES, np.full((5, 3), np.nan)])

    assert torch.equal(fit_scaler("standard", gaps).scale, fit_scaler("standard", _VALUES).scale)
