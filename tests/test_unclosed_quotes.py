"""A quote that breaks a row: the other rows are read as they are written, in both programs."""

from pathlib import Path

import numpy as np
import pytest

from tests.same_reading import draft_table, require_same_reading
from training.autorecipe.quality import describe_format
from training.data.csv import UNKNOWN, read_csv
from training.errors import DataError

ROWS = 60
PLAIN = "{a},w{b},{y}.5"
QUOTED = '"{a}";"w, {b}";"{y},5"'
BROKEN = {
    "closed 20 rows below": (PLAIN, {20: '20,"w1,3.5', 40: '40,w1",4.5'}),
    "closed in the next row but one": (PLAIN, {20: '20,"w1,3.5', 22: '22,w1",4.5'}),
    "never closed": (PLAIN, {20: '20,"w1,3.5'}),
    "never closed in the last row": (PLAIN, {59: '59,w1,"3.5'}),
    "never closed, and before it a pair": (PLAIN, {10: '10,"w1",3.5', 20: '20,"w1,3.5'}),
    "two rows": (PLAIN, {20: '20,"w1,3.5', 41: '"41,w1,4.5'}),
    "in a table of quotes": (QUOTED, {20: '"20";"w, 1;"3,5"'}),
    "in the first cell of a table of quotes": (QUOTED, {20: '"20;"w, 1";"3,5"'}),
    "not doubled": (QUOTED, {20: '"20";"say "hi" to";"3,5"'}),
}


def written(folder: Path, row: str, changes: dict[int, str]) -> Path:
    """A table of 60 rows, some of which are replaced."""
    lines = [row.format(a=k, b=k % 3, y=k * 7 % 11) for k in range(ROWS)]
    for position, line in changes.items():
        lines[position] = line
    path = folder / "table.csv"
    path.write_text("\n".join(["a;b;y" if ";" in row else "a,b,y", *lines, ""]))
    return path


@pytest.mark.parametrize("name", BROKEN)
def test_the_rows_around_a_broken_one_are_read(tmp_path: Path, name: str) -> None:
    """Only the rows with the quote are lost, and a remark has their lines."""
    row, changes = BROKEN[name]
    path = written(tmp_path, row, changes)
    table = read_csv(path, UNKNOWN)
    assert table.csv_format is not None
    broken = table.csv_format.broken

    require_same_reading(path, draft_table(path, "y"))

    assert table.frame.height == ROWS
    assert set(broken) <= {position + 2 for position in changes}
    remarks = [text for text in describe_format(table) if "cannot be read" in text]
    assert len(remarks) == bool(broken)
    assert all(f"line {line}" in remarks[0] for line in broken)
    intact = [k for k in range(ROWS) if k not in changes]
    np.testing.assert_array_equal(table.frame["a"].gather(intact).cast(int), intact)


@pytest.mark.parametrize(
    "cell",
    [
        '"Main St, 5\nParis"',
        '"a, b\nc, d\ne, f"',
        '"key, value\n1, 2\n3, 4"',
        '"first\n\nlast, but ""one"""',
        '"Dear Ann,\nit is 5, not 4\nBob, 3"',
    ],
)
def test_a_cell_of_several_lines_is_one_cell(tmp_path: Path, cell: str) -> None:
    """Its lines are not like the rows of the table, though they have separators."""
    changes = {k: f"{k},{cell},{k % 5}.5" for k in range(5, 60, 4)}
    path = written(tmp_path, PLAIN, changes)
    table = read_csv(path, UNKNOWN)

    require_same_reading(path, draft_table(path, "y"))

    assert table.frame.height == ROWS
    assert table.frame["b"][5] == cell[1:-1].replace('""', '"')
    assert not [text for text in describe_format(table) if "cannot be read" in text]


def test_a_table_of_broken_rows_is_rejected(tmp_path: Path) -> None:
    """With more than a tenth of them, the quotes have another meaning."""
    path = written(tmp_path, PLAIN, {k: f'{k},"w1,1.5' for k in range(0, 60, 5)})

    with pytest.raises(DataError, match="line 2: a quote is never closed, or a quote inside"):
        read_csv(path, UNKNOWN)
