"""The paths of the shared memory extensions: the system's, and CUDA's, of which there is none."""

from fastapi import APIRouter, Request, Response

from service.api.health import json_response
from service.api.routing import OptionalName
from service.api.schemas import BODY_ERRORS, fails_with
from service.api.v2.exchange import TAG, read_document
from service.api.v2.origins import NOT_FROM_A_BROWSER
from service.api.v2.schemas import REGION
from service.api.v2.shared_memory import Regions
from service.errors import InvalidRequest, NotAllowed


def shared_memory_router(regions: Regions) -> APIRouter:
    """Status, registration and its end."""
    router = APIRouter(prefix="/v2", tags=[TAG])
    if_allowed = fails_with(NotAllowed)

    @router.get(
        "/systemsharedmemory/status",
        summary="The shared memory that clients registered",
        responses=if_allowed,
    )
    @router.get(
        "/systemsharedmemory/region/{name}/status",
        summary="One region of it",
        responses=if_allowed,
    )
    async def status(name: OptionalName) -> Response:
        return json_response(regions.registered(name))

    @router.post(
        "/systemsharedmemory/region/{name}/register",
        summary="Register shared memory",
        dependencies=NOT_FROM_A_BROWSER,
        responses=if_allowed | BODY_ERRORS,
        openapi_extra=REGION,
    )
    async def register(request: Request, name: str) -> Response:
        example = b'{"key": "/tensors", "offset": 0, "byte_size": 64}'
        regions.register(name, await read_document(request, example))
        return json_response({})

    @router.post(
        "/systemsharedmemory/unregister",
        summary="Forget all regions",
        dependencies=NOT_FROM_A_BROWSER,
        responses=if_allowed,
    )
    @router.post(
        "/systemsharedmemory/region/{name}/unregister",
        summary="Forget one region",
        dependencies=NOT_FROM_A_BROWSER,
        responses=if_allowed,
    )
    async def unregister(name: OptionalName) -> Response:
        regions.unregister(name)
        return json_response({})

    _add_cuda(router)
    return router


def _add_cuda(router: APIRouter) -> None:
    @router.get("/cudasharedmemory/status", summary="No CUDA memory is ever registered")
    async def status() -> Response:
        return json_response([])

    # Always rejected, so not documented.
    @router.post("/cudasharedmemory/region/{name}/register", include_in_schema=False)
    async def register(name: str) -> Response:
        raise InvalidRequest(
            f"CUDA shared memory, like region {name[:100]!r}, is not read here; send the tensors "
            "in the body or in system shared memory."
        )

    # Clients clear both kinds before they begin.
    @router.post("/cudasharedmemory/unregister", summary="Nothing to forget")
    @router.post("/cudasharedmemory/region/{name}/unregister", summary="Nothing to forget, by name")
    async def unregister(name: OptionalName) -> Response:  # noqa: ARG001 - the path has it
        return json_response({})
