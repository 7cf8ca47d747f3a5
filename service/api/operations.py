"""Routes for operators and developers: health, metrics, and the OpenAPI document with its pages.

The document has paths for each model, so it changes with the models. It is built in a thread on
the first request after a change, and cached until the next change.
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse

from service.api.body import JSON, json_response
from service.api.schemas import Responses, Schema, add_error_responses, returns
from service.bundle.manifest import Manifest
from service.codecs.columns import has_columns
from service.engine.model import ModelInfo
from service.engine.registry import Readiness, Registry
from service.observability.exposition import CONTENT_TYPE

Described = Manifest | ModelInfo
"""A bundle by its manifest, or a graph without one by what is known of it."""
Models = Mapping[str, Described]

# Relative, so that the pages work behind a proxy that adds a path prefix.
_URL = "openapi.json"
_PATH_PARAMETER = re.compile(r"\{(\w+)\}")
_GET_OR_HEAD = ["GET", "HEAD"]
_READINESS: Responses = {
    **returns(ready="boolean"),
    "503": {
        "description": "Requests should not be sent here, for this reason.",
        "content": {JSON: {"schema": {"type": "object", "required": ["ready", "reason"]}}},
    },
}


def add_health(router: APIRouter, readiness: Readiness) -> None:
    """Add ``/health/live`` and ``/health/ready`` below the router's prefix."""

    @router.head("/health/live", include_in_schema=False)
    @router.get(
        "/health/live", summary="Whether the process is alive", responses=returns(live="boolean")
    )
    async def live() -> Response:
        return json_response({"live": True})

    @router.head("/health/ready", include_in_schema=False)
    @router.get(
        "/health/ready", summary="Whether requests should be sent here", responses=_READINESS
    )
    async def ready() -> Response:
        if (reason := readiness.not_ready_reason) is not None:
            return json_response({"ready": False, "reason": reason}, 503)
        return json_response({"ready": True})


def operations_router(
    readiness: Readiness, exposition: Callable[[], Awaitable[bytes]]
) -> APIRouter:
    """Create the routes of health, metrics in the text format of ``exposition``, and ``/``."""
    router = APIRouter(tags=["operations"])

    @router.get("/", include_in_schema=False)
    async def root(request: Request) -> Response:
        # Clients of KServe's v1 expect this object; browsers accept text/html.
        if "text/html" in request.headers.get("accept", ""):
            return RedirectResponse("docs")
        return json_response({"status": "alive", "models": "/models", "documentation": "/docs"})

    add_health(router, readiness)

    @router.get("/metrics", summary="Prometheus metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        return Response(await exposition(), media_type=CONTENT_TYPE)

    return router


class Documentation:
    """The OpenAPI document of an application: its routes, and the paths of each model."""

    def __init__(
        self,
        registry: Registry,
        describe_routes: Callable[[], Schema],
        describe_model: Callable[[Described], Schema],
    ) -> None:
        self._registry = registry
        self._describe_routes = describe_routes
        self._describe_model = describe_model
        self._routes: Schema | None = None
        self._content = b""
        self._revision = -1
        self._building: asyncio.Task[None] | None = None
        # By model, so that only the paths of changed models are built again.
        self._paths: dict[str, tuple[Described, Mapping[str, orjson.Fragment]]] = {}

    async def json(self) -> bytes:
        """Return the document for the current models; concurrent requests share one build."""
        revision = self._registry.revision
        while self._revision < revision:
            if self._building is None:
                self._building = asyncio.create_task(self._build())
            await asyncio.shield(self._building)
        return self._content

    def content(self, models: Models | None = None) -> bytes:
        """Build the document for these models by name, or for those that serve now; thread-safe."""
        found = self._models() if models is None else models
        cached = self._paths
        paths = {
            name: cached[name]
            if name in cached and cached[name][0] is model
            else self._build_paths(model)
            for name, model in found.items()
        }
        self._paths = paths
        if self._routes is None:
            self._routes = _complete(self._describe_routes())
        own = {path: part for _, parts in paths.values() for path, part in parts.items()}
        return orjson.dumps({**self._routes, "paths": {**self._routes["paths"], **own}})

    def _build_paths(self, model: Described) -> tuple[Described, Mapping[str, orjson.Fragment]]:
        paths = self._describe_model(model)
        # orjson cannot write the limits beyond 64 bits.
        return model, {path: orjson.Fragment(json.dumps(part)) for path, part in paths.items()}

    async def _build(self) -> None:
        try:
            revision, models = self._registry.revision, self._models()
            self._content = await asyncio.to_thread(self.content, models)
            self._revision = revision
        finally:
            self._building = None

    def _models(self) -> Models:
        infos = {name: self._registry.entry(name).info for name in self._registry.names}
        return {
            name: info.manifest or info
            for name, info in infos.items()
            if info is not None and (info.manifest is not None or has_columns(info.inputs))
        }


def _complete(document: Schema) -> Schema:
    """Add error responses and path parameters to FastAPI's document of the routes."""
    add_error_responses(document)
    for path, methods in document["paths"].items():
        for operation in methods.values():
            # A handler lacks the path parameters that only some of its paths have.
            parameters = operation.setdefault("parameters", [])
            documented = {parameter["name"] for parameter in parameters}
            parameters += [
                {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
                for name in _PATH_PARAMETER.findall(path)
                if name not in documented
            ]
    return document


def documentation_router(documentation: Documentation, title: str) -> APIRouter:
    """Create the routes of the document, and of two pages that show it."""
    router = APIRouter(include_in_schema=False)
    swagger = bytes(get_swagger_ui_html(openapi_url=_URL, title=title).body)
    redoc = bytes(get_redoc_html(openapi_url=_URL, title=title).body)

    @router.api_route("/openapi.json", methods=_GET_OR_HEAD)
    async def document() -> Response:
        return Response(await documentation.json(), media_type=JSON)

    @router.api_route("/docs", methods=_GET_OR_HEAD)
    async def swagger_page() -> Response:
        return HTMLResponse(swagger)

    @router.api_route("/redoc", methods=_GET_OR_HEAD)
    async def redoc_page() -> Response:
        return HTMLResponse(redoc)

    return router
