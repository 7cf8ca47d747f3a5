"""Table files of every format, and the typed rows in them."""

import datetime as dt
import io
from collections.abc import Callable, Mapping

import numpy as np
import polars as pl

PARQUET = "application/vnd.apache.parquet"
ARROW_FILE = "application/vnd.apache.arrow.file"
ARROW_STREAM = "application/vnd.apache.arrow.stream"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
BINARY = "application/octet-stream"


def parquet(frame: pl.DataFrame, rows: int | None = None) -> bytes:
    """The frame as a Parquet file; ``rows`` is the number in each group."""
    content = io.BytesIO()
    frame.write_parquet(content, row_group_size=rows)
    return content.getvalue()


def arrow_file(frame: pl.DataFrame) -> bytes:
    content = io.BytesIO()
    frame.write_ipc(content, compression="zstd")
    return content.getvalue()


def arrow_stream(frame: pl.DataFrame) -> bytes:
    content = io.BytesIO()
    frame.write_ipc_stream(content, compression="lz4")
    return content.getvalue()


def workbook(frame: pl.DataFrame) -> bytes:
    content = io.BytesIO()
    # The default formats have two decimals, which do not change values.
    frame.write_excel(content)
    return content.getvalue()


FILES: Mapping[str, tuple[str, Callable[[pl.DataFrame], bytes]]] = {
    "Parquet": (PARQUET, parquet),
    "an Arrow file": (ARROW_FILE, arrow_file),
    "an Arrow stream": (ARROW_STREAM, arrow_stream),
    "Excel": (XLSX, workbook),
}
"""The media type and the writer of each format."""


def houses(rows: int = 150) -> pl.DataFrame:
    """Houses with a column of every kind, missing values, and a price that depends on them."""
    rng = np.random.default_rng(1)
    first, morning = dt.date(2022, 1, 1), dt.datetime(2023, 1, 1)  # noqa: DTZ001 - without an offset
    area = rng.normal(100, 20, rows).round(2)
    rooms = rng.integers(1, 8, rows)
    garden = rng.random(rows) < 0.5
    quarter = rng.choice(["north", "south, west", 'the "new" one', "Zürich"], rows)
    fee = rng.normal(2500, 500, rows).round(1)
    written = [f"{number:_.1f}".replace(".", ",").replace("_", ".") for number in fee]
    words = rng.choice(["lovely", "awful", "nice", "cold"], rows)
    price = area * 10 + rooms * 100 + garden * 300 + (quarter == "north") * 200 + fee / 10
    return pl.DataFrame(
        {
            "built": [first + dt.timedelta(days=int(k)) for k in rng.integers(0, 900, rows)],
            "seen": [morning + dt.timedelta(minutes=int(k)) for k in rng.integers(0, 9999, rows)],
            "opens": [dt.time(int(k), 30) for k in rng.integers(6, 11, rows)],
            "area": [None if k % 17 == 3 else float(one) for k, one in enumerate(area)],
            "rooms": rooms,
            "garden": [None if k % 19 == 4 else bool(one) for k, one in enumerate(garden)],
            "quarter": quarter,
            "fee": written,
            "code": [f"{int(k):03}" for k in rng.integers(0, 9, rows)],
            "note": [f"{word} house, in a street ({k})\nof trees" for k, word in enumerate(words)],
            "price": (price + rng.normal(0, 5, rows)).round(3),
        }
    )
