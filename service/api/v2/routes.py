"""Routes of v2: server, models, inference, repository and shared memory."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from fastapi import APIRouter, Depends, Request, Response

from service.api.body import json_response, read_body
from service.api.inference_service import InferenceService
from service.api.middleware import get_quotas
from service.api.operations import add_health
from service.api.routing import add_model_routes
from service.api.schemas import MODEL_ERRORS, OBJECT, array_schema, refer, returns
from service.api.v2 import schemas
from service.api.v2.protocol import V2Protocol
from service.api.v2.shared_memory import Regions
from service.api.v2.statistics import ClusterStatistics
from service.bundle.manifest import ImageInput
from service.codecs.images import CHANNELS, IMAGE_AXES
from service.codecs.json_reader import parse_json
from service.engine.model import ModelInfo
from service.engine.registry import Entry, PublishedVersions, Readiness, Registry, State
from service.engine.tensors import TensorSpec
from service.errors import BodyTooLarge, InvalidRequest, NotAllowed
from service.settings import Settings
from service.values import format_value
from service.workers.coordination import Worker

_EXTENSIONS = [
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "statistics",
]

TAG = "Open Inference Protocol"
_MAX_DOCUMENT_BYTES = 64 * 1024


async def _read_document(request: Request, example: bytes) -> Any:  # noqa: ANN401 - any JSON
    """Parse the JSON of a small body; clients may send an empty one for an empty object."""
    try:
        body = await read_body(request, _MAX_DOCUMENT_BYTES, get_quotas(request.scope))
    except BodyTooLarge:
        advice = "this call takes no rows, only a small JSON object or nothing"
        raise BodyTooLarge(_MAX_DOCUMENT_BYTES, advice) from None
    return parse_json(body, lambda: example) if body.strip() else {}


async def _reject_browser(request: Request) -> None:
    """Raise `NotAllowed` for a browser: a page of any site can post to this machine."""
    if "origin" in request.headers:
        raise NotAllowed(
            "Browsers may not load or unload models, or register or unregister shared memory; "
            "call this endpoint from a server or a command line."
        )


_REJECT_BROWSERS = [Depends(_reject_browser)]
_STATISTICS = returns(refer("V2Statistics"))
_UNREGISTER: dict[str, Any] = {
    "dependencies": _REJECT_BROWSERS,
    "responses": schemas.IF_ALLOWED | schemas.EMPTY,
}


def v2_routers(
    worker: Worker,
    service: InferenceService,
    protocol: V2Protocol,
    settings: Settings,
    version: str,
) -> list[APIRouter]:
    """Create all routes of the protocol."""
    has_shared_memory = settings.shared_memory == "system"
    extensions = [*_EXTENSIONS, "system_shared_memory"] if has_shared_memory else _EXTENSIONS
    server_info = {"name": settings.server_name, "version": version, "extensions": extensions}
    statistics = ClusterStatistics(worker.registry, worker.channel)
    return [
        _server_router(worker.readiness, server_info, statistics),
        _model_router(worker, service, protocol, statistics),
        _repository_router(worker),
        _shared_memory_router(protocol.regions),
    ]


def _server_router(
    readiness: Readiness, server_info: Mapping[str, object], statistics: ClusterStatistics
) -> APIRouter:
    router = APIRouter(prefix="/v2", tags=[TAG])

    @router.get("", summary="The server", responses=returns(refer("V2Server")))
    async def get_server() -> Response:
        return json_response(server_info)

    add_health(router, readiness)

    @router.get("/models/stats", summary="Statistics of every model", responses=_STATISTICS)
    async def get_all_statistics() -> Response:
        return json_response({"model_stats": await statistics.read()})

    return router


def _model_router(
    worker: Worker,
    service: InferenceService,
    protocol: V2Protocol,
    statistics: ClusterStatistics,
) -> APIRouter:
    registry = worker.registry
    router = APIRouter(prefix="/v2", tags=[TAG], responses=MODEL_ERRORS)

    async def get_model(_: Request, name: str, version: str | None) -> Response:
        info = await worker.reconciler.model_info(name, version)
        return json_response(_format_metadata(info, registry))

    async def check_model_ready(_: Request, name: str, version: str | None) -> Response:
        serves = registry.entry(name, version).serves
        is_ready = serves and not worker.readiness.is_draining
        return json_response({"name": name, "ready": is_ready}, 200 if is_ready else 503)

    async def get_config(_: Request, name: str, version: str | None) -> Response:
        return json_response(_format_config(await worker.reconciler.model_info(name, version)))

    async def get_statistics(_: Request, name: str, version: str | None) -> Response:
        info = await worker.reconciler.model_info(name, version)
        return json_response({"model_stats": await statistics.read([info])})

    for path, summary, handler, responses in (
        ("", "A model's tensors", get_model, returns(refer("V2ModelMetadata"))),
        ("/ready", "Whether a model serves", check_model_ready, schemas.READY),
        (
            "/config",
            "A model's configuration, in Triton's format",
            get_config,
            returns(refer("V2ModelConfig")),
        ),
        ("/stats", "Statistics of a model", get_statistics, _STATISTICS),
    ):
        add_model_routes(router, "GET", path, summary, handler, responses=responses)
    infer = partial(service.predict, protocol)
    add_model_routes(router, "POST", "/infer", "Infer", infer, name="infer", **schemas.INFER)
    return router


def _repository_router(worker: Worker) -> APIRouter:
    registry, control = worker.registry, worker.control
    router = APIRouter(prefix="/v2/repository", tags=[TAG])

    @router.post("/index", summary="Every version with its state and the reason", **schemas.INDEX)
    async def list_repository(request: Request) -> Response:
        document = await _read_document(request, b'{"ready": true}')
        if not isinstance(document, dict) or not isinstance(document.get("ready", False), bool):
            raise InvalidRequest("Send nothing, or an object with 'ready', true or false.")
        entries = await worker.index.entries()
        if document.get("ready"):
            entries = [entry for entry in entries if entry.state is State.READY]
        return json_response(
            [_format_entry(entry, registry.published(entry.name)) for entry in entries]
        )

    @router.post(
        "/models/{name}/load",
        summary="Load a model, or load it again",
        dependencies=_REJECT_BROWSERS,
        responses=MODEL_ERRORS | schemas.IF_ALLOWED | schemas.EMPTY,
    )
    async def load_model(name: str) -> Response:
        await control.load_model(name)
        return json_response({})

    @router.post(
        "/models/{name}/unload",
        summary="Unload a model",
        dependencies=_REJECT_BROWSERS,
        responses=schemas.IF_ALLOWED | schemas.EMPTY,
    )
    async def unload_model(name: str) -> Response:
        await control.unload_model(name)
        return json_response({})

    return router


def _format_entry(entry: Entry, published: PublishedVersions) -> dict[str, object]:
    """Return the four fields of the protocol, and the aliases of the version if it has any."""
    routes = published.routes
    aliases = [alias for alias in published.aliases if routes.get(alias) == entry.version]
    return {
        "name": entry.name,
        "version": entry.version,
        "state": entry.state,
        "reason": entry.reason,
    } | ({"aliases": aliases} if aliases else {})


def _shared_memory_router(regions: Regions) -> APIRouter:
    """Create the routes of the shared memory extensions; no CUDA memory can be registered."""
    router = APIRouter(prefix="/v2", tags=[TAG])
    region = "/systemsharedmemory/region/{name}"

    @router.get(
        "/systemsharedmemory/status",
        summary="The shared memory that clients registered",
        responses=schemas.REGIONS,
        name="list_shared_memory",
    )
    @router.get(
        f"{region}/status",
        summary="One region of it",
        responses=schemas.REGIONS,
        name="get_shared_memory",
    )
    async def status(request: Request) -> Response:
        return json_response(regions.list_regions(request.path_params.get("name")))

    @router.post(
        f"{region}/register",
        summary="Register shared memory",
        dependencies=_REJECT_BROWSERS,
        **schemas.REGISTER,
    )
    async def register_shared_memory(request: Request, name: str) -> Response:
        example = b'{"key": "/tensors", "offset": 0, "byte_size": 64}'
        regions.register(name, await _read_document(request, example))
        return json_response({})

    @router.post(
        "/systemsharedmemory/unregister",
        summary="Unregister all regions",
        name="unregister_all_shared_memory",
        **_UNREGISTER,
    )
    @router.post(
        f"{region}/unregister",
        summary="Unregister one region",
        name="unregister_shared_memory",
        **_UNREGISTER,
    )
    async def unregister(request: Request) -> Response:
        regions.unregister(request.path_params.get("name"))
        return json_response({})

    _add_cuda_routes(router)
    return router


def _add_cuda_routes(router: APIRouter) -> None:
    @router.get(
        "/cudasharedmemory/status",
        summary="No CUDA memory is ever registered",
        responses=returns(array_schema(OBJECT, maxItems=0)),
        name="list_cuda_memory",
    )
    async def status() -> Response:
        return json_response([])

    # Always rejected, so not documented.
    @router.post("/cudasharedmemory/region/{name}/register", include_in_schema=False)
    async def register(name: str) -> Response:
        raise InvalidRequest(
            f"CUDA shared memory, like region {format_value(name)}, is not supported here; send "
            "the tensors in the body or in system shared memory."
        )

    # Clients unregister both kinds before they start.
    @router.post(
        "/cudasharedmemory/unregister",
        summary="Nothing to unregister",
        responses=schemas.EMPTY,
        name="unregister_all_cuda_memory",
    )
    @router.post(
        "/cudasharedmemory/region/{name}/unregister",
        summary="Nothing to unregister, by name",
        responses=schemas.EMPTY,
        name="unregister_cuda_memory",
    )
    async def unregister() -> Response:
        return json_response({})


def _format_metadata(info: ModelInfo, registry: Registry) -> dict[str, object]:
    """Return the versions that serve, and the tensors of the graph."""
    ready = [entry.version for entry in registry.versions(info.name) if entry.serves]
    # Those of a bundle are in its own description; the protocol itself has no class names.
    labels = info.labels if info.manifest is None else {}
    return {
        "name": info.name,
        "versions": sorted(ready, key=int),
        "platform": "onnx_onnxv1",
        "inputs": [_format_tensor(spec) for spec in info.inputs],
        "outputs": [_format_tensor(spec, labels.get(spec.name)) for spec in info.outputs],
    }


def _format_tensor(spec: TensorSpec, labels: Sequence[str] | None = None) -> dict[str, object]:
    """Return a tensor's metadata, with the names of its columns if they are classes."""
    tensor = {"name": spec.name, "datatype": spec.datatype, "shape": spec.shape}
    return tensor | ({"parameters": {"labels": labels}} if labels else {})


def _format_config(info: ModelInfo) -> dict[str, object]:
    """Return Triton's model configuration; with a batch size, dims omit the first axis."""
    size = _find_max_batch_size(info)
    first = 1 if size else 0
    return {
        "name": info.name,
        "platform": "onnxruntime_onnx",
        "backend": "onnxruntime",
        "max_batch_size": size,
        "input": [
            _format_tensor_config(spec, first)
            | {"format": _guess_image_format(info, spec.shape[first:])}
            for spec in info.inputs
        ],
        "output": [_format_tensor_config(spec, first) for spec in info.outputs],
    }


def _find_max_batch_size(info: ModelInfo) -> int:
    """Return the longest batch axis that all tensors share; 0 if they share none."""
    rows = {spec.shape[0] if spec.shape else 0 for spec in (*info.inputs, *info.outputs)}
    if rows == {-1}:
        return info.max_batch_rows
    return 1 if rows == {1} else 0


def _format_tensor_config(spec: TensorSpec, first_axis: int) -> dict[str, object]:
    data_type = "STRING" if spec.datatype == "BYTES" else spec.datatype
    return {"name": spec.name, "data_type": f"TYPE_{data_type}", "dims": spec.shape[first_axis:]}


def _guess_image_format(info: ModelInfo, dims: Sequence[int]) -> str:
    """Return the layout of images in a tensor, guessed from the axis of channels."""
    if info.manifest is not None:
        return "FORMAT_NHWC" if isinstance(info.manifest.input, ImageInput) else "FORMAT_NONE"
    if len(dims) == IMAGE_AXES and dims[0] in CHANNELS:
        return "FORMAT_NCHW"
    if len(dims) == IMAGE_AXES and dims[-1] in CHANNELS:
        return "FORMAT_NHWC"
    return "FORMAT_NONE"
