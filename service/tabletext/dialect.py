"""How a CSV file is encoded, separated and quoted, and which lines are above its header."""

import codecs
import csv
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SEPARATORS = ",;\t|"

_SAMPLE_LINES = 50
_DECLARATION = re.compile(r"sep=(.)\r?", re.IGNORECASE)
_JSON = re.compile(r"\s*+(?:\{\s*+\"|\[\s*+[\[{])")
MAX_TITLES = 10
_TITLED_WIDTH = 3

# By Python's codec, the names that browsers, spreadsheets and pandas use for it. The list is fixed:
# Python's own search for an encoding imports modules and caches what it finds without a limit.
_NAMES: Mapping[str, str] = {
    "utf-8": "utf-8 utf8 ascii us-ascii ansi-x3.4-1968",
    "utf-8-sig": "utf-8-sig utf-8-bom utf8-bom",
    "utf-16": "utf-16 utf16 ucs-2 unicode",
    "utf-16-le": "utf-16le utf-16-le utf16le",
    "utf-16-be": "utf-16be utf-16-be utf16be",
    "utf-32": "utf-32 utf32 ucs-4",
    "utf-32-le": "utf-32le utf-32-le utf32le",
    "utf-32-be": "utf-32be utf-32-be utf32be",
    "iso8859-1": "iso-8859-1 iso8859-1 latin-1 latin1 l1",
    **{
        f"iso8859-{part}": f"iso-8859-{part} iso8859-{part}"
        for part in (2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16)
    },
    **{
        f"cp{page}": f"cp{page} windows-{page} cp-{page} x-cp{page}"
        for page in (1250, 1251, 1252, 1253, 1254, 1255, 1256, 1257, 1258, 874)
    },
    **{
        f"cp{page}": f"cp{page} ibm{page} {page}"
        for page in (437, 737, 775, 850, 852, 855, 857, 858, 860, 861, 862, 863, 864, 865, 866, 869)
    },
    "mac-roman": "macintosh mac-roman macroman x-mac-roman",
    "mac-cyrillic": "mac-cyrillic x-mac-cyrillic",
    "koi8-r": "koi8-r koi8r",
    "koi8-u": "koi8-u koi8u",
    "gbk": "gbk cp936 936 gb2312 gb-2312 x-gbk",
    "gb18030": "gb18030",
    "big5": "big5 big-5",
    "big5hkscs": "big5-hkscs big5hkscs",
    "cp950": "cp950 950",
    "shift_jis": "shift-jis shiftjis sjis x-sjis",
    "cp932": "cp932 932 windows-31j ms932",
    "euc_jp": "euc-jp eucjp",
    "iso2022_jp": "iso-2022-jp iso2022-jp",
    "euc_kr": "euc-kr euckr",
    "cp949": "cp949 949 uhc ks-c-5601-1987",
}
_CODECS = {name: codec for codec, names in _NAMES.items() for name in names.split()}

# Longest first: UTF-32's little-endian mark begins with that of UTF-16.
_MARKS = {
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
_UNIT_BYTES = {"utf-16": 2, "utf-32": 4}
# Of the zero bytes of UTF-16, at most this share is not in the expected half of each pair.
_MAX_MINOR_ZERO_SHARE = 0.1


@dataclass(frozen=True)
class CsvDialect:
    """The format of a CSV file.

    ``marked`` says whether it begins with a byte-order mark, which some spreadsheets need;
    ``declared`` whether its first line is a spreadsheet's ``sep=;``, which is no row.
    """

    encoding: str
    separator: str
    quote: str
    line_end: str
    marked: bool = False
    declared: bool = False


def sniff(  # noqa: PLR0913 - what is known of a table; grouping would only rename it
    text: str,
    encoding: str,
    *,
    marked: bool = False,
    names: Sequence[str] = (),
    separator: str | None = None,
    quote: str | None = None,
    separators: str = SEPARATORS,
) -> CsvDialect:
    """Detect the dialect of a table by its first lines.

    Args:
        text: the beginning, not blank, with at least the first line.
        encoding: of the file.
        marked: whether it begins with a byte-order mark.
        names: of probable columns.
        separator: None to detect it.
        quote: None to detect it.
        separators: the candidates.
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
    """Return whether a text begins with a JSON object, or an array of arrays or objects."""
    return _JSON.match(text) is not None


def decoded(sample: bytes, encoding: str) -> str:
    """Return the first bytes of a table as text, without an incomplete character at the end.

    Raises:
        UnicodeDecodeError: the bytes are in another encoding.
    """
    return codecs.getincrementaldecoder(encoding)().decode(sample)


def quoted(cell: str, separator: str, quote: str = '"') -> str:
    """Return a cell as CSV, in quotes if it needs them."""
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
    """Return the number of titles above the header of a table.

    Args:
        rows: the first ten, or as many as there are.
    """
    return next((k for k, row in enumerate(rows[:MAX_TITLES]) if not is_title(row)), 0)


def is_title(row: Sequence[str | None]) -> bool:
    """Return whether a row has three cells or more, of which at most one is not empty."""
    if len(row) < _TITLED_WIDTH:
        return False
    # Stops at the second one, since a row may have hundreds of thousands of cells.
    filled = (True for cell in row if cell and cell.strip())
    return not (next(filled, False) and next(filled, False))


def column_name(number: int, cell: str | None = None) -> str:
    """Return the name of a column on one line; without a name, one made of its number.

    Args:
        number: of the column, from 1.
        cell: of the header; None without a header.
    """
    lines = filter(None, map(str.strip, (cell or "").splitlines()))
    return " ".join(lines) or f"column_{number}"


def _quote(lines: Sequence[str]) -> str:
    """Return a single quote if many cells begin or end with it and no double quote occurs."""
    text = "\n".join(lines)
    single = sum(text.count(f"{mark}'") + text.count(f"'{mark}") for mark in SEPARATORS)
    return "'" if '"' not in text and single >= len(lines) else '"'


def _separator(lines: Sequence[str], names: Sequence[str], quote: str, separators: str) -> str:
    """Return the separator with most of the names in the first line, or with the most even rows."""
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


def marked_codec(start: bytes) -> str | None:
    """Return the codec of bytes that begin with a byte-order mark; it removes the mark."""
    return next((codec for mark, codec in _MARKS.items() if start.startswith(mark)), None)


def codec_of(name: str, start: bytes) -> str | None:
    """Return the codec of an encoding, for text without a byte-order mark; None if unknown.

    The byte order of UTF-16 and UTF-32 shows in the zero bytes of ASCII characters, which every
    table has; without any it is big-endian (RFC 2781, 4.3).

    Args:
        name: as a client writes it, in any case.
        start: the first bytes.
    """
    codec = _CODECS.get(name.strip().lower().replace("_", "-"))
    unit = _UNIT_BYTES.get(codec or "")
    if unit is None:
        return codec
    first, last = start[::unit].count(0), start[unit - 1 :: unit].count(0)
    return f"{codec}-{'le' if last > first else 'be'}"


def unmarked_codec(start: bytes) -> str | None:
    """Return the codec of bytes without a byte-order mark, by their zero bytes.

    In UTF-16, Latin letters have a zero in every second byte. Bytes without zeros are taken for
    UTF-8; bytes with other zeros are not text, and have no codec.
    """
    if b"\0" not in start:
        return "utf-8"
    high, low = start[0::2].count(0), start[1::2].count(0)
    if min(high, low) > _MAX_MINOR_ZERO_SHARE * max(high, low) or max(high, low) < len(start) / 4:
        return None
    return "utf-16-le" if low > high else "utf-16-be"
