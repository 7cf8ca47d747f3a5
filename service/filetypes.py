"""Detect the type of a file by its first bytes."""

import re
from typing import Literal, NamedTuple

TableFileFormat = Literal["parquet", "arrow", "arrow_stream", "workbook"]
"""A file with a table that is not text; a workbook is of a spreadsheet program."""

# The first bytes of a file that are compared with signatures.
_SIGNATURE_BYTES = 2048
# A text file may begin with a byte-order mark and white space.
_BLANK = rb"(?:\xef\xbb\xbf)?\s{0,100}+"
_XML = rb"(?:<\?xml.{0,400}?)?(?:<!--.{0,400}?-->\s{0,400}+)?"


class FileType(NamedTuple):
    """One type of file."""

    description: str
    """With its article, such as "a PDF document"."""
    signature: re.Pattern[bytes]
    """Matches the beginning of a file of this type."""
    image_format: str | None = None
    """The name of the format, if it is an image."""
    advice: str | None = None
    """How to convert it to an image."""
    resembles_text: bool = False
    """Whether a table or a JSON document may have the same beginning."""
    table: TableFileFormat | None = None
    """The format, if it may be a file with a table."""


def _image(name: str, signature: bytes, *, resembles_text: bool = False) -> FileType:
    article = "an" if name[0] in "AI" else "a"
    pattern = re.compile(signature, re.DOTALL)
    return FileType(f"{article} {name} image", pattern, name, resembles_text=resembles_text)


def _other(description: str, signature: bytes, advice: str | None = None) -> FileType:
    return FileType(description, re.compile(signature, re.DOTALL), advice=advice)


def _table(description: str, signature: bytes, table: TableFileFormat) -> FileType:
    return FileType(description, re.compile(signature, re.DOTALL), table=table)


def _text(description: str, signature: bytes, advice: str | None = None) -> FileType:
    return _other(description, b"(?i)" + _BLANK + signature, advice)


class TableFileType(NamedTuple):
    """How the files of one format are named and sent; their first bytes decide what they are."""

    description: str
    """With its article, such as "a Parquet file"."""
    extensions: tuple[str, ...]
    """Of the names of its files."""
    media_types: tuple[str, ...]
    """The first one is registered, or the usual one."""
    is_common: bool = False
    """Whether OpenAPI lists it."""


TABLE_FILES = (
    TableFileType(
        "a Parquet file",
        (".parquet", ".pq"),
        ("application/vnd.apache.parquet", "application/parquet", "application/x-parquet"),
        is_common=True,
    ),
    TableFileType(
        "an Arrow file",
        (".arrow", ".feather", ".ipc"),
        ("application/vnd.apache.arrow.file",),
        is_common=True,
    ),
    TableFileType(
        "an Arrow stream",
        (".arrows",),
        ("application/vnd.apache.arrow.stream",),
        is_common=True,
    ),
    TableFileType(
        "an Excel file",
        (".xlsx",),
        ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",),
        is_common=True,
    ),
    TableFileType("an Excel file", (".xls",), ("application/vnd.ms-excel",)),
    TableFileType(
        "an Excel file", (".xlsb",), ("application/vnd.ms-excel.sheet.binary.macroenabled.12",)
    ),
    TableFileType("an Excel file", (".xlsm",), ("application/vnd.ms-excel.sheet.macroenabled.12",)),
    TableFileType("a spreadsheet", (".ods",), ("application/vnd.oasis.opendocument.spreadsheet",)),
)
TABLE_FILE_TYPES = tuple(each for kind in TABLE_FILES for each in kind.media_types)
"""The media types of table files that are not text."""
TABLE_FILE_EXTENSIONS = {each: kind.description for kind in TABLE_FILES for each in kind.extensions}
"""What a file is by the extension of its name."""

GZIP_SIGNATURE = b"\x1f\x8b"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

FILE_TYPES = (
    _image("PNG", re.escape(PNG_SIGNATURE)),
    _image("JPEG", rb"\xff\xd8\xff"),
    _image("WebP", rb"RIFF.{4}WEBP"),
    _image("GIF", rb"GIF8[79]a"),
    _image("BMP", rb"BM", resembles_text=True),
    _image("TIFF", rb"II[*+]\x00|MM\x00[*+]"),
    _image("PNM", rb"P(?:[1-6]|[Ff]|0CMYK|yRGBA|yP)\s", resembles_text=True),
    _image("ICO", rb"\x00\x00\x01\x00"),
    _image("AVIF", rb".{4}ftypavi[fs]"),
    _image("JPEG 2000", rb"\x00\x00\x00\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"),
    _other("a HEIC photograph", rb".{4}ftyp(?:hei[cxms]|hev[cx]|mif1|msf1)", "save it as JPEG"),
    _other(
        "a video",
        rb".{4}ftyp|\x1a\x45\xdf\xa3|RIFF.{4}AVI ",
        "save one frame of it as PNG or JPEG",
    ),
    _other("an audio file", rb"RIFF.{4}WAVE"),
    _other("a PDF document", rb"%PDF", "export the page as PNG or JPEG"),
    _other("a PostScript document", rb"%!PS|\xc5\xd0\xd3\xc6", "export it as PNG"),
    _other("a Photoshop document", rb"8BPS", "export it as PNG"),
    _table(
        "an Office document (.xlsx, .docx)",
        rb"PK\x03\x04.{26}(?:\[Content_Types\]|_rels|xl/|word/)",
        "workbook",
    ),
    _other("an empty zip archive", rb"PK\x05\x06"),
    FileType(
        "a zip archive or a spreadsheet (.xlsx, .ods)",
        re.compile(rb"PK\x03\x04"),
        advice="unpack it",
        table="workbook",
    ),
    _table("an old Excel spreadsheet (.xls)", rb"\xd0\xcf\x11\xe0", "workbook"),
    _other(
        "compressed with gzip",
        re.escape(GZIP_SIGNATURE),
        "decompress it, or send Content-Encoding: gzip",
    ),
    _other("compressed with bzip2", rb"BZh", "decompress it"),
    _other("compressed with xz", rb"\xfd7zXZ", "decompress it"),
    _other("compressed with zstd", rb"\x28\xb5\x2f\xfd", "decompress it"),
    _table("a Parquet file", rb"PAR1", "parquet"),
    _table("an Arrow file", rb"ARROW1", "arrow"),
    # A continuation marker, the length of the schema, and the offset of its first table.
    _table("an Arrow stream", rb"\xff{4}.{3}\x00.\x00\x00\x00", "arrow_stream"),
    _other("an HDF5 file", rb"\x89HDF"),
    _other("an SQLite database", rb"SQLite format 3"),
    _text("an SVG drawing", _XML + rb"(?:<!doctype svg.{0,400}?)?<svg", "export it as PNG"),
    _text("a web page", rb"<(?:!|html|head|body)", "send the image's own file"),
    _text("XML", rb"<\?xml"),
    _text(
        "a data URL",
        rb"data:image/",
        "send it as a string in JSON, or send the decoded bytes",
    ),
    FileType(
        "JSON",
        re.compile(_BLANK + rb"[{\[]"),
        advice="send it as application/json",
        resembles_text=True,
    ),
)


def identify(content: bytes) -> FileType | None:
    """Return the type of a file that begins with ``content``; None without a known signature."""
    start = content[:_SIGNATURE_BYTES]
    return next((known for known in FILE_TYPES if known.signature.match(start)), None)


def describe_file_type(content: bytes) -> str | None:
    """Describe a body that is certainly neither a table nor JSON; None for any other."""
    found = identify(content)
    return None if found is None or found.resembles_text else found.description


def identify_table(content: bytes) -> FileType | None:
    """Return the type of a file with a table that is not text; None for any other file."""
    found = identify(content)
    return None if found is None or found.table is None else found
