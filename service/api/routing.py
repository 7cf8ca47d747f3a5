"""Routing: prediction paths, which are matched before FastAPI's router, and routes of models.

Predictions also have ordinary routes, for the documentation and for other methods.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from fastapi import APIRouter, Request, Response

from service.api.inference import InferenceProtocol, PredictTarget

AsyncHandler = Callable[[Request, str, str | None], Awaitable[Response]]

_MODEL = r"/models/(?P<name>[^/:]+)"
_VERSION = rf"{_MODEL}(?:/versions/(?P<version>[^/:]+))?"
NATIVE = re.compile(rf"{_VERSION}/predict")
V1 = re.compile(rf"/v1{_VERSION}:predict")
V2 = re.compile(rf"/v2{_VERSION}/infer")

# Clients may send any path up to the limit of a URL, so the cache is small.
_MAX_CACHED_PATHS = 256


def add_model_routes(  # noqa: PLR0913 - the parts of a route
    router: APIRouter,
    method: str,
    path: str,
    summary: str,
    handler: AsyncHandler,
    *,
    labels: bool = False,
    **options: Any,  # noqa: ANN401 - FastAPI's own
) -> None:
    """Add the same route for a model, one of its versions and, with ``labels``, one of its labels.

    Args:
        router: whose prefix the paths follow.
        method: of HTTP.
        path: what follows the model or the version, such as ``/predict``.
        summary: of the route for a model.
        handler: gets the request, the model, and the version or alias; None is the serving version.
        labels: whether there is a route by label.
        **options: of `APIRouter.add_api_route`.
    """

    # Only some of the paths have a version or a label. FastAPI would read such parameters of a
    # function from the query of the other paths, and document them there.
    async def endpoint(request: Request, name: str) -> Response:
        label, version = (request.path_params.get(key) for key in ("label", "version"))
        if label is not None:
            # A number is never a label, even if it is a version.
            version = f"labels/{label}" if label.isdecimal() else label
        return await handler(request, name, version)

    options["name"] = options.get("name") or handler.__name__
    for prefix, subject in (
        ("", ""),
        ("/versions/{version}", " (one version)"),
        *([("/labels/{label}", " (the version of a label)")] if labels else []),
    ):
        router.add_api_route(
            f"/models/{{name}}{prefix}{path}",
            endpoint,
            methods=[method],
            summary=summary + subject,
            **options,
        )


class PredictRoute(NamedTuple):
    """The prediction paths of one protocol, and the handler of requests through ASGI."""

    paths: re.Pattern[str]
    protocol: InferenceProtocol[Any]
    handler: AsyncHandler


class RoutedPrediction(NamedTuple):
    """What a prediction path names."""

    target: PredictTarget
    handler: AsyncHandler


class PredictRouter:
    """Finds the protocol and the model of prediction paths."""

    def __init__(self, routes: Sequence[PredictRoute]) -> None:
        self._routes = routes
        self.find = lru_cache(_MAX_CACHED_PATHS)(self._find)
        """Returns what a decoded path names; None for anything but a prediction."""

    def _find(self, path: str) -> RoutedPrediction | None:
        for route in self._routes:
            if found := route.paths.fullmatch(path):
                target = PredictTarget(route.protocol, path, found["name"], found["version"])
                return RoutedPrediction(target, route.handler)
        return None
