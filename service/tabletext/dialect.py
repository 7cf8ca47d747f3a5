"""How a CSV file separates and quotes its cells, and which lines are above its header."""

import codecs
import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

SEPARATORS = ",;\t|"

_SAMPLE_LINES = 50
_DECLARATION = re.compile(r"sep=(.)\r?", re.IGNORECASE)
_JSON = re.compile(r"\s*+(?:\{\s*+\"|\[\s*+[\[{])")
MOST_TITLES = 10
_TITLED_WIDTH = 3


@dataclass(frozen=True)
class CsvDialect:
    """How a table is written.

    ``marked`` says whether it begins with a byte-order mark, as spreadsheets want it;
    ``declared`` whether its first line is a spreadsheet's ``sep=;``, which is no row.
    """

    encoding: str
    separator: str
    quote: str
    line_end: str
    marked: bool = False
    declared: bool = False


def sniff(  # noqa: PLR0913 - what is known of a table; grouping it would only rename it
    text: str,
    encoding: str,
    *,
    marked: bool = False,
    names: Sequence[str] = (),
    separator: str | None = None,
    quote: str | None = None,
    separators: str = SEPARATORS,
) -> CsvDialect:
    """The dialect of a table that begins with this text, which is not blank.

    Args:
        text: long enough to include the first line.
        encoding: of the file.
        marked: whether it begins with a byte-order mark.
        names: of columns that are likely to be there.
        separator: where it is known.
        quote: where it is known.
        separators: those to choose from.
    """
    line_end = "\n" if "\n" in text or "\r" not in text else "\r"
    lines = [line for line in text.split(line_end) if line.strip()][:_SAMPLE_LINES]
    declaration = _DECLARATION.fullmatch(lines[0])
    if declaration:
        separator = separator or declaration[1]
        lines = lines[1:] or [""]
    quote = quote or _quote(lines)
    separator = separator or _separator(lines, names, quote, separators)
    end = "\r\n" if "\r\n" in text else line_end
    return CsvDialect(encoding, separator, quote, end, marked, declaration is not None)


def begins_like_json(text: str) -> bool:
    """Whether a text begins with a JSON object, or an array of arrays or objects."""
    return _JSON.match(text) is not None


def decoded(sample: bytes, encoding: str) -> str:
    """The first bytes of a table as text; a character that the sample cuts off is left out.

    Raises:
        UnicodeDecodeError: they are in another encoding.
    """
    return codecs.getincrementaldecoder(encoding)().decode(sample)


def quoted(cell: str, separator: str, quote: str = '"') -> str:
    """The cell as CSV writes it: in quotes where it could not be read back without them."""
    if (
        separator in cell
        or quote in cell
        or "\n" in cell
        or "\r" in cell
        or cell[:1].isspace()
        or cell[-1:].isspace()
    ):
        return quote + cell.replace(quote, quote * 2) + quote
    return cell


def titles_above(rows: Sequence[Sequence[str | None]]) -> int:
    """How many of a table's first rows are titles above its header.

    Args:
        rows: the first ten, or as many as there are.
    """
    return next((k for k, row in enumerate(rows[:MOST_TITLES]) if not is_title(row)), 0)


def is_title(row: Sequence[str | None]) -> bool:
    """Whether a row of three cells or more has at most one that is not empty."""
    if len(row) < _TITLED_WIDTH:
        return False
    # No more cells are read than decide, since a row may have hundreds of thousands.
    filled = (True for cell in row if cell and cell.strip())
    return not (next(filled, False) and next(filled, False))


def column_name(number: int, cell: str | None = None) -> str:
    """The name of a column on one line, or one made of its number where its cell has none.

    Args:
        number: of the column, from 1.
        cell: of the header, where there is one.
    """
    lines = filter(None, map(str.strip, (cell or "").splitlines()))
    return " ".join(lines) or f"column_{number}"


def _quote(lines: Sequence[str]) -> str:
    """A single quote where many cells begin or end with one, and no double quote is to be seen."""
    text = "\n".join(lines)
    single = sum(text.count(f"{mark}'") + text.count(f"'{mark}") for mark in SEPARATORS)
    return "'" if '"' not in text and single >= len(lines) else '"'


def _separator(lines: Sequence[str], names: Sequence[str], quote: str, separators: str) -> str:
    """The one that finds most of the names in the first line; else the one that is most even."""
    known = set(names)

    def fitness(separator: str) -> tuple[int, int, int]:
        try:
            rows = list(csv.reader(lines, delimiter=separator, quotechar=quote))
        except csv.Error:
            return (0, 0, 0)
        found = {cell.strip() for cell in rows[0]} & known
        width, times = Counter(map(len, rows)).most_common(1)[0]
        return (len(found), times if width > 1 else 0, width)

    return max(separators, key=fitness)
