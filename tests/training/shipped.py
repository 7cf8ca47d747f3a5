"""Shipped recipes, which are trained once for all tests that read the result."""

from functools import cache
from pathlib import Path

from tests.recipes import read_recipe
from training.data.sources import Folders
from training.export.publish import Publication
from training.run import run


@cache
def trained(name: str, folders: Folders, base: Path) -> Publication:
    """Train and publish a shipped recipe, once in each test process.

    Args:
        name: of the recipe.
        folders: public data sets.
        base: the temporary folder of all tests of the process.
    """
    return run(read_recipe(name), base / "shipped", folders)
