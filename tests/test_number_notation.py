"""The notation of numbers: the marks of training decide, in tables and in hints."""

from pathlib import Path

import pytest

from service.errors import InvalidInput
from tests.tables import (
    Cell,
    columns,
    drafted,
    grouped,
    one_of,
    rows_of,
    small,
    small_with_comma,
    whole,
)


@pytest.mark.parametrize(
    ("cell", "rows", "expected"),
    [
        (whole("."), "12.000", [12_000]),
        (whole("."), "12.000 1.500 77.125 1234.5", [12_000, 1500, 77_125]),
        (whole("."), "7 12.000 3.5", [7, 12_000]),
        (grouped(".", ","), "1.5 2.5 3.25", [1.5, 2.5, 3.25]),
        (grouped(".", ","), "1.500 2,5 3.25", [1500, 2.5]),
        (lambda c: f'"{whole(",")(c)}"', '"12,000" "1,500" "77,5"', [12_000, 1500]),
        (whole("'"), "12'000 1'500 77,5", [12_000, 1500]),
        (grouped(" ", ","), "12 000;1 500;77;1,5", [12_000, 1500, 77, 1.5]),
    ],
)
def test_thousands_are_never_read_as_decimals(
    tmp_path: Path, cell: Cell, rows: str, expected: list[float]
) -> None:
    """A row in another notation is an error, and does not change how the others are read."""
    path = tmp_path / "table.csv"
    path.write_text(columns(";", ("x", cell), ("z", one_of("a", "b")), ("y", cell)))

    _, data, codec = drafted(path, "y", tmp_path)
    cells = rows.split(";" if ";" in rows else " ")
    numbers, faults = rows_of(codec, "\n".join(["x;z", *(f"{c};1" for c in cells), ""]).encode())

    assert numbers[: len(expected), 0].tolist() == expected
    assert len(faults) == len(cells) - len(expected)
    assert data.columns[0].number_format is not None


@pytest.mark.parametrize(
    ("cell", "text", "hint"),
    [
        (whole("."), "27.507", "Send 27507 without the quotes"),
        (lambda c: f'"{whole(",")(c)}"', "27,507", "Send 27507 without the quotes"),
        (lambda c: f"{small_with_comma(c)} kg", "2,5 kg", "Send 2.5 without the quotes"),
        (small, "2.5", "Send 2.5 without the quotes."),
        (small, "NA", "Send a JSON number, or null where a value may be missing."),
    ],
)
def test_the_hint_for_a_text_in_json_is_the_number_that_training_read(
    tmp_path: Path, cell: Cell, text: str, hint: str
) -> None:
    """JSON has numbers, so a text is rejected, whatever its notation."""
    path = tmp_path / "table.csv"
    path.write_text(columns(";", ("x", cell), ("y", cell)))

    _, _, codec = drafted(path, "y", tmp_path)

    with pytest.raises(InvalidInput) as caught:
        codec.decode_rows([{"x": text}])
    assert str(caught.value.problems[0].hint).startswith(hint)
