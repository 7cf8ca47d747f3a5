"""GET /openapi.json, /docs and /redoc.

The document describes the paths of each model, so it changes with the models. It is built in a
thread on the first request after a change, and cached until the next change.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from fastapi import APIRouter, Response
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from fastapi.responses import HTMLResponse

from service.api.body import JSON
from service.api.openapi import complete
from service.bundle.manifest import Manifest
from service.engine.registry import Registry

Schema = dict[str, Any]
Manifests = Mapping[str, Manifest]

# Relative, so that the pages work behind a proxy that adds a path prefix.
_URL = "openapi.json"


class Documentation:
    """The OpenAPI document of an application.

    Args:
        registry: has the models that the document describes.
        of_routes: makes the part of the document that the application's routes give.
        of_model: makes the paths of one model.
    """

    def __init__(
        self,
        registry: Registry,
        of_routes: Callable[[], Schema],
        of_model: Callable[[Manifest], Schema],
    ) -> None:
        self._registry = registry
        self._of_routes = of_routes
        self._of_model = of_model
        self._routes: Schema | None = None
        self._content = b""
        self._revision = -1
        self._building: asyncio.Task[None] | None = None
        # By model, so that a change of one model does not cost the work of all.
        self._paths: dict[str, tuple[Manifest, Mapping[str, orjson.Fragment]]] = {}

    async def json(self) -> bytes:
        """The document for the models as they are now; concurrent requests share one build."""
        revision = self._registry.revision
        while self._revision < revision:
            if self._building is None:
                self._building = asyncio.create_task(self._build())
            await asyncio.shield(self._building)
        return self._content

    def content(self, manifests: Manifests | None = None) -> bytes:
        """The document, built now; thread-safe.

        Args:
            manifests: the models by name; by default those that serve now.
        """
        found = self._manifests() if manifests is None else manifests
        known = self._paths
        paths = {
            name: known[name]
            if name in known and known[name][0] is manifest
            else self._of(manifest)
            for name, manifest in found.items()
        }
        self._paths = paths
        if self._routes is None:
            self._routes = complete(self._of_routes())
        own = {path: part for _, parts in paths.values() for path, part in parts.items()}
        return orjson.dumps({**self._routes, "paths": {**self._routes["paths"], **own}})

    def _of(self, manifest: Manifest) -> tuple[Manifest, Mapping[str, orjson.Fragment]]:
        paths = self._of_model(manifest)
        # By Python's own module, for limits beyond 64 bits.
        return manifest, {path: orjson.Fragment(json.dumps(it)) for path, it in paths.items()}

    async def _build(self) -> None:
        try:
            revision, manifests = self._registry.revision, self._manifests()
            self._content = await asyncio.to_thread(self.content, manifests)
            self._revision = revision
        finally:
            self._building = None

    def _manifests(self) -> Manifests:
        abouts = {name: self._registry.entry(name).info for name in self._registry.names}
        return {
            name: about.manifest
            for name, about in abouts.items()
            if about is not None and about.manifest is not None
        }


def documentation_router(documentation: Documentation, title: str) -> APIRouter:
    """The document, and two pages that show it."""
    router = APIRouter(include_in_schema=False)
    swagger = bytes(get_swagger_ui_html(openapi_url=_URL, title=title).body)
    redoc = bytes(get_redoc_html(openapi_url=_URL, title=title).body)

    @router.head("/openapi.json")
    @router.get("/openapi.json")
    async def document() -> Response:
        return Response(await documentation.json(), media_type=JSON)

    @router.head("/docs")
    @router.get("/docs")
    async def swagger_page() -> Response:
        return HTMLResponse(swagger)

    @router.head("/redoc")
    @router.get("/redoc")
    async def redoc_page() -> Response:
        return HTMLResponse(redoc)

    return router
