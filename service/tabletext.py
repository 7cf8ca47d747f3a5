"""How tables write values: the encoding, separator and quotes of a file, and the cells of a row.

Training and the service both read tables by these rules.
"""

import csv
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

SEPARATORS = ",;\t|"
Escape = Literal["\\"]

_SAMPLE_LINES = 50
_FEW_DOUBLE = 4
_DECLARATION = re.compile(r"sep=(.)\r?", re.IGNORECASE)
_JSON = re.compile(r"\s*+(?:\{\s*+\"|\[\s*+[\[{])")

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
_BYTE_ORDER_MARKS = {
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
_UNIT_BYTES = {"utf-16": 2, "utf-32": 4}
# Of the zero bytes of UTF-16, at most this share is not in the expected half of each pair.
_MAX_MINOR_ZERO_SHARE = 0.1

MISSING = ("", "?", "NA", "N/A", "n/a", "nan", "NaN", "null", "NULL", "None")
"""Cells without a value, unless a recipe lists others."""

TRUTHS: Mapping[str, bool] = dict.fromkeys(("true", "yes", "t", "y", "1", "1.0"), True) | (
    dict.fromkeys(("false", "no", "f", "n", "0", "0.0"), False)
)
"""By the word in lower case."""

INFINITY = ("inf", "infinity")
"""Words for infinity in lower case, without a sign."""

Decimal = Literal[".", ","]
Thousands = Literal["", ",", ".", " ", "'"]

_BLANKS = " \u00a0\u2009\u202f"
_APOSTROPHES = "'\u2019"
_MARKS = f".,{_APOSTROPHES}{_BLANKS}"
USUAL_MARKS = str.maketrans(dict.fromkeys(_BLANKS, " ") | dict.fromkeys(_APOSTROPHES, "'"))

# Patterns for `re` and for Polars: text next to a number, and digits with any marks between them.
CURRENCY = (
    "[A-Z]{0,3}[$\u00a2-\u00a5\u058f\u060b\u07fe\u07ff\u09f2\u09f3\u09fb\u0af1\u0bf9\u0e3f\u17db"
    "\u20a0-\u20cf\ua838\ufdfc\ufe69\uff04\uffe0\uffe1\uffe5\uffe6]"
    "|USD|EUR|GBP|CHF|JPY|CNY|INR|AUD|CAD"
)
UNIT = rf"[^\d\s;:+\-{_MARKS}][^\d,;]{{0,11}}"
DIGITS = rf"[0-9](?:[0-9{_MARKS}]*[0-9])?"

# Possessive quantifiers never backtrack, so that a match takes time by the length of its text.
_NUMBER = re.compile(
    r"[+-]?(?=\.?[0-9])(?P<whole>[0-9]*+)(?:(?P<point>\.)[0-9]++|\.?+)(?:[eE][+-]?[0-9]++)?"
)
_GROUPED = re.compile(
    r"[+-]?[1-9][0-9]{0,2}(?P<thousands>[., '])[0-9]{3}(?:(?P=thousands)[0-9]{3})*+"
    r"(?:(?!(?P=thousands))(?P<decimal>[.,])[0-9]*+)?"
)
_GROUP_DIGITS = 3
MINUS = "\u2212"
# After an amount of money.
_MAGNITUDES = {"K": "e3", "M": "e6", "B": "e9"}


@dataclass(frozen=True)
class CsvDialect:
    """The format of a CSV file.

    ``marked`` says whether it begins with a byte-order mark, which some spreadsheets need;
    ``declared`` whether its first line is a spreadsheet's ``sep=;``, which is no row. ``escape``
    is what precedes a quote inside a cell, where it is not doubled.
    """

    encoding: str
    separator: str
    quote: str
    line_end: str
    marked: bool = False
    declared: bool = False
    escape: Escape | None = None


class CsvRows(Protocol):
    """The rows that ``csv.reader`` returns, whose type has no public name."""

    @property
    def line_num(self) -> int:
        """The number of lines read so far."""

    def __iter__(self) -> Iterator[list[str]]: ...

    def __next__(self) -> list[str]: ...


def read_rows(
    lines: Iterable[str],
    separator: str,
    quote: str,
    *,
    strict: bool = False,
    escape: str | None = None,
) -> CsvRows:
    """Read rows by the rules of the csv module, with cells of any length.

    Training and the service limit the length of lines and records themselves. The module's own
    limit applies to the whole process, so it is always set to the same value.
    """
    csv.field_size_limit(sys.maxsize)
    return csv.reader(lines, delimiter=separator, quotechar=quote, strict=strict, escapechar=escape)


def sniff(  # noqa: PLR0913 - what is known of a table; grouping would only rename it
    text: str,
    encoding: str,
    *,
    marked: bool = False,
    names: Sequence[str] = (),
    separator: str | None = None,
    quote: str | None = None,
    separators: str = SEPARATORS,
    escape: Escape | None = None,
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
        escape: None to detect it.
    """
    line_end = "\n" if "\n" in text or "\r" not in text else "\r"
    all_lines = [line for line in text.split(line_end) if line.strip()]
    lines = all_lines[:_SAMPLE_LINES]
    declaration = _DECLARATION.fullmatch(lines[0])
    if declaration:
        separator = separator or declaration[1]
        lines = lines[1:] or [""]
    quote = quote or _find_quote(lines)
    separator = separator or _find_separator(lines, names, quote, separators)
    end = "\r\n" if "\r\n" in text else line_end
    if f"\\{quote}" in text:
        escape = escape or _find_escape(all_lines, separator, quote)
    return CsvDialect(encoding, separator, quote, end, marked, declaration is not None, escape)


def begins_like_json(text: str) -> bool:
    """Return whether a text begins with a JSON object, or an array of arrays or objects."""
    return _JSON.match(text) is not None


def quote_cell(cell: str, separator: str, quote: str = '"') -> str:
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


def column_name(number: int, cell: str | None = None) -> str:
    """Return the name of a column, counted from 1, on one line; without one, one of its number.

    Letters with accents are composed (NFC), as some systems write them as two characters.
    """
    lines = filter(None, map(str.strip, (cell or "").splitlines()))
    return compose(" ".join(lines)) or f"column_{number}"


def compose(name: str) -> str:
    """Return a name with composed letters (NFC), in which names are compared."""
    return unicodedata.normalize("NFC", name)


def count_quoted(text: str, quote: str) -> int:
    """Return how many ends of cells have a quote."""
    marks = f"{SEPARATORS}\r\n"
    return sum(text.count(f"{mark}{quote}") + text.count(f"{quote}{mark}") for mark in marks)


def _find_quote(lines: Sequence[str]) -> str:
    """Return a single quote if many cells have it around them, and few have a double quote."""
    text = "\n".join(lines)
    single, double = count_quoted(text, "'"), count_quoted(text, '"')
    return "'" if single >= len(lines) and single > _FEW_DOUBLE * double else '"'


def _find_escape(lines: Sequence[str], separator: str, quote: str) -> Escape | None:
    r"""Return a backslash if lines with ``\"`` are rather rows with it as the escape than without.

    A row may continue in the next line, which is better than a quote at the wrong position.
    """

    def fitness(line: str, escape: str | None) -> int:
        try:
            next(read_rows([line], separator, quote, strict=True, escape=escape))
        except csv.Error as error:
            return int("unexpected end" in str(error))
        return 2

    escaped = [line for line in lines if f"\\{quote}" in line][:_SAMPLE_LINES]
    balance = sum(fitness(line, "\\") - fitness(line, None) for line in escaped)
    return "\\" if balance > 0 else None


def _find_separator(lines: Sequence[str], names: Sequence[str], quote: str, separators: str) -> str:
    """Return the separator with most of the names in the first line, or with the most even rows."""
    known = set(names)

    def fitness(separator: str) -> tuple[int, int, int]:
        try:
            rows = list(read_rows(lines, separator, quote))
        except csv.Error:
            return (0, 0, 0)
        found = {cell.strip() for cell in rows[0]} & known
        if _breaks_quotes(lines, separator, quote):
            return (len(found), 0, 0)
        width, times = Counter(map(len, rows)).most_common(1)[0]
        return (len(found), times if width > 1 else 0, width)

    return max(separators, key=fitness)


def _breaks_quotes(lines: Sequence[str], separator: str, quote: str) -> bool:
    """Return whether most closing quotes are before another letter than this separator."""
    quoted, broken = [line for line in lines if quote in line and f"\\{quote}" not in line], 0
    for line in quoted:
        try:
            next(read_rows([line], separator, quote, strict=True))
        except csv.Error as error:
            broken += "expected after" in str(error)
    return broken > len(quoted) / 2


def find_marked_codec(start: bytes) -> str | None:
    """Return the codec of bytes that begin with a byte-order mark; it removes the mark."""
    return next(
        (codec for mark, codec in _BYTE_ORDER_MARKS.items() if start.startswith(mark)), None
    )


def find_codec(name: str, start: bytes) -> str | None:
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


def find_unmarked_codec(start: bytes) -> str | None:
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


@dataclass(frozen=True)
class NumberFormat:
    """The decimal and the thousands mark of numbers.

    ``thousands`` may separate groups of three digits; an empty one is no mark.
    """

    decimal: Decimal = "."
    thousands: Thousands = ""


POINT = NumberFormat()


class Marks(NamedTuple):
    """The marks in one number; a mark that it does not have is empty.

    The comma in 1,234 may be of decimals or of thousands, so it is both. ``ungrouped`` says whether
    four digits or more are without thousands marks.
    """

    decimal: str
    thousands: str
    ungrouped: bool = False

    @property
    def ambiguous(self) -> bool:
        """Whether its mark may be of decimals or of thousands."""
        return self.decimal == self.thousands != ""


def lower_words(words: Collection[str]) -> frozenset[str]:
    """Return missing words in lower case, as columns of numbers and booleans compare them.

    Columns of categories compare the case too: "none" may be a category and "None" missing.
    """
    return frozenset(map(str.lower, words))


def missing_words(listed: Collection[str] | None) -> frozenset[str]:
    """Return the words for missing values that a manifest lists; an empty cell always is one."""
    return frozenset(("", *(MISSING if listed is None else listed)))


def plain_number(
    text: str, number_format: NumberFormat = POINT, affix: str | None = None
) -> str | None:
    """Return the number of a cell in the notation of Python and JSON; None if it has none.

    Args:
        text: of the cell, without white space around it.
        number_format: the marks; the thousands mark counts only between groups of three digits.
        affix: a unit or currency that may be at either end of the number.
    """
    text = plain_sign(text)
    exponent = ""
    if affix:
        text = plain_sign(remove_affix(text, affix))
        if text[-1:] in _MAGNITUDES and text[-2:-1].isdecimal() and re.fullmatch(CURRENCY, affix):
            text, exponent = text[:-1], _MAGNITUDES[text[-1]]
    if number_format.thousands:
        text = text.translate(USUAL_MARKS)
        grouped = _GROUPED.fullmatch(text)
        if (
            grouped is not None
            and grouped["thousands"] == number_format.thousands
            and grouped["decimal"] in (None, number_format.decimal)
        ):
            text = text.replace(number_format.thousands, "")
    if number_format.decimal == ",":
        if "." in text:
            return None
        text = text.replace(",", ".")
    return f"{text}{exponent}" if _NUMBER.fullmatch(text) else None


def plain_sign(text: str) -> str:
    """Return a negative number with a minus before it: accounting writes (1.75), and others 1.75-.

    The minus may be that of typography.
    """
    if text[:1] == MINUS:
        return f"-{text[1:]}"
    if text[:1] == "(" and text[-1:] == ")":
        return f"-{text[1:-1].strip()}"
    if text[-1:] in ("-", MINUS) and text[:1] not in ("-", "+"):
        return f"-{text[:-1].rstrip()}"
    return text


def find_marks(text: str) -> Marks | None:
    """Return the marks in a number that may have any; None if the text is no number."""
    text = plain_sign(text)
    if not text.isascii():
        text = text.translate(USUAL_MARKS)
    if grouped := _GROUPED.fullmatch(text):
        thousands, decimal = grouped["thousands"], grouped["decimal"] or ""
        if not decimal and thousands in ".," and text.count(thousands) == 1:
            decimal = thousands
        return Marks(decimal, thousands)
    plain = _NUMBER.fullmatch(text.replace(",", "."))
    if plain is None:
        return None
    whole, point = plain.groups()
    decimal = "" if point is None else text[plain.end("whole")]
    return Marks(decimal, "", len(whole) > _GROUP_DIGITS)


def remove_affix(text: str, affix: str) -> str:
    """Return the text without the affix at its end, at its beginning, or after its sign."""
    sign = text[:1] if text[:1] in ("+", "-") else ""
    rest = text[len(sign) :].lstrip()
    if rest.startswith(affix):
        text = sign + rest[len(affix) :].lstrip()
    return text.removesuffix(affix).rstrip()
