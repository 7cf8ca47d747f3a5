"""The paths of predictions, which are matched before any middleware and the router.

The router's routes stay, for the documentation and for every other method.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from fastapi import Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.errors import error_response
from service.api.inference import InferenceProtocol, PredictTarget
from service.errors import OnwardError

AsyncHandler = Callable[[Request, str, str | None], Awaitable[Response]]

_MODEL = r"/models/(?P<name>[^/:]+)"
_VERSION = rf"{_MODEL}(?:/versions/(?P<version>[^/:]+))?"
NATIVE = re.compile(rf"{_VERSION}/predict")
V1 = re.compile(rf"/v1{_VERSION}:predict")
V2 = re.compile(rf"/v2{_VERSION}/infer")

# Clients choose the queries of their URLs freely, so only so many are cached.
_MAX_TARGETS = 1000
_MAX_TARGET_BYTES = 256


class PredictRoute(NamedTuple):
    """The paths of the predictions of one protocol, and what responds to them through ASGI."""

    paths: re.Pattern[str]
    protocol: InferenceProtocol[Any]
    handler: AsyncHandler


class PredictTargets:
    """Finds what the URLs of predictions name.

    Args:
        routes: by protocol.
    """

    def __init__(self, routes: Sequence[PredictRoute]) -> None:
        self._routes = routes
        self._cached: dict[bytes, PredictTarget | None] = {}

    def of(self, url: bytes) -> PredictTarget | None:
        """What the URL of a prediction names; None of any other URL.

        Args:
            url: path and query as they were sent.
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
            return None  # the router decodes it
        text = path.decode()
        for route in self._routes:
            if found := route.paths.fullmatch(text):
                return PredictTarget(route.protocol, text, found["name"], found["version"], query)
        return None


class PredictRoutingMiddleware:
    """ASGI middleware that responds to predictions, and passes everything else on.

    Args:
        routes: by protocol.
    """

    def __init__(self, app: ASGIApp, routes: Sequence[PredictRoute]) -> None:
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and scope["method"] == "POST":
            for route in self._routes:
                if found := route.paths.fullmatch(scope["path"]):
                    try:
                        request = Request(scope, receive)
                        response = await route.handler(request, found["name"], found["version"])
                    except OnwardError as error:
                        response = error_response(error)
                    await response(scope, receive, send)
                    return
        await self._app(scope, receive, send)
