"""Answers as JSON."""

import orjson
from fastapi import Response

from service.api.body import JSON


def json_response(content: object, status: int = 200) -> Response:
    """The content as JSON."""
    return Response(orjson.dumps(content), status, media_type=JSON)
