"""Tables with endless rows, with responses that are not read, or with closed connections."""

import asyncio
import gzip
from functools import cache
from itertools import chain

from bench.hostile.connection import (
    CLIENT_CLOSED,
    CLOSED,
    RESET,
    Connection,
    HostileClient,
    allowed,
)
from bench.hostile.requests import CSV, NDJSON, PREDICT, ROW, chunk, head, in_chunks, post, repeated

_HEADER = b"exam_1,exam_2\n"
_LINE = b"45,85\n"
_CHUNKED = "Transfer-Encoding: chunked"
# Some of the shipped models.
_MODELS = ("admission", "california_mlp", "churn", "digits_conv", "fruit", "iris", "line", "xor")
_FULL_SECONDS = 6.0
_GZIP = "Content-Encoding: gzip"


async def csv_quotes(connection: Connection) -> None:
    """Sends 120 KB of ``a","b`` in one line and in many, with and without a header."""
    for first in (b"", _HEADER):
        for piece in (b'a","b\n', b'a","b'):
            body = first + piece * (120_000 // len(piece)) + b"\n"
            await connection.request(post(PREDICT, body, kind=CSV))


async def csv_open_quote(connection: Connection) -> None:
    """Sends a quote that is never closed, and then 7 MB of lines."""
    start = head(PREDICT, _CHUNKED, kind=CSV)
    pieces = in_chunks(repeated(_LINE, 1_200_000, _HEADER + b'"'))
    await connection.request(chain((start,), pieces))


async def csv_wide(connection: Connection) -> None:
    """Sends a header and a row of 400,000 columns."""
    await connection.request(post(PREDICT, b"a," * 400_000 + b"b\n1,2\n", kind=CSV))
    await connection.request(post(PREDICT, _HEADER + b"1," * 400_000 + b"1\n", kind=CSV))


async def csv_blank_lines(connection: Connection) -> None:
    """Sends megabytes of line breaks of every kind."""
    breaks = connection.attack.in_turn((b"\n", b"\r", b"\r\n", b"\n\r", b" \n", b",\n"))
    await connection.request(post(PREDICT, _HEADER + breaks * 200_000, kind=CSV))


async def ndjson_endless_line(connection: Connection) -> None:
    """Sends an endless line of newline-delimited JSON."""
    start = head(PREDICT, _CHUNKED, kind=NDJSON)
    pieces = in_chunks(repeated(b'{"exam_1":1,', 5_000_000))
    await connection.request(chain((start,), pieces))


async def ndjson_deep(connection: Connection) -> None:
    """Sends lines of thousands of nested arrays."""
    await connection.request(post(PREDICT, (b"[" * 50_000 + b"\n") * 20, kind=NDJSON))


async def gzip_table_unread(connection: Connection) -> None:
    """Sends eight million rows in 50 KB of gzip, and does not read the response."""
    await connection.send(post(PREDICT, _packed_table(8_000_000), _GZIP, kind=CSV))
    await connection.wait_unread()


async def spool_full(connection: Connection) -> None:
    """Sends tables without reading while the disk has 16 MB, and then requests to all models."""
    if connection.attack.in_turn((False, False, False, True)):
        await asyncio.sleep(_FULL_SECONDS)
        await _call_all_models(connection)
        return
    await connection.send(head(PREDICT, _CHUNKED, kind=CSV))
    for piece in in_chunks(repeated(_LINE, 3_000_000, _HEADER)):
        await connection.send(piece)
    await connection.wait_unread()


async def _call_all_models(connection: Connection) -> None:
    """Send requests to every model in every protocol, each of which has a separate metric."""
    for model in _MODELS:
        for path in (f"/models/{model}/predict", f"/v1/models/{model}:predict"):
            await connection.request(post(path, b'{"instances":[]}'))
        await connection.request(post(f"/models/{model}/predict", b"a,b\n1,2\n", kind=CSV))
        await connection.request(post(f"/v2/models/{model}/infer", b'{"inputs":[]}'))


async def tables_left(connection: Connection) -> None:
    """Sends a table of a million rows and closes."""
    await connection.send(post(PREDICT, _packed_table(1_000_000), _GZIP, kind=CSV))
    await asyncio.sleep(0.1)
    connection.close()


async def tables_reset(connection: Connection) -> None:
    """Sends a table and resets the connection in the middle of a row."""
    await connection.send(head(PREDICT, _CHUNKED, kind=CSV))
    await connection.send(chunk(_HEADER + _LINE * 5000 + b"45,"))
    await asyncio.sleep(0.05)
    connection.close(reset=True)


async def tables_1000(connection: Connection) -> None:
    """Sends a thousand tables at the same time, slowly."""
    await connection.send(head(PREDICT, _CHUNKED, kind=CSV) + chunk(_HEADER))
    await connection.send_slowly([*[chunk(_LINE * 30)] * 6, chunk(b"")], 0.4)


async def tables_http10(connection: Connection) -> None:
    """Sends a table by HTTP/1.0, whose clients cannot read chunks."""
    body = _HEADER + _LINE * 5000
    start = head(PREDICT, f"Content-Length: {len(body)}", kind=CSV, version="1.0")
    response = await connection.request(start + body)
    if "transfer-encoding" in response.headers:
        connection.attack.outcomes["chunked to HTTP/1.0"] += 1


async def tables_of_errors(connection: Connection) -> None:
    """Sends a table with a long error for every row."""
    invalid = b'{"exam_1":"%b"}\n' % (b"x" * 500)
    await connection.request(post(PREDICT, invalid * 5000, kind=NDJSON))
    await connection.request(post(PREDICT, ROW[:-1] + b"\n", kind=NDJSON))


@cache
def _packed_table(count: int) -> bytes:
    return gzip.compress(_HEADER + _LINE * count, 9)


_BAD = allowed(200, 400, 413, 415)
_BUSY = allowed(429, 503, 507)
_UNREAD = allowed(200, 413, RESET, CLOSED) | _BUSY
CLIENTS = (
    HostileClient("csv_quotes", csv_quotes, _BAD | _BUSY),
    HostileClient(
        "csv_open_quote", csv_open_quote, _BAD | _BUSY | {RESET, CLOSED}, connections=2, seconds=46
    ),
    HostileClient("csv_wide", csv_wide, _BAD | _BUSY),
    HostileClient("csv_blank_lines", csv_blank_lines, _BAD | _BUSY),
    HostileClient(
        "ndjson_endless_line", ndjson_endless_line, _BAD | _BUSY | {RESET, CLOSED}, connections=2
    ),
    HostileClient("ndjson_deep", ndjson_deep, _BAD | _BUSY),
    HostileClient("gzip_table_unread", gzip_table_unread, _UNREAD, 4, seconds=46),
    HostileClient("spool_full", spool_full, _UNREAD | _BAD, 8, seconds=46, small_disk=True),
    HostileClient("tables_left", tables_left, allowed(CLIENT_CLOSED), 4, pause=0.1),
    HostileClient("tables_reset", tables_reset, allowed(CLIENT_CLOSED), 8, pause=0.05),
    HostileClient("tables_1000", tables_1000, allowed(200, 408) | _BUSY, 1000),
    HostileClient("tables_http10", tables_http10, allowed(200) | _BUSY),
    HostileClient("tables_of_errors", tables_of_errors, _BAD | _BUSY),
)
