"""Fuzz targets of `bench.fuzz` for requests of three protocols, compressed bodies and heads."""

import asyncio
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from onnx import TensorProto

from service.api.body import RequestHead
from service.api.inference import InferenceProtocol
from service.api.native.protocol import NativeProtocol
from service.api.v1.protocol import V1Protocol
from service.api.v2.protocol import V2Protocol
from service.api.v2.shared_memory import Regions
from service.cli.score import loaded_model
from service.codecs.endpoint import EndpointCache
from service.decompression import Decompressor
from service.engine.model import ServedModel
from service.errors import OnwardError
from service.limits import Limits
from service.server.limited_protocol import body_length
from service.settings import Settings
from tests.models import publish_bare, publish_mixed
from tests.triton_models import identity

_FOLDER = Path(tempfile.mkdtemp(prefix="onward-fuzz-"))
_SETTINGS = Settings(models=_FOLDER, device="cpu", poll_seconds=0)
_LIMITS = Limits(_SETTINGS, lambda _: None)
_ENDPOINTS = EndpointCache(_SETTINGS, _LIMITS)


def _open_model(name: str) -> ServedModel:
    """Open a model until the process ends."""
    return asyncio.new_event_loop().run_until_complete(
        loaded_model(_SETTINGS, name, None).__aenter__()  # never closed
    )


publish_mixed(_FOLDER)
publish_bare(_FOLDER, "strings", identity(TensorProto.STRING, ["n", 2]))
publish_bare(_FOLDER, "floats", identity(TensorProto.FLOAT, ["n", 2]))
_MIXED, _STRINGS, _FLOATS = map(_open_model, ("mixed", "strings", "floats"))


def _target(protocol: InferenceProtocol[Any], model: ServedModel) -> Callable[[bytes], None]:
    def target(data: bytes) -> None:
        with suppress(OnwardError):
            protocol.decode(_ENDPOINTS.get(model), data, RequestHead([]))

    return target


def binary(data: bytes) -> None:
    """Binary tensors of v2; the first two bytes are the number of bytes of JSON."""
    size = int.from_bytes(data[:2], "big")
    head = RequestHead([(b"inference-header-content-length", b"%d" % size)])
    for model in (_FLOATS, _STRINGS):
        with suppress(OnwardError):
            _V2.decode(_ENDPOINTS.get(model), data[2:], head)


def compressed(data: bytes) -> None:
    """A compressed body; the first byte selects the encoding."""
    decompressor = Decompressor("gzip" if data[:1] < b"\x80" else "deflate", _LIMITS)
    with suppress(OnwardError):
        decompressor.feed(data[1:])
        while decompressor.read():
            pass
        decompressor.require_end()


def framing(data: bytes) -> None:
    """Header fields, one per line, after a line with the HTTP version."""
    version, *lines = data.split(b"\n")
    headers = [(name.lower(), value) for name, _, value in (line.partition(b":") for line in lines)]
    lengths = [value for name, value in headers if name == b"content-length"]
    if all(value.isdigit() for value in lengths):  # the parser rejects all others
        with suppress(OnwardError):
            body_length(headers, version.decode("latin-1"))


_V2 = V2Protocol(Regions(allowed=False), _LIMITS)
_V1 = V1Protocol(_LIMITS)
TARGETS: Mapping[str, Callable[[bytes], None]] = {
    "native": _target(NativeProtocol(_LIMITS), _MIXED),
    "v1": _target(_V1, _MIXED),
    "v1_bare": _target(_V1, _FLOATS),
    "v2": _target(_V2, _FLOATS),
    "v2_strings": _target(_V2, _STRINGS),
    "v2_binary": binary,
    "compressed": compressed,
    "framing": framing,
}
