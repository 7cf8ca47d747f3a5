"""What the protocol's small calls share: the document sent, and the answer."""

from typing import Any

import orjson
from fastapi import Request, Response

from service.api.bodies import parse_json, read_body
from service.errors import BodyTooLarge

TAG = "Open Inference Protocol"
_MOST_BYTES = 64 * 1024


async def read_document(request: Request, example: bytes) -> Any:  # noqa: ANN401 - any JSON
    """The JSON of a small body; an empty one, as clients post it, is an empty object."""
    body = await read_body(request, _MOST_BYTES, _too_large)
    return parse_json(body, example) if body.strip() else {}


def json_response(content: object, status: int = 200) -> Response:
    """The content as JSON."""
    return Response(orjson.dumps(content), status, media_type="application/json")


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(limit, "this call takes no rows, only a small JSON object or nothing")
