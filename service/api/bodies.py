"""Request bodies: read within the operator's limit, checked for media type, parsed as JSON."""

from typing import Any

import orjson
from fastapi import Request

from service.errors import BodyTooLarge, InvalidRequest, UnsupportedContent

JSON = "application/json"


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body.

    Raises:
        BodyTooLarge: it is, or says that it is, above ``limit`` bytes.
    """
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
    return b"".join(chunks)


def require_json(request: Request) -> None:
    """Refuse other media types; a request that names none is taken at its word.

    Raises:
        UnsupportedContent: the body is said to be something else, or encoded.
    """
    media_type = request.headers.get("content-type", JSON).partition(";")[0].strip().lower()
    if media_type != JSON:
        raise UnsupportedContent("Content-Type", media_type, [JSON])
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding != "identity":
        raise UnsupportedContent("Content-Encoding", encoding, ["the body as it is"])


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
