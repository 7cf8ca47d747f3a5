"""Made-up tables, and how training and the service read them."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from service.bundle.features import FeaturesInput
from service.codecs.csv_header import open_csv
from service.codecs.features import FeatureCodec
from training.autorecipe.draft import draft
from training.data.csv import UNKNOWN, read_csv
from training.data.sources import Folders, load
from training.data.table import Dataset, Table, encode, with_target
from training.export.manifest import describe_input

ROWS = 120
Cell = Callable[[random.Random], str]


def columns(separator: str, *names_and_cells: tuple[str, Cell]) -> str:
    """A table of made-up cells."""
    chance = random.Random(5)  # noqa: S311 - a table, not a secret
    rows = [[name for name, _ in names_and_cells]]
    rows += [[cell(chance) for _, cell in names_and_cells] for _ in range(ROWS)]
    return "\n".join(separator.join(row) for row in rows) + "\n"


def grouped(mark: str, decimal: str = ".") -> Cell:
    """Numbers with two decimals and a thousands mark."""

    def cell(chance: random.Random) -> str:
        text = f"{chance.randrange(100, 99_999_999) / 100:,.2f}"
        return text.translate({ord(","): mark, ord("."): decimal})

    return cell


def small(chance: random.Random) -> str:
    return f"{chance.random():.2f}"


def small_with_comma(chance: random.Random) -> str:
    return small(chance).replace(".", ",")


def one_of(*words: str) -> Cell:
    return lambda chance: chance.choice(words)


def whole(mark: str) -> Cell:
    """Whole numbers with a thousands mark."""
    return lambda chance: f"{chance.randrange(1, 10 ** chance.randint(2, 5)):,}".replace(",", mark)


def rows_of(codec: FeatureCodec, body: bytes) -> tuple[npt.NDArray[np.float32], list[str]]:
    """The numbers that the service reads in a table, and the messages of invalid rows."""
    reader, _ = open_csv(body, codec, whole=False, longest=1 << 20)
    reader.end()
    numbers, errors = [], []
    while (batch := reader.take(4096)) is not None:
        numbers.append(batch.matrix)
        errors += [error.message for error in batch.errors.values()]
    return np.concatenate(numbers), errors


def drafted(path: Path, target: str, folder: Path) -> tuple[Table, Dataset, FeatureCodec]:
    """A table as its drafted recipe reads it, and the codec by its manifest."""
    recipe = draft(read_csv(path, UNKNOWN), str(path), target, "table", None).recipe
    whole = load(recipe.data, Folders(None, folder))
    table = with_target(whole, recipe.target)
    data = encode(table, recipe, np.arange(table.frame.height))
    described = describe_input(data, data.features).model_dump_json(exclude_none=True)
    return table, data, FeatureCodec(FeaturesInput.model_validate_json(described))
