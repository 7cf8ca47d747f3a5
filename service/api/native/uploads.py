"""The table of a request: its body, the file of a form, or a table file that becomes text."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from fastapi import Request

from service.api.body import (
    BINARY,
    HEAD,
    JSON,
    RequestHead,
    join_pieces,
    parse_media_type,
)
from service.api.middleware import get_quotas
from service.api.native.forms import MULTIPART, TABLE, read_files
from service.errors import InvalidRequest, UnsupportedContent
from service.filetypes import TABLE_FILE_TYPES, FileType
from service.limits import UNCOUNTED_BODY_BYTES, Limits
from service.scoring import TableForm
from service.settings import Settings
from service.spelling import format_install
from service.tablefiles.libraries import are_installed
from service.tablefiles.process import TableFileProcesses
from service.tablefiles.start import identify_stream
from service.values import format_value

# Browsers on Windows send CSV files with it.
_OLD_EXCEL = "application/vnd.ms-excel"
_JSON_LINES = (".ndjson", ".jsonl")
_WITHOUT_LIBRARIES = (
    " Parquet, Arrow and Excel files need the extra 'tables' on the service's machine; "
    f"{format_install('tables')}."
)


@dataclass(frozen=True)
class Upload:
    """A table as text, its form, and the columns of numbers if it was a table file."""

    pieces: AsyncIterator[bytes]
    form: TableForm
    numbers: Collection[int] | None = None


def may_hold_table(content_type: str | None) -> bool:
    """Return whether the media type is of any file, so that the model decides what it is."""
    return content_type is not None and parse_media_type(content_type) in (MULTIPART, BINARY)


class TableUploads:
    """Opens the tables of requests, except those whose media type is that of a text."""

    def __init__(self, settings: Settings, limits: Limits, processes: TableFileProcesses) -> None:
        self._max_body_bytes = settings.max_body_bytes
        self._limits = limits
        self._processes = processes

    @asynccontextmanager
    async def open(
        self, request: Request, pieces: AsyncIterator[bytes], form: TableForm
    ) -> AsyncIterator[Upload]:
        """Find the table in a body; a table file is read until the context is left.

        Args:
            request: has the media type, and the quotas that hold a body that is not streamed.
            pieces: of the body, decompressed.
            form: of the table, by its media type, which is not that of a text.

        Raises:
            InvalidRequest: the form has no table or several, or the table file cannot be read.
            UnsupportedContent: the service cannot read table files.
            BodyTooLarge: a form or a table file exceeds the limit of a body.
            TooManyBytesInFlight: the bodies of all requests would take too much memory.
        """
        head: RequestHead = request.scope[HEAD]
        media_type = parse_media_type(head.content_type or JSON)
        if media_type == MULTIPART:
            name, content = await self._read_form(request, head, pieces)
            form = "ndjson" if name.lower().endswith(_JSON_LINES) else form
            pieces = _yield_piece(content)
        kind, pieces = await identify_stream(pieces)
        if kind is None:
            if media_type in TABLE_FILE_TYPES and media_type != _OLD_EXCEL:
                raise _without_signature(media_type)
            yield Upload(pieces, form)
            return
        async with self._processes.open(await self._join(request, pieces, kind), kind) as file:
            yield Upload(file.pieces(), "csv", file.numbers)

    async def _join(self, request: Request, pieces: AsyncIterator[bytes], kind: FileType) -> bytes:
        """Return a table file, whose end says where its parts are."""
        if not are_installed():
            raise UnsupportedContent("The body", kind.description, ["text/csv"], _WITHOUT_LIBRARIES)
        return await join_pieces(pieces, self._max_body_bytes, get_quotas(request.scope))

    async def _read_form(
        self, request: Request, head: RequestHead, pieces: AsyncIterator[bytes]
    ) -> tuple[str, bytes]:
        """Return the name and the content of the only file of a form."""
        quotas = get_quotas(request.scope)
        body = await join_pieces(pieces, self._max_body_bytes, quotas)
        quotas.hold_bytes(2 * len(body))  # the form, and its file
        read = partial(
            read_files, body, head.content_type or "", self._limits.require_form_parts, TABLE
        )
        is_small = len(body) <= UNCOUNTED_BODY_BYTES
        files = read() if is_small else await asyncio.to_thread(read)
        if len(files) > 1:
            names = " and ".join(format_value(name) for name, _ in files[:2])
            raise InvalidRequest(
                f"The form holds {len(files)} files, {names}"
                f"{' among them' if len(files) > 2 else ''}; send one table per request."  # noqa: PLR2004 - names shown
            )
        return files[0]


def _without_signature(media_type: str) -> InvalidRequest:
    return InvalidRequest(
        f"Content-Type is {format_value(media_type)}, but the body is no Parquet, Arrow or Excel "
        "file by its first bytes; check that the file is complete, and send CSV as text/csv."
    )


async def _yield_piece(content: bytes) -> AsyncIterator[bytes]:
    yield content
