"""What tests of training share: where real data lies, and a place to publish."""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from training.data.sources import Folders

_BESIDE_THE_REPOSITORY = Path(__file__).parents[2].parent / "shared" / "datasets"

# How long an example takes is the machine's affair.
settings.register_profile("training", deadline=None)
settings.load_profile("training")

# The networks of these tests are so small that a second thread costs more than it does.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """The data folder that the setting names, else one beside the repository."""
    data = Path(os.environ.get("ONWARD_DATA", _BESIDE_THE_REPOSITORY))
    return Folders(data=data, cache=tmp_path_factory.mktemp("cache"))
