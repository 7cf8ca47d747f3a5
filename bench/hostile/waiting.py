"""Connections that stay open while the client does not send or read."""

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

_ENDLESS = 1_000_000
_INDEX = "/v2/repository/index"
_REGISTER = "/v2/systemsharedmemory/region/x/register"
_LENGTH = "Content-Length: 1000000"
# Within the limit for the bodies of the repository's endpoints.
_SHORT = "Content-Length: 1000"


async def idle_connections(connection: Connection) -> None:
    """Opens 500 connections and sends nothing."""
    await connection.response()


async def idle_keep_alive(connection: Connection) -> None:
    """Sends one request and then nothing."""
    await connection.request(get("/health/live"))
    # The service may close the connection, or wait until after the end of this client.
    await connection.response()


async def idle_to_the_limit(connection: Connection) -> None:
    """Opens 5,000 connections, more than the limit of the service, and sends nothing."""
    await connection.response()


async def slow_head(connection: Connection) -> None:
    """Sends a head byte by byte."""
    content = head(PREDICT, *(f"X-{n}: 1" for n in range(90)))
    await connection.send_slowly((content[n : n + 1] for n in range(len(content))), 0.2)


async def half_head(connection: Connection) -> None:
    """Sends half of a head and then nothing."""
    await connection.request(head(PREDICT, _LENGTH)[:-20])


async def half_line(connection: Connection) -> None:
    """Sends a complete request and a few bytes of the next one."""
    await connection.request(post(PREDICT, ROW))
    await connection.request(b"POST /mod")


async def slow_body(connection: Connection) -> None:
    """Sends a body byte by byte."""
    await connection.send(head(PREDICT, _LENGTH))
    await connection.send_slowly((b" " for _ in range(_ENDLESS)), 0.1)


async def slow_chunks(connection: Connection) -> None:
    """Sends a chunked body and a table byte by byte."""
    kind = connection.attack.in_turn(("application/json", CSV))
    await connection.send(head(PREDICT, "Transfer-Encoding: chunked", kind=kind))
    await connection.send_slowly((chunk(b" ") for _ in range(_ENDLESS)), 0.1)


async def no_body(connection: Connection) -> None:
    """Sends a Content-Length and no body."""
    await connection.request(head(PREDICT, _LENGTH))


async def stalled_index(connection: Connection) -> None:
    """Sends an incomplete body to the index of the repository."""
    await connection.request(head(_INDEX, _SHORT) + b"{")


async def stalled_register(connection: Connection) -> None:
    """Sends an incomplete body to the registration of shared memory."""
    await connection.request(head(_REGISTER, _SHORT) + b"{")


async def stalled_elsewhere(connection: Connection) -> None:
    """Sends incomplete bodies to paths that need none, or that do not exist."""
    method, path = connection.attack.in_turn(
        (("GET", "/health/live"), ("POST", "/nothing"), ("DELETE", "/models"), ("GET", "/metrics"))
    )
    await connection.request(head(path, _LENGTH, method=method) + b"{")
    # The service may respond before the body is complete, but must close the connection.
    await connection.response()


async def never_reads(connection: Connection) -> None:
    """Requests large responses and reads none."""
    for _ in range(20):
        await connection.send(get("/openapi.json") + get("/metrics") + post(PREDICT, rows(2000)))
    await connection.wait_unread()


async def reads_slowly(connection: Connection) -> None:
    """Reads a large response at a hundred bytes per second, and then stops."""
    await connection.send(post(PREDICT, rows(100_000)))
    loop = asyncio.get_running_loop()
    for _ in range(3):
        if not await loop.sock_recv(connection.socket, 100):
            raise ConnectionResetError
        await asyncio.sleep(1)
    await connection.wait_unread()


async def pipelined_unread(connection: Connection) -> None:
    """Sends 129 MB of requests over 50 connections and reads no response."""
    together = post(PREDICT, ROW) * 400
    for _ in range(2_600_000 // len(together)):
        await connection.send(together)
    await connection.wait_unread()


async def pipelined_read(connection: Connection) -> None:
    """Sends 4,000 requests at once on one connection and reads all responses."""
    await connection.request(post(PREDICT, ROW) * 4000)
    for _ in range(3999):
        await connection.response()


async def half_closed(connection: Connection) -> None:
    """Closes its sending side after the request, like ``nc -N``."""
    kind, body = connection.attack.in_turn(
        (("application/json", ROW), (CSV, b"exam_1,exam_2\n" + b"45,85\n" * 2000))
    )
    await connection.send(post(PREDICT, body, kind=kind))
    connection.socket.shutdown(socket.SHUT_WR)
    await connection.response()


async def slow_upload(connection: Connection) -> None:
    """Uploads slowly but faster than the minimum rate, and must get a response."""
    body = rows(200)
    await connection.send(head(PREDICT, f"Content-Length: {len(body)}"))
    await connection.send_slowly((body[n : n + 100] for n in range(0, len(body), 100)), 0.05)


async def rejected_upload(connection: Connection) -> None:
    """Uploads a body that is too large, on a connection that was used before."""
    await connection.request(post(PREDICT, ROW))
    size = 200_000_000
    start = head(PREDICT, f"Content-Length: {size}")
    await connection.send(start)
    await connection.send_slowly((b" " * 65536 for _ in range(size // 65536)), 0.01)


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
        seconds=60,
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
