"""Request bodies: read within the operator's limit, checked for media type, parsed as JSON."""

import asyncio
import zlib
from collections.abc import Sequence
from typing import Any

import orjson
from fastapi import Request

from service.errors import BodyTooLarge, InvalidRequest, UnsupportedContent

JSON = "application/json"
_WORTH_COMPRESSING = 1024
# A larger packed body, which may hold a thousand times its size, is unpacked in a thread.
_MOST_BYTES_AT_ONCE = 4096
BINARY = "application/octet-stream"
# gzip has a header of its own; deflate, as clients send it, that of zlib.
_WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body, decompressed.

    Raises:
        BodyTooLarge: it is, says that it is, or unpacks to, more than ``limit`` bytes.
        UnsupportedContent: it is compressed by another way than gzip and deflate.
        InvalidRequest: it is not what its encoding says.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in _WINDOW_BITS and encoding != "identity":
        raise UnsupportedContent("Content-Encoding", encoding, ["gzip", "deflate", "nothing"])
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise BodyTooLarge(limit)
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise BodyTooLarge(limit)
        chunks.append(chunk)
    body = b"".join(chunks)
    if encoding == "identity":
        return body
    if size > _MOST_BYTES_AT_ONCE:
        return await asyncio.to_thread(_decompressed, body, encoding, limit)
    return _decompressed(body, encoding, limit)


def require_media_type(request: Request, accepted: Sequence[str]) -> None:
    """Refuse other media types; a request that names none is taken at its word.

    Raises:
        UnsupportedContent: the body is said to be something else.
    """
    given = request.headers.get("content-type", accepted[0]).partition(";")[0].strip().lower()
    if given not in accepted:
        raise UnsupportedContent("Content-Type", given, accepted)


def compressed(content: bytes, accepted: str) -> tuple[bytes, dict[str, str]]:
    """The content as the caller accepts it, with the headers that say so; small ones stay plain."""
    if len(content) < _WORTH_COMPRESSING:
        return content, {}
    offers = [offer.replace(" ", "").lower() for offer in accepted.split(",")]
    for encoding, window_bits in _WINDOW_BITS.items():
        if any(
            offer.partition(";")[0] == encoding and not offer.endswith(";q=0") for offer in offers
        ):
            pack = zlib.compressobj(zlib.Z_BEST_SPEED, zlib.DEFLATED, window_bits)
            headers = {"content-encoding": encoding, "vary": "accept-encoding"}
            return pack.compress(content) + pack.flush(), headers
    return content, {}


def _decompressed(body: bytes, encoding: str, limit: int) -> bytes:
    unpack = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        # Never more than the limit is unpacked, however small the body looks.
        content = unpack.decompress(body, limit + 1)
    except zlib.error as error:
        raise InvalidRequest(f"The body is not {encoding}, as its header says: {error}.") from None
    if len(content) > limit:
        raise BodyTooLarge(limit)
    if not unpack.eof:
        raise InvalidRequest(f"The body's {encoding} data ends too early; send all of it.")
    return content


def parse_json(body: bytes, example: bytes) -> Any:  # noqa: ANN401 - JSON is any of its types
    """Parse, or say what is wrong and what would be right.

    Args:
        body: what was sent.
        example: a body that this endpoint takes.

    Raises:
        InvalidRequest: it is empty or not JSON.
    """
    wanted = f"Send for example {example.decode()}"
    if not body.strip():
        raise InvalidRequest(f"The body is empty. {wanted}")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        reason = f"The body is not JSON: {error}."
        if any(token in body for token in (b"NaN", b"Infinity")):
            reason += " JSON has no NaN or Infinity; send null where a value may be missing."
        raise InvalidRequest(f"{reason} {wanted}") from None
