"""Recipes for tables."""

from collections.abc import Sequence

from training.recipe.loader import read_any
from training.recipe.table import Recipe


def read_recipe(name_or_path: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe for tables: a shipped one by its name, or a `.toml` file."""
    recipe = read_any(name_or_path, overrides)
    assert isinstance(recipe, Recipe)
    return recipe
