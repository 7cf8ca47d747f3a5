"""Random tables, written in all the ways that spreadsheets, databases and people write them."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from hypothesis import strategies as st

Chance = random.Random
Cells = list[str]

_ROWS = (40, 90)
_GAPS = ("", "NA", "-", "null", "?", "n/a", "None", "nan", " ", "N/A", "n.a.", "#N/A")
_AFFIXES = ("{} kg", "{}%", "{} %", "${}", "{} \u20ac", "EUR {}", "{}mg")
_TRUTHS = (
    ("true", "false"),
    ("True", "False"),
    ("TRUE", "FALSE"),
    ("yes", "no"),
    ("Yes", "NO"),
    ("t", "f"),
    ("1", "0"),
    ("1.0", "0.0"),
    ("x", ""),
    ("ja", "nein"),
)
_WORDS = (
    ("red", "green", "blue"),
    ("New York", "San Jos\u00e9", "K\u00f6ln"),
    ("a,b", "c;d", "e|f", "g\th"),
    ('6"', 'say "hi"', "plain"),
    ("'a'", "b", "O'Neil"),
    ("00501", "01002", "20001"),
    ("Yes", "yes", "YES", "no"),
    (" Male", "Female ", "Male"),
    ("two\nlines", "one"),
    ("NA", "EUR", "APAC"),
    ("None", "Gable", "Hip"),
    ("12E3", "4E4", "5E1"),
    ("1-2", "3-4", "5+"),
    ("C:\\a", "D:\\b"),
    ("\u00e9t\u00e9", "e\u0301te\u0301"),
    ("inf", "nan", "x"),
    ("1_000", "2_000", "3_000"),
    ("\u0661\u0662", "\u0663"),
)
_DATES = (
    "%Y-%m-%d",
    "%d.%m.%Y",
    "%m/%d/%Y",
    "%Y-%m",
    "%H:%M",
    "%Y-%m-%d %H:%M:%S",
    "%Y%m%d",
    "%d %b %Y",
    "%d/%m/%y",
    "%Y-%m-%dT%H:%M:%SZ",
)
_NAMES = (
    "a",
    "b",
    "Gr\u00f6\u00dfe",
    "x y",
    "",
    " c ",
    'd"e',
    "f,g",
    "h;i",
    "two\nlines",
    "value",
    "a",
)
_START = datetime(2021, 1, 1)  # noqa: DTZ001 - dates without an offset


@dataclass(frozen=True)
class RandomTable:
    """A file with its target column, by its position from 1."""

    content: bytes
    target: str


@dataclass(frozen=True)
class Notation:
    """How the numbers of a table are written."""

    decimal: str
    thousands: str
    minus: str

    def write(self, number: float, decimals: int) -> str:
        """Return a number with these marks."""
        text = f"{abs(number):,.{decimals}f}"
        text = text.translate({ord(","): self.thousands, ord("."): self.decimal})
        return self.minus.format(text) if number < 0 else text


NOTATIONS = [
    Notation(decimal, thousands, minus)
    for decimal in ".,"
    for thousands in ("", "'", " ", "\u202f", "," if decimal == "." else ".")
    for minus in ("-{}", "\u2212{}", "({})", "{}-")
]


def _numbers(chance: Chance, rows: int, notation: Notation) -> Cells:
    decimals, size = chance.choice([0, 0, 1, 2, 3]), 10 ** chance.choice([0, 1, 3, 5, 8])
    affix = chance.choice(_AFFIXES) if chance.random() < 0.3 else "{}"
    low = -size if chance.random() < 0.4 else 0
    cells = [affix.format(notation.write(chance.uniform(low, size), decimals)) for _ in range(rows)]
    if chance.random() < 0.1 and notation.decimal == ".":
        cells[0] = f"{chance.uniform(0, size):.3e}"
    return cells


def _truths(chance: Chance, rows: int, _: Notation) -> Cells:
    words = chance.choice(_TRUTHS)
    return [chance.choice(words) for _ in range(rows)]


def _words(chance: Chance, rows: int, _: Notation) -> Cells:
    words = chance.choice(_WORDS)
    return [chance.choice(words) for _ in range(rows)]


def _dates(chance: Chance, rows: int, _: Notation) -> Cells:
    form = chance.choice(_DATES)
    span = chance.choice([3600, 86400, 86400 * 700])
    return [
        (_START + timedelta(seconds=chance.randrange(0, span))).strftime(form) for _ in range(rows)
    ]


def _constant(chance: Chance, rows: int, _: Notation) -> Cells:
    return [chance.choice(["1", "same", ""])] * rows


_KINDS: list[Callable[[Chance, int, Notation], Cells]] = [
    _numbers,
    _numbers,
    _truths,
    _words,
    _words,
    _dates,
    _constant,
]


def _gapped(chance: Chance, cells: Cells) -> Cells:
    """Replace some of the cells by one or two words for missing values."""
    if chance.random() < 0.6:
        return cells
    share, gaps = chance.choice([0.02, 0.1, 0.3]), chance.sample(_GAPS, 2)
    return [chance.choice(gaps) if chance.random() < share else cell for cell in cells]


def _target(chance: Chance, rows: int, notation: Notation) -> Cells:
    """Numbers, or two or three labels, of which some may be missing."""
    if chance.random() < 0.5:
        cells = [notation.write(chance.uniform(0, 50), 2) for _ in range(rows)]
    else:
        words = chance.choice([("yes", "no"), ("0", "1"), ("a", "b", "c"), ("Ja", "Nein")])
        cells = [words[k % len(words)] for k in range(rows)]
    if chance.random() < 0.2:
        cells[chance.randrange(rows)] = ""
    return cells


@st.composite
def random_tables(draw: st.DrawFn) -> RandomTable:
    """A table of some columns, in one of the many formats of CSV."""
    chance = random.Random(draw(st.integers(0, 2**32)))  # noqa: S311 - a table, not a secret
    rows = chance.randint(*_ROWS)
    notation = draw(st.sampled_from(NOTATIONS))
    kinds = draw(st.lists(st.sampled_from(_KINDS), min_size=1, max_size=5))
    table = [_gapped(chance, kind(chance, rows, notation)) for kind in kinds]
    table.append(_target(chance, rows, notation))
    names = [draw(st.sampled_from(_NAMES)) for _ in kinds] + ["target"]
    header = draw(st.booleans()) or draw(st.booleans())
    return RandomTable(draw(_files(names if header else None, table)), str(len(table)))


_ODDITIES = ("", "", "blank line", "title", "trailing", "escape", "loose", "declared")
_ENCODINGS = ("utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252")


def _add_oddity(
    oddity: str, lines: list[str], separator: str, *, columns: int, header: bool
) -> list[str]:
    if oddity == "blank line":
        return [*lines[:20], "", *lines[20:]]
    if oddity == "trailing":
        return [line + separator for line in lines]
    if oddity == "title" and columns > 2:
        return ["Report of 2024", *lines]
    if oddity == "declared" and header:
        return [f"sep={separator}", *lines]
    return lines


@st.composite
def _files(draw: st.DrawFn, names: list[str] | None, table: list[Cells]) -> bytes:
    """A table as bytes, with at most one oddity."""
    separator, quote = draw(st.sampled_from(",;\t|")), draw(st.sampled_from('"""\''))
    always, oddity = draw(st.booleans()), draw(st.sampled_from(_ODDITIES))
    end = draw(st.sampled_from(["\n", "\r\n"]))

    def write(cell: str) -> str:
        special = any(mark in cell for mark in (separator, "\n", "\r")) or cell != cell.strip()
        quoted = cell[:1] == quote if oddity == "loose" else quote in cell
        if not (always or special or quoted):
            return cell
        pair = f"\\{quote}" if oddity == "escape" else quote * 2
        return f"{quote}{cell.replace(quote, pair)}{quote}"

    lines = [separator.join(map(write, row)) for row in zip(*table, strict=True)]
    if names is not None:
        lines.insert(0, separator.join(map(write, names)))
    lines = _add_oddity(oddity, lines, separator, columns=len(table), header=names is not None)
    text = end.join(lines) + end * draw(st.booleans())
    try:
        return text.encode(draw(st.sampled_from(_ENCODINGS)))
    except UnicodeEncodeError:
        return text.encode()
