"""More requests and connections than the service can process."""

import asyncio

from bench.hostile.connection import (
    CLIENT_CLOSED,
    REJECTED,
    RESET,
    Connection,
    HostileClient,
    allowed,
)
from bench.hostile.requests import PREDICT, ROW, get, head, objects, post, rows


async def flood_2000_rows(connection: Connection) -> None:
    """Sends bodies of 2,000 rows over 500 connections."""
    while True:
        await connection.request(post(PREDICT, objects(2000)))


async def flood_one_row(connection: Connection) -> None:
    """Sends single rows over 200 connections without a pause."""
    while True:
        await connection.request(post(PREDICT, ROW))


async def flood_documents(connection: Connection) -> None:
    """Requests metrics, the OpenAPI document and statistics without a pause."""
    for path in ("/metrics", "/openapi.json", "/v2/models/stats", "/models", "/docs"):
        await connection.request(get(path))


async def flood_index(connection: Connection) -> None:
    """Requests the index of the repository over eight connections."""
    await connection.request(post("/v2/repository/index", b"{}"))


async def churn(connection: Connection) -> None:
    """Connects and closes, up to thousands of times per second."""
    connection.close()
    await asyncio.sleep(0)


async def churn_reset(connection: Connection) -> None:
    """Connects, sends a request and resets the connection."""
    await connection.send(post(PREDICT, ROW))
    connection.close(reset=True)


async def half_open_garbage(connection: Connection) -> None:
    """Sends a few bytes and resets the connection, many times per second."""
    await connection.send(b"\x16\x03")
    connection.close(reset=True)


async def leaves_during_work(connection: Connection) -> None:
    """Sends 20,000 rows and closes before the response."""
    await connection.send(post(PREDICT, rows(20_000)))
    await asyncio.sleep(0.01)
    connection.close()


async def leaves_during_body(connection: Connection) -> None:
    """Sends most of a large body and closes."""
    body = rows(300_000)
    await connection.send(head(PREDICT, f"Content-Length: {len(body) + 10}") + body)
    connection.close()


_BUSY = allowed(200, 429, 503, 504)
_DISCONNECTED = allowed(CLIENT_CLOSED, REJECTED, RESET)
CLIENTS = (
    HostileClient("flood_2000_rows", flood_2000_rows, _BUSY, 500, victim=allowed(429)),
    HostileClient("flood_one_row", flood_one_row, _BUSY, 200),
    HostileClient("flood_documents", flood_documents, _BUSY, 8, pause=0.0),
    HostileClient("flood_index", flood_index, _BUSY, 8, pause=0.0),
    HostileClient("churn", churn, _DISCONNECTED, 50, pause=0.0),
    HostileClient("churn_reset", churn_reset, _DISCONNECTED, 20, pause=0.0),
    HostileClient("half_open_garbage", half_open_garbage, _DISCONNECTED, 20, pause=0.0),
    HostileClient("leaves_during_work", leaves_during_work, _DISCONNECTED, 8, pause=0.05),
    HostileClient("leaves_during_body", leaves_during_body, _DISCONNECTED, 4, pause=0.1),
)
