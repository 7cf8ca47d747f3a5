"""The rows of a recipe: loaded, with their target, and split into sets."""

from dataclasses import dataclass

from training.data.sources import Folders, load
from training.data.split import RowSplit, create_splitter
from training.data.table import Floats, Table, encode_target, with_target
from training.recipe.table import Recipe


@dataclass(frozen=True)
class LoadedRows:
    """The rows of a table that have a target."""

    complete: Table
    """The table with all rows."""
    table: Table
    target: Floats
    """``[rows]``: the raw value, or the label's position."""
    parts: RowSplit


def load_rows(recipe: Recipe, folders: Folders) -> LoadedRows:
    """Load the table of a recipe, and split the rows that have a target.

    Raises:
        DataError: the table cannot be read, or has too few rows to split.
    """
    complete = load(recipe.data, folders)
    table = with_target(complete, recipe.target)
    target = encode_target(table, recipe.target)
    parts = create_splitter(recipe, table, target).split(recipe.split)
    return LoadedRows(complete, table, target, parts)
