"""The OpenAPI document, which has the paths of each model, and the routes that send it.

It changes with the models. It is built in a thread on the first request after a change, and cached
until the next change.
"""

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import orjson
from fastapi import APIRouter, Request, Response

from service.api.body import JSON
from service.api.components import Identifier, ModelDescription, identify
from service.api.native.schemas import NATIVE_SCHEMAS
from service.api.openapi import MODEL_SCHEMAS
from service.api.operations import HEALTH_SCHEMAS, TAG
from service.api.schemas import ANY_MODEL, STRING, Schema, add_error_responses
from service.api.static_files import PageFiles
from service.api.v1.routes import TAG as V1_TAG
from service.api.v1.schemas import V1_SCHEMAS
from service.api.v2.routes import TAG as V2_TAG
from service.api.v2.schemas import V2_SCHEMAS
from service.bundle.manifest import Manifest
from service.codecs.columns import has_columns
from service.engine.model import ModelInfo
from service.engine.registry import Registry

Described = Manifest | ModelInfo
"""A bundle by its manifest, or a graph without one by what is known of it."""
Models = Mapping[str, Described]

_PATH_PARAMETER = re.compile(r"\{(\w+)\}")
_PATH_PARAMETERS = {
    "name": "Of a model or, in a path of shared memory, of a region.",
    "version": "A number, or an alias such as stable.",
    "label": "An alias, which TensorFlow Serving calls a label.",
}
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self' data:; "
    # Both libraries create styles, and Redoc searches in a worker that it creates.
    "style-src 'self' 'unsafe-inline'; worker-src blob:; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'self'"
)
_GENERIC_TAGS: Mapping[str, str] = {
    ANY_MODEL: "Every model by its name: description, quality, versions, predictions.",
    V1_TAG: "The REST API of TensorFlow Serving, also for every model.",
    V2_TAG: "The REST API of Triton and KServe, also for every model.",
    TAG: "For operators.",
}


class _BuiltModel(NamedTuple):
    """The part of the document about one model, as JSON, and what it was built from."""

    model: Described
    identifier: Identifier
    tag: Mapping[str, object]
    paths: Mapping[str, orjson.Fragment]
    schemas: Mapping[str, orjson.Fragment]


class Documentation:
    """The OpenAPI document of an application: its routes, and the paths of each model.

    Args:
        registry: of the models.
        describe_routes: returns FastAPI's document of the routes.
        describe_model: returns the part about one model.
        root_path: the prefix that a proxy adds to every path; empty if there is none.
    """

    def __init__(
        self,
        registry: Registry,
        describe_routes: Callable[[], Schema],
        describe_model: Callable[[Described, Identifier], ModelDescription],
        root_path: str = "",
    ) -> None:
        self._registry = registry
        self._describe_routes = describe_routes
        self._describe_model = describe_model
        self._root_path = root_path
        self._routes: Schema | None = None
        self._content = b""
        self._revision = -1
        self._building: asyncio.Task[None] | None = None
        # By model, so that only the parts of changed models are built again.
        self._built: dict[str, _BuiltModel] = {}

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
        if self._routes is None:
            self._routes = _complete(self._describe_routes())
        cached = self._built
        identifiers = identify(found, self._routes["components"]["schemas"])
        built = {}
        for name, model in found.items():
            part = cached.get(name)
            if part is None or part.model is not model or part.identifier != identifiers[name]:
                part = self._build_model(model, identifiers[name])
            built[name] = part
        self._built = built
        return orjson.dumps(self._join(self._routes, built))

    def _build_model(self, model: Described, identifier: Identifier) -> _BuiltModel:
        tag, paths, schemas = self._describe_model(model, identifier)
        return _BuiltModel(model, identifier, tag, _encode(paths), _encode(schemas))

    def _join(self, routes: Schema, built: Mapping[str, _BuiltModel]) -> Schema:
        """Return the document: the models, and after them what is the same for all models."""
        document = dict(routes)
        if self._root_path:
            document["servers"] = [{"url": self._root_path}]
        tags = [{"name": name, "description": text} for name, text in _GENERIC_TAGS.items()]
        groups = [{"name": "All models and the service", "tags": list(_GENERIC_TAGS)}]
        if built:
            groups.insert(0, {"name": "Models", "tags": list(built)})
        components = dict(routes["components"])
        components["schemas"] = dict(components["schemas"])
        paths: Schema = {}
        for part in built.values():
            paths.update(part.paths)
            components["schemas"].update(part.schemas)
        return document | {
            "tags": [*(part.tag for part in built.values()), *tags],
            "x-tagGroups": groups,
            "paths": paths | routes["paths"],
            "components": components,
        }

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


def _encode(parts: Schema) -> dict[str, orjson.Fragment]:
    """Encode each part of a document; orjson cannot write the limits beyond 64 bits."""
    return {name: orjson.Fragment(json.dumps(part)) for name, part in parts.items()}


def _complete(document: Schema) -> Schema:
    """Add error responses, path parameters and components to FastAPI's document of the routes."""
    add_error_responses(document)
    for schemas in (HEALTH_SCHEMAS, NATIVE_SCHEMAS, V1_SCHEMAS, V2_SCHEMAS, MODEL_SCHEMAS):
        document["components"]["schemas"].update(schemas)
    for path, methods in document["paths"].items():
        for operation in methods.values():
            # A handler lacks the path parameters that only some of its paths have.
            operation["parameters"] = [
                {
                    "name": name,
                    "in": "path",
                    "required": True,
                    "description": _PATH_PARAMETERS[name],
                    "schema": STRING,
                }
                for name in _PATH_PARAMETER.findall(path)
            ]
    return document


def documentation_router(documentation: Documentation, files: PageFiles) -> APIRouter:
    """Create the routes of the document, and of two pages that show it."""
    router = APIRouter(include_in_schema=False)

    @router.get("/openapi.json")
    async def document() -> Response:
        return Response(await documentation.json(), media_type=JSON)

    async def send_page(request: Request, name: str) -> Response:
        response = await files.get_response(f"docs/{name}.html", request.scope)
        response.headers["content-security-policy"] = _PAGE_POLICY
        return response

    @router.get("/docs")
    async def swagger_page(request: Request) -> Response:
        return await send_page(request, "swagger")

    @router.get("/redoc")
    async def redoc_page(request: Request) -> Response:
        return await send_page(request, "redoc")

    return router
