"""Finding out how a CSV file writes its cells: separator, quotes, encoding, line ends."""

import codecs
import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from training.data.numerals import POINT, Numerals
from training.data.table import MISSING
from training.errors import DataError
from training.recipe.table import Data

LONGEST_LINE = 1 << 24
_SEPARATORS = ",;\t|"
_SAMPLE_CHARACTERS = 1 << 18
_SAMPLE_LINES = 50
_CHUNK = 1 << 20
_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_OTHER_FORMATS = {
    b"\x1f\x8b": "packed by gzip; unpack it first",
    b"PK\x03\x04": "a spreadsheet or a zip archive; save the table as CSV, or unpack it first",
    b"\xd0\xcf\x11\xe0": "a spreadsheet; save the table as CSV",
    b"PAR1": "a Parquet file; save the table as CSV",
}
_SELDOM = 0.1
_JSON = re.compile(r"\s*(\{\s*\"|\[\s*[\[{])")
_DECLARATION = re.compile(r"^sep=(.)$", re.IGNORECASE)


@dataclass(frozen=True)
class Layout:
    """How a file writes its cells; None is found out."""

    separator: str | None = None
    quote: str | None = None
    numerals: Numerals | None = POINT
    encoding: str | None = None
    missing: tuple[str, ...] = MISSING
    header: bool | None = None


UNKNOWN = Layout(numerals=None, missing=("",))
"""Nothing is known of the file, not even which words mean: no value."""


@dataclass(frozen=True)
class FoundLayout:
    """How a file does write its cells."""

    separator: str
    quote: str
    encoding: str
    line_end: str
    declared: bool
    """Whether the first line is a spreadsheet's ``sep=;``, which belongs to no row."""


def layout_of(data: Data) -> Layout:
    """How a recipe says that its file writes cells."""
    numerals = Numerals(data.decimal, data.thousands)
    missing = tuple(data.missing)
    return Layout(data.separator, data.quote, numerals, data.encoding, missing, data.header)


def find_layout(path: Path, wish: Layout) -> FoundLayout:
    """Find out what the wish leaves open.

    Raises:
        DataError: the file is empty, or no text.
    """
    encoding = wish.encoding or _encoding(path)
    lines, line_end = _sample(path, encoding)
    declaration = _DECLARATION.match(lines[0])
    if declaration:
        wish = replace(wish, separator=wish.separator or declaration.group(1))
        lines = lines[1:] or [""]
    quote = wish.quote or _quote(lines)
    separator = wish.separator or _separator(lines, quote)
    return FoundLayout(separator, quote, encoding, line_end, declaration is not None)


def _encoding(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(_CHUNK)
        for mark, encoding in _MARKS.items():
            if start.startswith(mark):
                return encoding
        for signature, remedy in _OTHER_FORMATS.items():
            if start.startswith(signature):
                raise DataError(f"{path} is no CSV file but {remedy}.")
        if b"\0" in start:
            return _without_mark(path, start)
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            decoder.decode(start)
            while chunk := file.read(_CHUNK):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "cp1252"
    return "utf-8"


def _without_mark(path: Path, start: bytes) -> str:
    """Text of two bytes for each letter has every second byte nought where letters are Latin."""
    high, low = start[0::2].count(0), start[1::2].count(0)
    if min(high, low) > _SELDOM * max(high, low) or max(high, low) < len(start) / 4:
        raise DataError(
            f"{path} holds bytes that are no text, so it is no CSV file. "
            "Save the table as CSV (a spreadsheet's own format is not read)."
        )
    return "utf-16-le" if low > high else "utf-16-be"


def _sample(path: Path, encoding: str) -> tuple[list[str], str]:
    """The first lines that hold something, and what ends a line."""
    try:
        with path.open(encoding=encoding, newline="") as file:
            text = file.read(_SAMPLE_CHARACTERS)
    except (LookupError, UnicodeError) as error:
        raise DataError(f"{path} cannot be read as {encoding}: {error}.") from None
    if _JSON.match(text):
        raise DataError(
            f"{path} holds JSON, not cells between separators. Save the table as CSV, "
            "with one line for each row and the names of the columns in the first."
        )
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise DataError(f"{path} is empty; a table needs a header and rows.")
    return lines[:_SAMPLE_LINES], "\r" if "\r" in text and "\n" not in text else "\n"


def _quote(lines: Sequence[str]) -> str:
    text = "\n".join(lines)
    single = sum(text.count(f"{mark}'") + text.count(f"'{mark}") for mark in _SEPARATORS)
    return "'" if '"' not in text and single >= len(lines) else '"'


def _separator(lines: Sequence[str], quote: str) -> str:
    """The one that divides most lines into the same number of cells, and into the most."""
    csv.field_size_limit(LONGEST_LINE)

    def evenness(separator: str) -> tuple[int, int]:
        widths = Counter(map(len, csv.reader(lines, delimiter=separator, quotechar=quote)))
        width, times = widths.most_common(1)[0]
        return (times if width > 1 else 0, width)

    return max(_SEPARATORS, key=evenness)
