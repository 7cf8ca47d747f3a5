"""Create requests as bytes."""

import json
from collections.abc import Iterable, Iterator
from functools import cache

PREDICT = "/models/admission/predict"
EXPLAIN = "/models/california_mlp/explain"
DIGIT = "/models/digits_conv/predict"
PHOTOGRAPH = "/models/cats_dogs/predict"
INFER = "/v2/models/admission/infer"
ROW = b'{"exam_1":45,"exam_2":85}'
HOUSE = [-122.23, 37.88, 41, 880, 129, 322, 126, 8.3252, "NEAR BAY"]
CSV, NDJSON = "text/csv", "application/x-ndjson"

_CHUNK_BYTES = 64 * 1024


def head(
    path: str,
    *headers: str,
    method: str = "POST",
    kind: str = "application/json",
    version: str = "",
) -> bytes:
    """A request line and headers, including the empty line."""
    lines = [f"{method} {path} HTTP/{version or '1.1'}", "Host: service"]
    if kind:
        lines.append(f"Content-Type: {kind}")
    return "\r\n".join([*lines, *headers, "", ""]).encode()


def post(path: str, body: bytes, *headers: str, kind: str = "application/json") -> bytes:
    """A complete POST request."""
    return head(path, f"Content-Length: {len(body)}", *headers, kind=kind) + body


def get(path: str, *headers: str) -> bytes:
    """A complete GET request."""
    return head(path, *headers, method="GET", kind="")


def chunk(data: bytes, extension: bytes = b"") -> bytes:
    """A chunk of a chunked body; an empty one ends it."""
    return b"%x%b\r\n%b\r\n" % (len(data), extension, data)


def repeated(data: bytes, count: int, first: bytes = b"", last: bytes = b"") -> Iterator[bytes]:
    """``first``, ``data`` repeated ``count`` times, and ``last``, in pieces of about 64 KiB."""
    yield first
    together = max(1, _CHUNK_BYTES // len(data))
    for start in range(0, count, together):
        yield data * min(together, count - start)
    yield last


def in_chunks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces as a chunked body without its end."""
    return (chunk(piece) for piece in pieces if piece)


@cache
def rows(count: int) -> bytes:
    """A JSON body of rows of two numbers."""
    return b"[" + b",".join([b"[45,85]"] * count) + b"]"


@cache
def objects(count: int) -> bytes:
    """A JSON body of rows of two numbers, each an object with the names of the features."""
    return b"[" + b",".join([ROW] * count) + b"]"


@cache
def houses(count: int) -> bytes:
    """A JSON body of rows for an explanation."""
    return json.dumps({"instances": [HOUSE] * count}).encode()
