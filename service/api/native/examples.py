"""A command that sends a valid request, for clients that have used the wrong method."""

import shlex

import orjson
from fastapi import Request

from service.api.routing import NATIVE_VERBS, find_own_path
from service.bundle.features import FeaturesInput
from service.codecs.columns import ColumnCodec, has_columns
from service.engine.model import ModelInfo
from service.engine.registry import Registry
from service.errors import NotFound

# The example of a table with many columns would hide the sentence before it.
_MAX_LENGTH = 1000


def find_command(registry: Registry, root_path: str, request: Request) -> str | None:
    """Return a curl command for the path of a request; None if it is not that of a prediction."""
    path = find_own_path(request.url.path, root_path)
    found = NATIVE_VERBS.fullmatch(path)
    if found is None:
        return None
    try:
        info = registry.entry(found["name"], found["version"]).info
    except NotFound:
        return None
    body = None if info is None else _example_body(info)
    url = request.url.replace(query="", fragment="")
    command = f"curl {shlex.quote(str(url))} {body}"
    return None if body is None or len(command) > _MAX_LENGTH else command


def _example_body(info: ModelInfo) -> str | None:
    """Return the options of curl for a valid body."""
    if info.manifest is None:
        if not has_columns(info.inputs):
            return None
        row = ColumnCodec(info.inputs).example
    elif isinstance(info.manifest.input, FeaturesInput):
        row = {feature.name: feature.example for feature in info.manifest.input.features}
    else:
        return "-F image=@photo.jpg"
    return f"-d {shlex.quote(orjson.dumps(row).decode())}"
