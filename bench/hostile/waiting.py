"""Connections that the client keeps open without doing its part."""

import asyncio
import socket

from bench.hostile.connection import (
    CLOSED,
    REJECTED,
    RESET,
    Connection,
    HostileClient,
    allowed,
)
from bench.hostile.requests import CSV, PREDICT, ROW, chunk, get, head, post, rows

_FOREVER = 1_000_000
_INDEX = "/v2/repository/index"
_REGISTER = "/v2/systemsharedmemory/region/x/register"
_LENGTH = "Content-Length: 1000000"
# Within what the repository's calls take.
_SHORT = "Content-Length: 1000"


async def idle_connections(connection: Connection) -> None:
    """500 connections that send nothing."""
    await connection.response()


async def idle_keep_alive(connection: Connection) -> None:
    """Connections that send nothing after one request."""
    await connection.request(get("/health/live"))
    # The service may close it, or wait for longer than this client runs.
    await connection.response()


async def idle_to_the_limit(connection: Connection) -> None:
    """5,000 connections that send nothing, more than the service has files or places."""
    await connection.response()


async def slow_head(connection: Connection) -> None:
    """A head, one byte after another."""
    whole = head(PREDICT, *(f"X-{n}: 1" for n in range(90)))
    await connection.drip((whole[n : n + 1] for n in range(len(whole))), 0.2)


async def half_head(connection: Connection) -> None:
    """Half a head, and then nothing."""
    await connection.request(head(PREDICT, _LENGTH)[:-20])


async def half_line(connection: Connection) -> None:
    """A few bytes of a request line after a request that was whole."""
    await connection.request(post(PREDICT, ROW))
    await connection.request(b"POST /mod")


async def slow_body(connection: Connection) -> None:
    """A body, one byte after another."""
    await connection.send(head(PREDICT, _LENGTH))
    await connection.drip((b" " for _ in range(_FOREVER)), 0.1)


async def slow_chunks(connection: Connection) -> None:
    """A chunked body and a table, one byte after another."""
    kind = connection.attack.in_turn(("application/json", CSV))
    await connection.send(head(PREDICT, "Transfer-Encoding: chunked", kind=kind))
    await connection.drip((chunk(b" ") for _ in range(_FOREVER)), 0.1)


async def no_body(connection: Connection) -> None:
    """A length, and never a byte of the body."""
    await connection.request(head(PREDICT, _LENGTH))


async def stalled_index(connection: Connection) -> None:
    """A body that stops, for the repository's index."""
    await connection.request(head(_INDEX, _SHORT) + b"{")


async def stalled_register(connection: Connection) -> None:
    """A body that stops, for the registration of shared memory."""
    await connection.request(head(_REGISTER, _SHORT) + b"{")


async def stalled_elsewhere(connection: Connection) -> None:
    """Bodies that stop where no body is needed, or no path is."""
    method, path = connection.attack.in_turn(
        (("GET", "/health/live"), ("POST", "/nothing"), ("DELETE", "/models"), ("GET", "/metrics"))
    )
    await connection.request(head(path, _LENGTH, method=method) + b"{")
    # The response need not wait for the body, but the connection must end.
    await connection.response()


async def never_reads(connection: Connection) -> None:
    """Asks for large responses and reads none."""
    for _ in range(20):
        await connection.send(get("/openapi.json") + get("/metrics") + post(PREDICT, rows(2000)))
    await connection.leave_unread()


async def reads_slowly(connection: Connection) -> None:
    """Reads a large response a hundred bytes a second, and then nothing more."""
    await connection.send(post(PREDICT, rows(100_000)))
    loop = asyncio.get_running_loop()
    for _ in range(3):
        if not await loop.sock_recv(connection.socket, 100):
            raise ConnectionResetError
        await asyncio.sleep(1)
    await connection.leave_unread()


async def pipelined_unread(connection: Connection) -> None:
    """129 MB of requests over 50 connections, no response read."""
    together = post(PREDICT, ROW) * 400
    for _ in range(2_600_000 // len(together)):
        await connection.send(together)
    await connection.leave_unread()


async def pipelined_read(connection: Connection) -> None:
    """4,000 requests at once on one connection, all responses read."""
    await connection.request(post(PREDICT, ROW) * 4000)
    for _ in range(3999):
        await connection.response()


async def half_closed(connection: Connection) -> None:
    """Closes its sending side once the request is sent, as ``nc -N`` does."""
    kind, body = connection.attack.in_turn(
        (("application/json", ROW), (CSV, b"exam_1,exam_2\n" + b"45,85\n" * 2000))
    )
    await connection.send(post(PREDICT, body, kind=kind))
    connection.socket.shutdown(socket.SHUT_WR)
    await connection.response()


async def slow_upload(connection: Connection) -> None:
    """A steady upload, slow but above the minimum rate; it must get a response (2 KB in 4 s)."""
    body = rows(200)
    await connection.send(head(PREDICT, f"Content-Length: {len(body)}"))
    await connection.drip((body[n : n + 100] for n in range(0, len(body), 100)), 0.05)


async def rejected_upload(connection: Connection) -> None:
    """An upload that is too large, on a connection that was used before."""
    await connection.request(post(PREDICT, ROW))
    size = 200_000_000
    start = head(PREDICT, f"Content-Length: {size}")
    await connection.send(start)
    await connection.drip((b" " * 65536 for _ in range(size // 65536)), 0.01)


_TIMED_OUT = allowed(408, CLOSED)
_UNREAD = allowed(200, RESET, CLOSED)
CLIENTS = (
    HostileClient("idle_connections", idle_connections, _TIMED_OUT, 500, seconds=46),
    HostileClient("idle_keep_alive", idle_keep_alive, allowed(200), 200, seconds=82),
    HostileClient(
        "idle_to_the_limit",
        idle_to_the_limit,
        _TIMED_OUT | {RESET, REJECTED, "503"},
        5000,
        seconds=46,
    ),
    HostileClient("slow_head", slow_head, _TIMED_OUT, 100, seconds=46),
    HostileClient("half_head", half_head, _TIMED_OUT, 100, seconds=46),
    HostileClient("half_line", half_line, allowed(200, 408), 100, seconds=46),
    HostileClient("slow_body", slow_body, _TIMED_OUT, 100, seconds=46),
    HostileClient("slow_chunks", slow_chunks, allowed(200, 400, 429) | _TIMED_OUT, 100, seconds=46),
    HostileClient("no_body", no_body, _TIMED_OUT, 100, seconds=46),
    HostileClient("stalled_index", stalled_index, _TIMED_OUT, 100, seconds=46),
    HostileClient("stalled_register", stalled_register, allowed(403) | _TIMED_OUT, 100, seconds=46),
    HostileClient(
        "stalled_elsewhere", stalled_elsewhere, allowed(200, 404, 405) | _TIMED_OUT, 100, seconds=46
    ),
    HostileClient("never_reads", never_reads, _UNREAD, 20, seconds=46, receive_bytes=4096),
    HostileClient("reads_slowly", reads_slowly, _UNREAD, 20, seconds=46, receive_bytes=4096),
    HostileClient(
        "pipelined_unread", pipelined_unread, _UNREAD, 50, seconds=60, receive_bytes=4096
    ),
    HostileClient("pipelined_read", pipelined_read, allowed(200), 4, pause=0.1),
    HostileClient("half_closed", half_closed, allowed(200), 8),
    HostileClient("slow_upload", slow_upload, allowed(200), 20),
    HostileClient("rejected_upload", rejected_upload, allowed(200, 413), 4),
)
