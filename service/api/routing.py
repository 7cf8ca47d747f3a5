"""Routing: prediction paths, which are matched before FastAPI's router, and routes of models.

Predictions also have ordinary routes, for the documentation and for other methods.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from service.api.inference import InferenceProtocol, PredictTarget

AsyncHandler = Callable[[Request, str, str | None], Awaitable[Response]]

_MODEL = r"/models/(?P<name>[^/:]+)"
_VERSION = rf"{_MODEL}(?:/versions/(?P<version>[^/:]+))?"
NATIVE = re.compile(rf"{_VERSION}/predict")
NATIVE_VERBS = re.compile(rf"{_VERSION}/(?:predict|explain)")
"""Predictions with and without an explanation."""
V1 = re.compile(rf"/v1{_VERSION}:predict")
V2 = re.compile(rf"/v2{_VERSION}/infer")

_PROTOCOL = re.compile(r"^/(v[0-9])(?=/|$)")

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

    name = options.pop("name", None) or handler.__name__
    for prefix, suffix, subject in (
        ("", "", ""),
        ("/versions/{version}", "_by_version", " (one version)"),
        *([("/labels/{label}", "_by_label", " (the version of a label)")] if labels else []),
    ):
        router.add_api_route(
            f"/models/{{name}}{prefix}{path}",
            endpoint,
            methods=[method],
            summary=summary + subject,
            name=name + suffix,
            **options,
        )


def name_operation(route: APIRoute) -> str:
    """Return the operation id of a route: its name, after the protocol if that has a version."""
    return "_".join([*_PROTOCOL.findall(route.path_format), route.name])


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
    """Finds the protocol and the model of prediction paths.

    Args:
        routes: of the protocols.
        root_path: the prefix that a proxy adds, which paths may have or lack.
    """

    def __init__(self, routes: Sequence[PredictRoute], root_path: str = "") -> None:
        self._routes = routes
        self._root_path = root_path
        self.find = lru_cache(_MAX_CACHED_PATHS)(self._find)
        """Returns what a decoded path names; None for anything but a prediction."""

    def _find(self, path: str) -> RoutedPrediction | None:
        own_path = find_own_path(path, self._root_path)
        for route in self._routes:
            if found := route.paths.fullmatch(own_path):
                target = PredictTarget(route.protocol, path, found["name"], found["version"])
                return RoutedPrediction(target, route.handler)
        return None


def find_own_path(path: str, root_path: str) -> str:
    """Return a path without the prefix of a proxy, if it has that, and without a slash at its end.

    Only the root has a slash at its end.
    """
    if root_path and f"{path}/".startswith(f"{root_path}/"):
        path = path.removeprefix(root_path)
    return path.removesuffix("/") or "/"
