"""Routing: prediction paths, which are matched before FastAPI's router, and path parameters.

Predictions also have ordinary routes, for the documentation and for other methods.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, NamedTuple

from fastapi import Depends, Request, Response

from service.api.inference import InferenceProtocol, PredictTarget


# FastAPI would run plain functions in a thread pool.
async def _name(request: Request) -> str | None:
    return request.path_params.get("name")


async def _version(request: Request) -> str | None:
    return request.path_params.get("version")


async def _label(request: Request) -> str | None:
    return request.path_params.get("label")


# Path parameters that only some of the paths of a handler have. FastAPI would read ordinary
# optional parameters from the query of the other paths, and document them there.
OptionalName = Annotated[str | None, Depends(_name)]
OptionalVersion = Annotated[str | None, Depends(_version)]
OptionalLabel = Annotated[str | None, Depends(_label)]

AsyncHandler = Callable[[Request, str, str | None], Awaitable[Response]]

_MODEL = r"/models/(?P<name>[^/:]+)"
_VERSION = rf"{_MODEL}(?:/versions/(?P<version>[^/:]+))?"
NATIVE = re.compile(rf"{_VERSION}/predict")
V1 = re.compile(rf"/v1{_VERSION}:predict")
V2 = re.compile(rf"/v2{_VERSION}/infer")

# Clients may send any query, so the number of cached URLs is limited.
_MAX_TARGETS = 1000
_MAX_TARGET_BYTES = 256


class PredictRoute(NamedTuple):
    """The prediction paths of one protocol, and the handler of requests through ASGI."""

    paths: re.Pattern[str]
    protocol: InferenceProtocol[Any]
    handler: AsyncHandler


class PredictTargets:
    """Finds the protocol and the model of prediction URLs, with a cache.

    Args:
        routes: by protocol.
    """

    def __init__(self, routes: Sequence[PredictRoute]) -> None:
        self._routes = routes
        self._cached: dict[bytes, PredictTarget | None] = {}

    def of(self, url: bytes) -> PredictTarget | None:
        """Return the target of a prediction URL; None for any other URL.

        Args:
            url: path and query, as sent.
        """
        try:
            return self._cached[url]
        except KeyError:
            target = self._match(url)
            if len(url) <= _MAX_TARGET_BYTES:
                if len(self._cached) >= _MAX_TARGETS:
                    self._cached.clear()
                self._cached[url] = target
            return target

    def _match(self, url: bytes) -> PredictTarget | None:
        path, _, query = url.partition(b"?")
        if b"%" in path or not path.isascii():
            return None  # to be decoded by the router
        text = path.decode()
        for route in self._routes:
            if found := route.paths.fullmatch(text):
                return PredictTarget(route.protocol, text, found["name"], found["version"], query)
        return None
