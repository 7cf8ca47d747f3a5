"""What training read of a file, compared with what the service reads in it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from service.bundle.features import FeaturesInput
from service.codecs.csv_header import SAMPLE_BYTES, open_csv
from service.codecs.features import FeatureCodec
from service.tabletext import TRUTHS
from training.autorecipe.draft import draft
from training.data.csv import UNKNOWN, read_csv
from training.data.numbers import as_numbers
from training.data.sources import Folders, load
from training.data.table import Column, Dataset, Inputs, Table, encode, with_target
from training.export.manifest import describe_input
from training.recipe.table import Recipe

Row = dict[str, Any]


def typed_rows(table: Table, columns: Sequence[Column], features: Inputs) -> list[Row]:
    """The rows as a client sends them that knows the type of each column.

    ``features`` are the input of the graph, ``[rows, columns]``.
    """
    cells = {
        column.feature.name: _values(table, column, np.isnan(features[:, k]).tolist())
        for k, column in enumerate(columns)
    }
    return [dict(zip(cells, row, strict=True)) for row in zip(*cells.values(), strict=True)]


def _values(table: Table, column: Column, absent: Sequence[bool]) -> Iterator[object]:
    feature = column.feature
    cells = table.column(feature.name)
    numbers = as_numbers(cells, table.number_format, feature.affix)
    for cell, number, missing in zip(cells, numbers, absent, strict=True):
        if missing:
            yield None
        elif feature.type == "integer":
            yield int(number)
        elif feature.type == "number":
            yield number
        elif feature.type == "boolean":
            yield TRUTHS[cell.lower()]
        else:
            yield cell


def draft_table(path: Path, target: str) -> Recipe:
    """The recipe that ``onward new`` drafts for a file."""
    return draft(read_csv(path, UNKNOWN), str(path), target, "table", None).recipe


def require_same_reading(path: Path, recipe: Recipe) -> Dataset:
    """Compare each row that training uses with the row of the file and with JSON rows.

    The service may reject other rows, such as those that a quote breaks. Return what training read.
    """
    whole = load(recipe.data, Folders(None, path.parent))
    table = with_target(whole, recipe.target)
    data = encode(table, recipe, np.arange(table.frame.height))
    described = describe_input(data, data.features).model_dump_json(exclude_none=True)
    codec = FeatureCodec(FeaturesInput.model_validate_json(described))
    used = range(whole.frame.height) if table.source_rows is None else table.source_rows.tolist()

    matrix, faults = _read(codec, path.read_bytes())

    assert len(matrix) == whole.frame.height
    assert [faults[row] for row in used if row in faults] == []
    np.testing.assert_array_equal(matrix[list(used)], data.features)
    rows = typed_rows(table, data.columns, data.features)
    # A number of 64 bits is the same in JSON, and a cell of 32 bits is rounded once.
    np.testing.assert_array_equal(codec.decode_rows(rows), data.features)
    np.testing.assert_array_equal(
        codec.decode_rows([list(row.values()) for row in rows]), data.features
    )
    return data


def _read(codec: FeatureCodec, body: bytes) -> tuple[Inputs, dict[int, str]]:
    """The rows of a table in the service, and the messages of invalid ones by their position."""
    sample, rest = body[:SAMPLE_BYTES], body[SAMPLE_BYTES:]
    reader, _ = open_csv(sample, codec, whole=False, longest=1 << 20)
    reader.feed(rest)
    reader.end()
    matrices, faults, rows = [], dict[int, str](), 0
    while (batch := reader.take(4096)) is not None:
        matrices.append(batch.matrix)
        faults |= {rows + row: error.message for row, error in batch.errors.items()}
        rows += len(batch.matrix)
    return np.concatenate(matrices), faults
