"""The shipped models of pictures hold what the results page claims of them."""

from pathlib import Path

import pytest

from service.bundle.versions import published_names
from training.data.sources import Folders
from training.evaluation.baselines import picture_bundle, picture_figures

MODELS = Path(__file__).parents[3] / "models"
NAMES = [name for name in published_names(MODELS) if picture_bundle(MODELS, name)]


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_model_holds_its_claims(name: str, folders: Folders) -> None:
    """Measured anew on the untouched test part, by the graph that is shipped."""
    bundle = picture_bundle(MODELS, name)
    assert bundle is not None

    figures = list(picture_figures(bundle, folders))

    assert figures
    assert [figure for figure in figures if not figure.holds] == []
