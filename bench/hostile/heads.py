"""Request lines and headers that are too large, too many, or inconsistent."""

import asyncio
from functools import cache

from bench.hostile.connection import (
    CLIENT_CLOSED,
    CLOSED,
    RESET,
    Connection,
    HostileClient,
    allowed,
)
from bench.hostile.requests import PREDICT, ROW, chunk, get, head, post, repeated

_HIDDEN = b"GET /models HTTP/1.1\r\nHost: service\r\n\r\n"
_PROTOCOLS = ("foo", "h2c", "websocket", "TLS/1.0", "h2c, foo")
_CHUNKED = "Transfer-Encoding: chunked"
_TLS_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) * 2
_HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9)
_GARBAGE = (b"\0" * 500, b"GET\r\n\r\n", b"\r\n" * 2000, b"HELO mail\r\n", bytes(range(256)) * 8)


async def query_100k(connection: Connection) -> None:
    """Sends a query of 100,000 parameters, 0.9 MB."""
    await connection.request(_long_query())


async def query_semicolons(connection: Connection) -> None:
    """Sends a query of thousands of parameters that is shorter than the longest URL."""
    for separator in "&;":
        query = separator.join(["a"] * 3500)
        await connection.request(post(f"{PREDICT}?{query}", ROW))


async def accept_encoding_2mb(connection: Connection) -> None:
    """Sends 2 MB of ``Accept-Encoding: a,a,...``."""
    await connection.request(post(PREDICT, ROW, f"Accept-Encoding: {'a,' * 1_000_000}a"))


async def accept_lists(connection: Connection) -> None:
    """Sends ``Accept`` and ``Accept-Encoding`` with thousands of entries within the limit."""
    kinds = ",".join(f"a/b;q=0.{n % 1000:03}" for n in range(1800))
    await connection.request(post(PREDICT, ROW, f"Accept: {kinds}", f"Accept-Encoding: {kinds}"))


async def url_100mb(connection: Connection) -> None:
    """Sends a URL of 100 MB."""
    await connection.request(repeated(b"a" * 65536, 1600, b"GET /", b" HTTP/1.1\r\n\r\n"))


async def header_64mb(connection: Connection) -> None:
    """Sends one header of 64 MiB."""
    start = head(PREDICT)[:-2] + b"X-Large: "
    await connection.request(repeated(b"a" * 65536, 1024, start, b"\r\n\r\n"))


async def header_name_64mb(connection: Connection) -> None:
    """Sends one header with a name of 64 MiB."""
    await connection.request(repeated(b"a" * 65536, 1024, head(PREDICT)[:-2], b": 1\r\n\r\n"))


async def headers_50k(connection: Connection) -> None:
    """Sends 50,000 headers."""
    await connection.request(_many_headers())


async def headers_empty(connection: Connection) -> None:
    """Sends thousands of the shortest possible headers, within 64 KiB."""
    await connection.request(post(PREDICT, ROW, *["a:"] * 12_000))


async def cookies(connection: Connection) -> None:
    """Sends a Range of thousands of parts and a Cookie of thousands of pairs."""
    ranges = ",".join(f"{n}-{n}" for n in range(2500))
    pairs = "; ".join(f"a{n}=1" for n in range(2500))
    await connection.request(get("/models", f"Range: bytes={ranges}", f"Cookie: {pairs}"))


async def upgrade_smuggling(connection: Connection) -> None:
    """Sends a POST with ``Upgrade`` and a second request as its body in a separate packet."""
    protocol = connection.attack.in_turn(_PROTOCOLS)
    headers = f"Upgrade: {protocol}", "Connection: Upgrade, HTTP2-Settings"
    framings = (f"Content-Length: {len(_HIDDEN)}", _HIDDEN), (_CHUNKED, chunk(_HIDDEN) + chunk(b""))
    length, body = connection.attack.in_turn(framings)
    await connection.only_one_response(head(PREDICT, length, *headers), body)


async def upgrade_ignored(connection: Connection) -> None:
    """Sends a prediction with ``Upgrade``, which must be ignored, in one packet and in two."""
    headers = "Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAEA"
    request = post(PREDICT, ROW, *headers)
    cut = connection.attack.in_turn((0, len(request) - len(ROW), 20))
    await connection.only_one_response(request[:cut], request[cut:])


async def method_smuggling(connection: Connection) -> None:
    """Sends methods that rarely have a body, with a second request as their body."""
    method = connection.attack.in_turn(("CONNECT", "GET", "DELETE", "OPTIONS", "PATCH"))
    length = f"Content-Length: {len(_HIDDEN)}"
    await connection.only_one_response(head("/models", length, method=method), _HIDDEN)


async def lying_lengths(connection: Connection) -> None:
    """Sends inconsistent or invalid lengths, and a second request after the body."""
    body = chunk(ROW) + chunk(b"")
    headers: tuple[tuple[str, ...], ...] = (
        ("Transfer-Encoding: chunked", f"Content-Length: {len(body)}"),
        ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ("Content-Length: 5", f"Content-Length: {len(body)}"),
        (f"Content-Length: +{len(body)}",),
        ("Content-Length: 1_0",),
        ("Transfer-Encoding: xchunked",),
        ("Transfer-Encoding: chunked, identity",),
        ("Transfer-Encoding:\tchunked\r\n x",),
        ("Content-Length : 5",),
    )
    chosen = connection.attack.in_turn(headers)
    await connection.only_one_response(head(PREDICT, *chosen) + body + _HIDDEN)


async def garbage(connection: Connection) -> None:
    """Sends bytes that are not HTTP."""
    await connection.request(connection.attack.in_turn(_GARBAGE))


async def tls_hello(connection: Connection) -> None:
    """Sends the first bytes of TLS."""
    await connection.request(_TLS_HELLO)


async def http2_preface(connection: Connection) -> None:
    """Sends the first bytes of HTTP/2."""
    await connection.request(_HTTP2)


async def expect_silence(connection: Connection) -> None:
    """Sends ``Expect: 100-continue`` and then nothing."""
    await connection.send(head(PREDICT, "Content-Length: 1000000", "Expect: 100-continue"))
    await connection.response()


async def invented_models(connection: Connection) -> None:
    """Sends a different name and version of a model in each request."""
    word = connection.attack.unique()
    for path in (
        f"/models/{word}/predict",
        f"/models/admission/versions/{word}/predict",
        f"/v2/models/{word}{'x' * 200}/infer",
    ):
        await connection.request(post(path, ROW))


async def unknown_urls(connection: Connection) -> None:
    """Sends a different URL and query in each request."""
    word = connection.attack.unique()
    await connection.request(get(f"/{word}/{'x' * 500}"))
    await connection.request(post(f"{PREDICT}?a={word}{'x' * 2000}", ROW))


async def request_ids(connection: Connection) -> None:
    """Sends a different request id with arbitrary bytes in each request."""
    for word in ("x" * 60_000, connection.attack.unique(), "\t\u00ff" * 50):
        await connection.request(post(PREDICT, ROW, f"X-Request-Id: {word}"))


async def distinct_heads(connection: Connection) -> None:
    """Sends a different head of 8 KB in each request."""
    word = connection.attack.unique()
    await connection.request(post(PREDICT, ROW, f"X-Filler: {word}{'x' * 8000}"))


async def aborted_heads(connection: Connection) -> None:
    """Sends half of a head and resets the connection."""
    await connection.send(head(PREDICT, "Content-Length: 100")[:-20])
    connection.close(reset=True)
    await asyncio.sleep(0)


@cache
def _long_query() -> bytes:
    query = "&".join(f"a{n}=1" for n in range(100_000))
    return post(f"{PREDICT}?{query}", ROW)


@cache
def _many_headers() -> bytes:
    return post(PREDICT, ROW, *(f"X-{n}: 1" for n in range(50_000)))


_TOO_LARGE = allowed(413, 414, 431)
# The server need not read the rest of tens of megabytes.
_CUT_OFF = _TOO_LARGE | {RESET, CLOSED}
_BAD = allowed(400, 408, 501, 505, CLOSED)
CLIENTS = (
    HostileClient("query_100k", query_100k, _TOO_LARGE | {RESET}),
    HostileClient("query_semicolons", query_semicolons, allowed(414)),
    HostileClient("accept_encoding_2MB", accept_encoding_2mb, _TOO_LARGE | {RESET}),
    HostileClient("accept_lists", accept_lists, allowed(200, 400, 406, 431)),
    HostileClient("url_100MB", url_100mb, _CUT_OFF, connections=1),
    HostileClient("header_64MB", header_64mb, _CUT_OFF, connections=1),
    HostileClient("header_name_64MB", header_name_64mb, _CUT_OFF, connections=1),
    HostileClient("headers_50k", headers_50k, _TOO_LARGE | {RESET}),
    HostileClient("headers_empty", headers_empty, allowed(400, 431)),
    HostileClient("cookies", cookies, allowed(200, 416, 431)),
    HostileClient("upgrade_smuggling", upgrade_smuggling, allowed(400, 501)),
    HostileClient("upgrade_ignored", upgrade_ignored, allowed(200)),
    HostileClient("method_smuggling", method_smuggling, allowed(200, 400, 404, 405, 501)),
    HostileClient("lying_lengths", lying_lengths, _BAD | allowed(200, 411)),
    HostileClient("garbage", garbage, _BAD, pause=0.05),
    HostileClient("tls_hello", tls_hello, _BAD, pause=0.05),
    HostileClient("http2_preface", http2_preface, _BAD, pause=0.05),
    HostileClient("expect_silence", expect_silence, allowed(408, CLOSED), 50, seconds=46),
    HostileClient("invented_models", invented_models, allowed(404), 8, pause=0.005),
    HostileClient("unknown_urls", unknown_urls, allowed(200, 400, 404), 8, pause=0.005),
    HostileClient("request_ids", request_ids, allowed(200, 400), 8, pause=0.005),
    HostileClient("distinct_heads", distinct_heads, allowed(200), 8, pause=0.005),
    HostileClient("aborted_heads", aborted_heads, allowed(CLIENT_CLOSED), 8, pause=0.005),
)
