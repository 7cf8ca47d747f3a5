"""Fixtures of training: public data sets, and the settings of torch and hypothesis."""

import os
from collections.abc import Generator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from training.data.sources import Folders
from training.errors import DataSetNotFound

# Copies of the public data sets; by default those next to the repository.
DATA = Path(
    os.environ.get("ONWARD_DATA", Path(__file__).parents[2].parent / "shared" / "datasets")
).absolute()

# Generated examples have no deadline: how long one takes depends on the machine.
settings.register_profile("training", deadline=None)
settings.load_profile("training")

# The networks of these tests are so small that a second thread costs more than it saves.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Generator[Folders]:
    """The public data sets of this machine; nothing is downloaded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("https_proxy", "http://127.0.0.1:1")
        yield Folders(data=DATA, cache=tmp_path_factory.mktemp("cache"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None]:
    """Skip a test whose fixtures need a public data set that is missing."""
    try:
        return (yield)
    except DataSetNotFound as missing:
        pytest.skip(str(missing))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None]:
    """Skip a test that needs a public data set which is missing."""
    try:
        return (yield)
    except DataSetNotFound as missing:
        pytest.skip(str(missing))
    except FileNotFoundError as missing:
        if DATA in Path(str(missing.filename)).parents:
            pytest.skip(f"{missing.filename} is missing: set ONWARD_DATA to a folder that has it")
        raise
