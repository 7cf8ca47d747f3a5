"""Bodies of predictions that are expensive to read, invalid or incomplete."""

import gzip
import json
from functools import cache
from itertools import chain

from bench.hostile.connection import (
    CLIENT_CLOSED,
    CLOSED,
    RESET,
    SMUGGLED,
    Connection,
    HostileClient,
    allowed,
)
from bench.hostile.requests import (
    CSV,
    EXPLAIN,
    INFER,
    NDJSON,
    PREDICT,
    ROW,
    chunk,
    head,
    houses,
    in_chunks,
    post,
    repeated,
)

_DIGITS = (20_000, 60_000, 500_000)
_MEBIBYTE = 1024 * 1024
_CHARSET = "Content-Type: application/json; charset="


async def digits_json(connection: Connection) -> None:
    """Sends strings and numbers of 20,000 to 500,000 digits that end with a letter."""
    for count in _DIGITS:
        for form in (b'{"exam_1":"%bx","exam_2":1}', b'{"exam_1":%bx,"exam_2":1}'):
            await connection.request(post(PREDICT, form % (b"1" * count)))


async def digits_csv(connection: Connection) -> None:
    """Sends a CSV whose first line is 20,000 to 500,000 digits and a letter."""
    for count in _DIGITS:
        await connection.request(post(PREDICT, b"1" * count + b"x\n1,2\n", kind=CSV))


async def almost_numbers(connection: Connection) -> None:
    """Sends long texts that are similar to numbers, dates, amounts or arrays."""
    piece = connection.attack.in_turn(
        (b"1,", b"1 ", b"1.", b"1e", b"-", b"1_", b"1:", b"1/1/", b"'", b"1'", b"\xc2\xa0", b"[")
    )
    text = piece * (60_000 // len(piece)) + b"x"
    await connection.request(post(PREDICT, b'{"exam_1":"%b","exam_2":1}' % text))
    await connection.request(post(PREDICT, b"exam_1,exam_2\n%b;1\n1,2\n" % text, kind=CSV))
    await connection.request(post(PREDICT, b"%b\n1,2\n" % text, kind=NDJSON))


@cache
def _compress(data: bytes, count: int) -> bytes:
    return gzip.compress(b"".join(repeated(data, count)), 9)


async def gzip_rows(connection: Connection) -> None:
    """Sends 8 million rows in 98 KB of gzip."""
    packed = _compress(b"[0,0],", 8_000_000)
    await connection.request(post(PREDICT, packed, "Content-Encoding: gzip"))


async def gzip_objects(connection: Connection) -> None:
    """Sends 22 million empty objects in 65 KB of gzip."""
    packed = _compress(b"{},", 22_000_000)
    await connection.request(post(PREDICT, packed, "Content-Encoding: gzip"))


async def gzip_zeros(connection: Connection) -> None:
    """Sends 60 MB of spaces as one gzip member and as many members of one kilobyte."""
    many = gzip.compress(b" " * 1000) * 20_000
    for packed in (_compress(b" ", 60_000_000), many):
        await connection.request(post(PREDICT, packed, "Content-Encoding: gzip"))


async def gzip_broken(connection: Connection) -> None:
    """Sends incomplete gzip, data that is not gzip, and nested encodings."""
    packed = gzip.compress(ROW)
    body, coding = connection.attack.in_turn(
        (
            (packed[:-9], "gzip"),
            (b"\x1f\x8b\x08" + bytes(1000), "gzip"),
            (gzip.compress(packed), "gzip, gzip"),
            (packed, "gzip," * 1000 + "gzip"),
            (packed, "br"),
        )
    )
    await connection.request(post(PREDICT, body, f"Content-Encoding: {coding}"))


async def commas_as_json(connection: Connection) -> None:
    """Sends 32 MB of ``a,a,a...`` as JSON."""
    length = f"Content-Length: {16 * _MEBIBYTE * 2}"
    await connection.request(repeated(b"a,", 16 * _MEBIBYTE, head(PREDICT, length)))


async def deep_json(connection: Connection) -> None:
    """Sends a million nested arrays or objects."""
    for piece in (b"[", b'{"a":'):
        for path in (PREDICT, INFER):
            await connection.request(post(path, piece * 1_000_000))


async def many_keys(connection: Connection) -> None:
    """Sends an object with 400,000 names, and one with the same name repeated."""
    await connection.request(post(PREDICT, _many_names()))
    await connection.request(post(PREDICT, b'{%b"a":1}' % (b'"a":1,' * 400_000)))


async def uploads_15x50mb(connection: Connection) -> None:
    """Uploads 50 MB of rows over each of 15 connections."""
    count = 50_000_000 // 6
    start = head(PREDICT, f"Content-Length: {count * 6 + 7}") + b"["
    await connection.request(repeated(b"[1,2],", count, start, b"[1,2]]"))


async def uploads_held(connection: Connection) -> None:
    """Uploads 50 MB over each of 15 connections, and stops shortly before the end."""
    start = head(PREDICT, f"Content-Length: {50 * _MEBIBYTE}")
    await connection.request(repeated(b" " * 65536, 799, start))


async def charsets(connection: Connection) -> None:
    """Sends a different charset of 50 KB in each request."""
    word = f"{connection.attack.unique()}{'x' * 50_000}"
    length = f"Content-Length: {len(ROW)}"
    await connection.request(head(PREDICT, length, _CHARSET + word, kind="") + ROW)


async def charsets_short(connection: Connection) -> None:
    """Sends a different charset, or an encoding that is not for text, in each request."""
    words = ("utf-16", "utf-7", "idna", "zlib", "rot13", "unicode_escape", "../../x", "\x01")
    word = connection.attack.in_turn((*words, connection.attack.unique()))
    for body in (ROW, ROW.decode().encode("utf-16-le")):
        length = f"Content-Length: {len(body)}"
        await connection.request(head(PREDICT, length, _CHARSET + word, kind="") + body)
        await connection.request(post(PREDICT, body, kind=f"text/csv; charset={word}"))


async def trailers(connection: Connection) -> None:
    """Sends trailers that are only valid as headers, and must be ignored."""
    fields = (
        "Content-Type: text/csv",
        "X-Request-Id: from-a-trailer",
        "Content-Encoding: gzip",
        "Inference-Header-Content-Length: 1",
        "Connection: close",
    )
    ending = "\r\n".join(["0", *fields, "", ""]).encode()
    start = head(PREDICT, "Transfer-Encoding: chunked")
    response = await connection.request(start + chunk(ROW) + ending)
    if response.headers.get("x-request-id") == "from-a-trailer":
        connection.attack.outcomes[SMUGGLED] += 1


async def trailers_million(connection: Connection) -> None:
    """Sends a million trailers."""
    start = head(PREDICT, "Transfer-Encoding: chunked") + chunk(ROW) + b"0\r\n"
    await connection.request(repeated(b"X-More: 1\r\n", 1_000_000, start, b"\r\n"))


async def tiny_chunks(connection: Connection) -> None:
    """Sends a megabyte in chunks of one byte."""
    start = head(PREDICT, "Transfer-Encoding: chunked")
    await connection.request(repeated(chunk(b" "), _MEBIBYTE, start, chunk(ROW) + chunk(b"")))


async def chunk_extensions(connection: Connection) -> None:
    """Sends chunks of one byte with extensions of 10 KB."""
    extended = chunk(b" ", b";x=" + b"y" * 10_000)
    start, end = head(PREDICT, "Transfer-Encoding: chunked"), chunk(ROW) + chunk(b"")
    await connection.request(repeated(extended, 2000, start, end))


async def chunk_lies(connection: Connection) -> None:
    """Sends chunk sizes that are negative, too large, missing or invalid."""
    size = connection.attack.in_turn((b"-1", b"f" * 40, b"ffffffffffffffff", b"0x5", b"", b"5 5"))
    start = head(PREDICT, "Transfer-Encoding: chunked")
    await connection.request(start + size + b"\r\n" + ROW + b"\r\n0\r\n\r\n")


async def v2_empty_strings(connection: Connection) -> None:
    """Sends four million empty strings as a BYTES tensor, and 700,000 as JSON."""
    count = 4_000_000
    document = _v2_header("BYTES", [count, 1], count * 4)
    length = f"Inference-Header-Content-Length: {len(document)}"
    await connection.request(post(INFER, document + bytes(count * 4), length))
    data = b'"",' * 699_999 + b'""'
    tensor = b'{"name":"features","datatype":"BYTES","shape":[700000,1],"data":[%b]}' % data
    await connection.request(post(INFER, b'{"inputs":[%b]}' % tensor))


async def v2_lies(connection: Connection) -> None:
    """Sends shapes and binary sizes that do not match the data."""
    shape, size, length = connection.attack.in_turn(
        (
            ([2**62, 2], 8, ""),
            ([-1, 2], 8, ""),
            ([1, 2], 2**62, ""),
            ([1, 2], -8, ""),
            ([1] * 10_000, 8, ""),
            ([1, 2], 8, "-1"),
            ([1, 2], 8, "9" * 5000),
            ([1, 2], 8, "1e3"),
            ([2**31, 2**31], 0, ""),
        )
    )
    document = _v2_header("FP32", shape, size)
    field = f"Inference-Header-Content-Length: {length or len(document)}"
    await connection.request(post(INFER, document + bytes(8), field))


async def multipart_parts(connection: Connection) -> None:
    """Sends a form with 100,000 parts, and a part with 100,000 headers."""
    kind = "multipart/form-data; boundary=b"
    part = b'--b\r\nContent-Disposition: form-data; name="a"; filename="b"\r\n\r\n\r\n'
    body = part * 100_000 + b"--b--\r\n"
    await connection.request(post("/models/cats_dogs/predict", body, kind=kind))
    body = part[:-4] + b"X-A: 1\r\n" * 100_000 + b"\r\n\r\n--b--\r\n"
    await connection.request(post("/models/cats_dogs/predict", body, kind=kind))


async def explanations(connection: Connection) -> None:
    """Requests explanations of the maximum number of rows over eight connections."""
    await connection.request(post(EXPLAIN, houses(100)))


async def explanations_left(connection: Connection) -> None:
    """Requests explanations and closes before the response."""
    await connection.send(post(EXPLAIN, houses(100)))
    connection.close()


async def endless_names(connection: Connection) -> None:
    """Sends 300 rows with different unknown columns, so that each one gets a hint."""
    await connection.request(post(PREDICT, _unknown_names()))


async def chunked_rows(connection: Connection) -> None:
    """Sends 200 MB of rows in chunks, which is more than the limit for bodies."""
    pieces = in_chunks(repeated(b"[1,2],", 200_000_000 // 6, b"["))
    start = head(PREDICT, "Transfer-Encoding: chunked")
    await connection.request(chain((start,), pieces))


@cache
def _many_names() -> bytes:
    return b"{%b}" % ",".join(f'"{n}":1' for n in range(400_000)).encode()


@cache
def _unknown_names() -> bytes:
    unknown = [{f"exam_{row}_{column}": 1 for column in range(100)} for row in range(300)]
    return json.dumps(unknown).encode()


def _v2_header(datatype: str, shape: list[int], size: int) -> bytes:
    tensor = {
        "name": "features",
        "datatype": datatype,
        "shape": shape,
        "parameters": {"binary_data_size": size},
    }
    return json.dumps({"inputs": [tensor]}).encode()


_BAD = allowed(400)
_LIMITED = allowed(413, 429)
_CUT_OFF = _LIMITED | {RESET, CLOSED}
CLIENTS = (
    HostileClient("digits_json", digits_json, _BAD | _LIMITED, pause=0.05),
    HostileClient("digits_csv", digits_csv, _BAD | _LIMITED, pause=0.05),
    HostileClient("almost_numbers", almost_numbers, _BAD | allowed(200, 413, 507), pause=0.05),
    HostileClient("gzip_rows", gzip_rows, _LIMITED),
    HostileClient("gzip_objects", gzip_objects, _LIMITED),
    HostileClient("gzip_zeros", gzip_zeros, _BAD | _LIMITED),
    HostileClient("gzip_broken", gzip_broken, allowed(400, 415)),
    HostileClient("commas_as_json", commas_as_json, _BAD | _CUT_OFF, connections=2),
    HostileClient("deep_json", deep_json, _BAD | _LIMITED),
    HostileClient("many_keys", many_keys, _BAD | _LIMITED),
    HostileClient("uploads_15x50MB", uploads_15x50mb, allowed(200) | _CUT_OFF, connections=15),
    HostileClient("uploads_held", uploads_held, allowed(408) | _CUT_OFF, 15, seconds=46),
    HostileClient("charsets", charsets, allowed(200, 400, 415, 431), 8, pause=0.02),
    HostileClient("charsets_short", charsets_short, allowed(200, 400, 415), pause=0.01),
    HostileClient("trailers", trailers, allowed(200), pause=0.01),
    HostileClient("trailers_million", trailers_million, allowed(200, 400, 413, 431, CLOSED, RESET)),
    HostileClient("tiny_chunks", tiny_chunks, allowed(200, 413), connections=2),
    HostileClient(
        "chunk_extensions", chunk_extensions, allowed(200, 400, 413, 431, CLOSED, RESET), 2
    ),
    HostileClient("chunk_lies", chunk_lies, allowed(400, 408, 413, CLOSED)),
    HostileClient("v2_empty_strings", v2_empty_strings, _BAD | _LIMITED, connections=2),
    HostileClient("v2_lies", v2_lies, _BAD),
    HostileClient("multipart_parts", multipart_parts, _BAD | _LIMITED, connections=2),
    HostileClient("explanations", explanations, allowed(200, 429, 504), 8, seconds=36),
    HostileClient("explanations_left", explanations_left, allowed(CLIENT_CLOSED), 8, pause=0.1),
    HostileClient("endless_names", endless_names, _BAD | _LIMITED),
    HostileClient("chunked_rows", chunked_rows, _CUT_OFF, connections=2),
)
