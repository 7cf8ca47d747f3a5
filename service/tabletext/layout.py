"""Finding out how a posted table is written: its encoding, separator and line ends."""

import codecs
import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from service.errors import InvalidRequest
from service.filetypes import recognised
from service.tabletext.charsets import codec_of, marked_codec
from service.values import shown

SAMPLE_BYTES = 16 * 1024

_SEPARATORS = ",;\t|"
_SAMPLE_LINES = 50
_DECLARATION = re.compile(r"sep=(.)\r?", re.IGNORECASE)
_SAVE = "Save the table as CSV, in UTF-8, and send that."
_EMPTY = "The table is empty; send a first line with the columns' names, and rows below it."


@dataclass(frozen=True)
class Layout:
    """How a table is written.

    ``marked`` says whether it begins with a byte-order mark, as spreadsheets want it;
    ``declared`` whether its first line is a spreadsheet's ``sep=;``, which belongs to no row.
    """

    encoding: str
    separator: str
    line_end: str
    marked: bool = False
    declared: bool = False


def find_layout(sample: bytes, charset: str | None, names: Sequence[str]) -> Layout:
    """How the table is written that begins so.

    Args:
        sample: the first bytes, at least as far as the first line goes.
        charset: what the caller says of the encoding.
        names: of the columns to expect.

    Raises:
        InvalidRequest: it is empty, or no text, or not in the encoding that it is said to have.
    """
    encoding, marked = _encoding(sample, charset)
    text = _decoded(sample, encoding)
    if not text.strip():
        raise InvalidRequest(_EMPTY)
    if text.lstrip()[0] in "{[":
        raise InvalidRequest(
            "The body is JSON and its Content-Type says text/csv; send it as application/json, "
            "or as application/x-ndjson where every line is an object."
        )
    line_end = "\n" if "\n" in text or "\r" not in text else "\r"
    # A first line may be longer than the sample; its beginning is enough.
    start = text[text.index(text.lstrip()[0]) :][:SAMPLE_BYTES]
    lines = [line for line in start.split(line_end) if line.strip()][:_SAMPLE_LINES]
    declaration = _DECLARATION.fullmatch(lines[0])
    separator = declaration[1] if declaration else _separator(lines, names)
    end = "\r\n" if "\r\n" in text else line_end
    return Layout(encoding, separator, end, marked, declaration is not None)


def _encoding(sample: bytes, charset: str | None) -> tuple[str, bool]:
    marked = marked_codec(sample)
    if marked is not None:
        return marked, True
    kind = recognised(sample)
    if kind == "packed by gzip":
        raise InvalidRequest(f"The body is {kind}; say so by the header Content-Encoding: gzip.")
    if kind is not None:
        raise InvalidRequest(f"The body is {kind}, not a table of text. {_SAVE}")
    if charset is None:
        return "utf-8", False
    codec = codec_of(charset, sample)
    if codec is None:
        raise InvalidRequest(
            f"Content-Type names the charset {shown(charset)}, which is not known here. {_SAVE}"
        )
    return codec, False


def _decoded(sample: bytes, encoding: str) -> str:
    """The sample as text; a letter that it cuts in two is left out."""
    if encoding.startswith("utf-8") and b"\0" in sample:
        raise InvalidRequest(
            f"The body holds bytes that are no text, the first at {sample.index(0)}. {_SAVE}"
        )
    try:
        return codecs.getincrementaldecoder(encoding)().decode(sample)
    except UnicodeDecodeError as error:
        line = 1 + sample.count(b"\n", 0, error.start)
        raise InvalidRequest(
            f"Line {line} holds the byte 0x{sample[error.start]:02X}, which is not {encoding}. "
            "Save the table in UTF-8, or name its encoding, for example "
            "Content-Type: text/csv; charset=windows-1252."
        ) from None


def _separator(lines: Sequence[str], names: Sequence[str]) -> str:
    """The one that finds most of the names in the first line; else the one that is most even."""
    known = set(names)

    def fitness(separator: str) -> tuple[int, int, int]:
        try:
            rows = list(csv.reader(lines, delimiter=separator))
        except csv.Error:
            return (0, 0, 0)
        found = {cell.strip() for cell in rows[0]} & known
        width, times = Counter(map(len, rows)).most_common(1)[0]
        return (len(found), times if width > 1 else 0, width)

    return max(_SEPARATORS, key=fitness)
