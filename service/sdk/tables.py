"""Tables that are sent as they are, in pieces: files, open files, bytes and iterables."""

import asyncio
import io
import os
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from service.sdk.errors import InvalidData
from service.sdk.values import encode, to_json

CSV, NDJSON = "text/csv", "application/x-ndjson"
MEDIA_TYPES: Mapping[str, str] = {
    "csv": CSV,
    "ndjson": NDJSON,
    "json": "application/json",
    "parquet": "application/vnd.apache.parquet",
    "arrow": "application/vnd.apache.arrow.file",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "xls": "application/vnd.ms-excel",
    "ods": "application/vnd.oasis.opendocument.spreadsheet",
}
# The service reads all of them, except a document, and writes these.
_WRITTEN = ("csv", "ndjson", "json")
_FORMATS: Mapping[str, str] = {
    **{name: name for name in MEDIA_TYPES},
    "tsv": "csv",
    "txt": "csv",
    "jsonl": "ndjson",
    "feather": "arrow",
    "ipc": "arrow",
    "xlsm": "xlsx",
    "xlsb": "xlsx",
}
PIECE_BYTES = 256 * 1024


@dataclass(frozen=True)
class TableSource:
    """The bytes of a table.

    Attributes:
        open: begins to read the pieces; asynchronous only if an `AsyncIterable` was passed.
        headers: the type of the content, and its compression.
        repeatable: whether ``open`` can be called again.
        format: a key of `MEDIA_TYPES`.
    """

    open: Callable[[], Iterator[bytes] | AsyncIterator[bytes]]
    headers: Mapping[str, str]
    repeatable: bool
    format: str

    def pieces(self) -> Iterator[bytes]:
        """Begin to read the pieces."""
        opened = self.open()
        if isinstance(opened, AsyncIterator):
            raise InvalidData("Only AsyncClient reads a table from an asynchronous iterable.")
        return opened

    async def async_pieces(self) -> AsyncIterator[bytes]:
        """Begin to read the pieces; a thread reads those of files, which may be slow."""
        opened = self.open()
        if isinstance(opened, AsyncIterator):
            async for piece in opened:
                yield piece
            return
        while piece := await asyncio.to_thread(_next_piece, opened):
            yield piece


def open_source(source: Any, format_name: str | None) -> TableSource:  # noqa: ANN401 - see InvalidData below
    """Return a table as pieces of bytes.

    Args:
        source: a path, bytes, an open file, or an iterable of bytes, of text or of rows.
        format_name: a key of `MEDIA_TYPES`; None derives it from the name of the file.
    """
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        return _describe(lambda: _read_path(path), path.name, format_name, repeatable=True)
    if isinstance(source, bytes | bytearray | memoryview):
        content = bytes(source)
        return _describe(lambda: iter((content,)), "", format_name or "csv", repeatable=True)
    if hasattr(source, "read"):
        name = getattr(source, "name", "")
        name = name if isinstance(name, str) else ""
        return _describe(lambda: _read_file(source), name, format_name, repeatable=False)
    if isinstance(source, AsyncIterable):
        pieces = _encode_async(source)
        return _describe(lambda: pieces, "", format_name or "csv", repeatable=False)
    if not isinstance(source, Iterable) or isinstance(source, Mapping) or hasattr(source, "shape"):
        raise InvalidData(
            f"A value of type {type(source).__name__} is not a table that can be streamed; pass a "
            "path, bytes, an open file or an iterable of bytes, text or rows. Use predict() for a "
            "DataFrame."
        )
    items = iter(source)
    with suppress(StopIteration):
        items = chain((first := next(items),), items)
        format_name = format_name or ("csv" if isinstance(first, bytes | str) else "ndjson")
    return _describe(lambda: map(_to_piece, items), "", format_name or "csv", repeatable=False)


def response_type(target: Any, source_format: str) -> str:  # noqa: ANN401 - a path or an open file
    """Return the media type of the response for a path, by default that of the source.

    Raise `InvalidData` if the service does not write files of the path's format.
    """
    default = source_format if source_format in _WRITTEN else "csv"
    if not isinstance(target, str | os.PathLike):
        return MEDIA_TYPES[default]
    suffix = Path(target).suffix.lower()[1:]
    found = _FORMATS.get(suffix, default)
    if found not in _WRITTEN or suffix == "gz":
        raise InvalidData(
            f"The service writes no .{suffix} files, got {Path(target).name!r}; name the target "
            "with .csv, .ndjson or .json."
        )
    return MEDIA_TYPES[found]


@contextmanager
def open_target(target: str | os.PathLike[str] | IO[bytes]) -> Iterator[IO[bytes]]:
    """Give a file to write; a path has its new content only if there was no error."""
    if isinstance(target, io.TextIOBase):
        raise InvalidData("Open the target in binary mode: open(path, 'wb').")
    if not isinstance(target, str | os.PathLike):
        yield target
        return
    path = Path(target).resolve()
    if path.exists() and not path.is_file():
        # A pipe or a device is written, not replaced.
        with path.open("wb") as file:
            yield file
        return
    unfinished = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with unfinished.open("xb") as file:
            yield file
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _describe(
    pieces: Callable[[], Iterator[bytes] | AsyncIterator[bytes]],
    name: str,
    format_name: str | None,
    *,
    repeatable: bool,
) -> TableSource:
    stem, compressed = (name[:-3], True) if name.lower().endswith(".gz") else (name, False)
    found = format_name or _FORMATS.get(Path(stem).suffix.lower()[1:])
    if found is None or found == "json" or found not in MEDIA_TYPES:
        known = ", ".join(key for key in MEDIA_TYPES if key != "json")
        raise InvalidData(
            f"The format of the table {name!r} is unknown; pass format=, one of {known}."
            if format_name is None
            else f"The format {format_name!r} is unknown; use one of {known}."
        )
    headers = {"content-type": MEDIA_TYPES[found]}
    if compressed:
        headers["content-encoding"] = "gzip"
    return TableSource(pieces, headers, repeatable, found)


def _next_piece(pieces: Iterator[bytes]) -> bytes:
    """Return a piece that is not empty; the empty one is the end."""
    return next(filter(None, pieces), b"")


def _read_path(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from _read_file(file)


def _read_file(file: IO[Any]) -> Iterator[bytes]:
    try:
        while piece := file.read(PIECE_BYTES):
            yield _to_piece(piece)
    except UnicodeDecodeError as error:
        # The encoding of a file in text mode is that of the computer, and not of the file.
        raise InvalidData(f"Open the table in binary mode, open(path, 'rb'): {error}.") from None


async def _encode_async(items: AsyncIterable[Any]) -> AsyncIterator[bytes]:
    async for item in items:
        yield _to_piece(item)


def _to_piece(item: Any) -> bytes:  # noqa: ANN401 - bytes, text or a row
    """Return the bytes of an item; a row becomes a line of JSON."""
    if isinstance(item, bytes):
        return item
    if isinstance(item, str):
        return item.encode()
    return encode(to_json(item)) + b"\n"
