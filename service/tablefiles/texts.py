"""The text of typed values, as a CSV file has it: the one rule for training and the service.

Numbers are exact and as short as possible, so 3.0 is 3, as in JSON. Dates and times are ISO 8601,
without a time if that is midnight. Booleans are true and false. Text is unchanged.
"""

from typing import TYPE_CHECKING, Any

from service.errors import InvalidRequest
from service.tablefiles.libraries import load_library

if TYPE_CHECKING:
    import polars as pl

_SECOND = 1_000_000
_MINUTE, _HOUR = 60 * _SECOND, 3600 * _SECOND
# A workbook stores a time without a date as one of the day before its first one.
_DAY_OF_TIMES = r"^1899-12-3[01]T"


def as_text(name: str, dtype: "pl.DataType", *, has_times: bool = False) -> "pl.Expr":
    """Return the text of a column's values, null where they are missing.

    Args:
        name: of the column.
        dtype: of its values.
        has_times: whether times of day have a date, as in a workbook.

    Raises:
        InvalidRequest: the values are no cells, such as lists.
    """
    polars: Any = load_library("polars")
    if dtype.is_nested() or dtype.is_object():
        raise InvalidRequest(
            f"Column {name!r} has values of the type {dtype}, which are not cells of a table; "
            "remove the column, or write one column for each value."
        )
    column = polars.col(name)
    if isinstance(dtype, polars.Float16):
        column = column.cast(polars.Float32)
    if dtype.is_temporal():
        text = _format_time(polars, column, dtype, has_times=has_times)
    else:
        text = column.cast(polars.String)
    if dtype.is_float():
        text = polars.when(column.is_nan()).then(None).otherwise(text.str.strip_suffix(".0"))
    elif dtype.is_decimal():
        short = text.str.strip_chars_end("0").str.strip_chars_end(".")
        text = polars.when(text.str.contains(".", literal=True)).then(short).otherwise(text)
    named: pl.Expr = text.alias(name)
    return named


def _format_time(polars: Any, column: Any, dtype: Any, *, has_times: bool) -> Any:  # noqa: ANN401 - Polars and its expressions
    """Return dates, times, instants or durations as text."""
    if isinstance(dtype, polars.Duration):
        return _format_duration(polars, column.dt.total_microseconds())
    if isinstance(dtype, polars.Date):
        return column.dt.strftime("%Y-%m-%d")
    if isinstance(dtype, polars.Time):
        return column.dt.strftime("%H:%M:%S%.f")
    text = column.dt.strftime(f"%Y-%m-%dT%H:%M:%S%.f{'%:z' if dtype.time_zone else ''}")
    text = text.str.replace(_DAY_OF_TIMES, "") if has_times else text
    return text.str.strip_suffix("T00:00:00")


def _format_duration(polars: Any, microseconds: Any) -> Any:  # noqa: ANN401 - Polars and its expressions
    """Return hours, minutes and seconds, as a spreadsheet shows a duration."""
    size = microseconds.abs()
    fraction = size % _SECOND
    digits = polars.concat_str(
        polars.lit("."), fraction.cast(polars.String).str.zfill(6).str.strip_chars_end("0")
    )
    return polars.concat_str(
        polars.when(microseconds < 0).then(polars.lit("-")).otherwise(polars.lit("")),
        (size // _HOUR).cast(polars.String).str.zfill(2),
        polars.lit(":"),
        (size // _MINUTE % 60).cast(polars.String).str.zfill(2),
        polars.lit(":"),
        (size // _SECOND % 60).cast(polars.String).str.zfill(2),
        polars.when(fraction == 0).then(polars.lit("")).otherwise(digits),
    )


def write_header(names: list[str]) -> bytes:
    """Return the names of columns as the first line of a CSV file."""
    polars: Any = load_library("polars")
    # A name is on one line everywhere.
    cells = [" ".join(name.splitlines()) for name in names]
    schema = {f"{k}": polars.String for k in range(len(cells))}
    return write_rows(polars.DataFrame([cells], schema=schema, orient="row"))


def write_rows(frame: "pl.DataFrame") -> bytes:
    """Return rows of text as CSV, with commas, and quotes where they are needed.

    A table of one column has quotes around an empty cell, as an empty line is no row.
    """
    polars: Any = load_library("polars")
    cells = [_quote(polars, name, alone=frame.width == 1) for name in frame.columns]
    lines: list[str] = frame.select(polars.concat_str(cells, separator=",")).to_series().to_list()
    return "\n".join([*lines, ""]).encode()


def _quote(polars: Any, name: str, *, alone: bool) -> Any:  # noqa: ANN401 - Polars and its expressions
    """Return the cells of a column as CSV; ``alone`` says whether it is the only one."""
    cell = polars.col(name)
    needs_quotes = cell.str.contains(r'[,"\r\n]|^\s|\s$')
    if alone:
        needs_quotes |= cell == ""
    mark = polars.lit('"')
    quoted = polars.concat_str(mark, cell.str.replace_all('"', '""', literal=True), mark)
    cells = polars.when(needs_quotes).then(quoted).otherwise(cell)
    return cells.fill_null('""' if alone else "").alias(name)
