"""What the protocol's small calls share: their tag, and the document sent."""

from typing import Any

from fastapi import Request

from service.api.body import read_body
from service.api.middleware import quotas_of
from service.codecs.json_reader import parse_json
from service.errors import BodyTooLarge

TAG = "Open Inference Protocol"
_MOST_BYTES = 64 * 1024


async def read_document(request: Request, example: bytes) -> Any:  # noqa: ANN401 - any JSON
    """The JSON of a small body; an empty one, as clients post it, is an empty object."""
    body = await read_body(request, _MOST_BYTES, quotas_of(request.scope), _too_large)
    return parse_json(body, lambda: example) if body.strip() else {}


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(limit, "this call takes no rows, only a small JSON object or nothing")
