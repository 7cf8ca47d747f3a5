"""The time to decode a body is proportional to its size for any content."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto

from service.api.body import RequestHead
from service.api.inference import InferenceProtocol
from service.api.native.protocol import NativeProtocol
from service.api.v1.examples import CLASSIFY, V1ExamplesProtocol
from service.api.v1.protocol import V1Protocol
from service.api.v2.protocol import V2Protocol
from service.api.v2.shared_memory import Regions
from service.cli.score import loaded_model
from service.codecs.endpoint import EndpointCache
from service.errors import InvalidRequest
from service.limits import Limits
from service.settings import Settings
from tests.models import publish_admission, publish_bare, publish_mixed
from tests.triton_models import identity

KIB = 1024
# Ten times the size may take this many times the CPU time; a quadratic decoder takes a hundred.
MOST_TIMES = 40
# Shorter durations are within the noise of the clock.
LEAST_SECONDS = 0.000_5


def repeated(start: bytes, item: bytes, end: bytes) -> Callable[[int], bytes]:
    """Return bodies of one repeated item."""
    return lambda size: start + b",".join([item] * (size // (len(item) + 1))) + end


def numbered(start: bytes, item: bytes, end: bytes) -> Callable[[int], bytes]:
    """Return bodies of items that differ by a number."""
    return lambda size: (
        start + b",".join(item % number for number in range(size // (len(item) + 5))) + end
    )


ROWS: Mapping[str, Callable[[int], bytes]] = {
    "pairs": repeated(b"[", b"[0,0]", b"]"),
    "empty objects": repeated(b"[", b"{}", b"]"),
    "empty lists": repeated(b"[", b"[]", b"]"),
    "rows of words": repeated(b"[", b'["x","y"]', b"]"),
    "rows of ones and words": repeated(b"[", b'[1,"y"]', b"]"),
    "rows with an unknown name": repeated(b"[", b'{"exam_1":1,"exam_2":2,"x":3}', b"]"),
    "rows with names of their own": numbered(b"[", b'{"exam_%d":1}', b"]"),
    "names of one row": numbered(b"{", b'"exam_%d":1', b"}"),
    "names next to instances": numbered(b'{"instances":[[1,2]],', b'"%d":1', b"}"),
    "commas": lambda size: b"a," * (size // 2),
    "words and commas": lambda size: b"a,b\n" * (size // 4),
    "one line of words": lambda size: b"a b,c;" * (size // 6) + b"\nx",
    "digits": lambda size: b'{"exam_1":' + b"1" * size + b"}",
    "a long name": lambda size: b'{"' + b"exam_" * (size // 5) + b'":1}',
    "a long word": lambda size: b'{"exam_1":"' + b"ab" * (size // 2) + b'","exam_2":1}',
    "escapes": lambda size: b'{"exam_1":"' + b"\\u0061" * (size // 6) + b'"}',
    "nested lists": lambda size: b"[" + b",".join([b"[" * 99 + b"]" * 99] * (size // 199)) + b"]",
    "spaces": lambda size: b" " * size,
    "quotation marks": lambda size: b'"' * size,
    "zeros": lambda size: b"\0" * size,
    "NaN": repeated(b"[", b"NaN", b"]"),
}
V1: Mapping[str, Callable[[int], bytes]] = {
    "instances of pairs": repeated(b'{"instances":[', b"[0,0]", b"]}"),
    "instances of objects": repeated(b'{"instances":[', b"{}", b"]}"),
    "unknown names": numbered(b"{", b'"instance%d":1', b"}"),
    "columns": numbered(b'{"inputs":{', b'"%d":[1]', b"}}"),
    "inputs of one instance": numbered(b'{"instances":[{', b'"%d":1', b"}]}"),
    "objects in base64": repeated(b'{"instances":[', b'{"b64":"YQ=="}', b"]}"),
}
EXAMPLES: Mapping[str, Callable[[int], bytes]] = {
    "examples": repeated(b'{"examples":[', b"{}", b"]}"),
    "context": numbered(b'{"examples":[{}],"context":{', b'"%d":1', b"}}"),
}
V2: Mapping[str, Callable[[int], bytes]] = {
    "inputs": numbered(b'{"inputs":[', b'{"name":"%d"}', b"]}"),
    "outputs": numbered(b'{"outputs":[', b'{"name":"%d"}', b"]}"),
    "names": numbered(b"{", b'"%d":1', b"}"),
    "a shape": repeated(b'{"inputs":[{"name":"INPUT0","datatype":"FP32","shape":[', b"9", b"]}]}"),
    "lists of data": repeated(
        b'{"inputs":[{"name":"INPUT0","datatype":"FP32","shape":[9,2],"data":[', b"[]", b"]}]}"
    ),
    "words as data": repeated(
        b'{"inputs":[{"name":"INPUT0","datatype":"FP32","shape":[9,2],"data":[', b'"a"', b"]}]}"
    ),
    "parameters": numbered(b'{"inputs":[],"parameters":{', b'"%d":1', b"}}"),
}
CASES = [
    *[("native", "admission", name) for name in ROWS],
    *[("native", "mixed", name) for name in ("empty objects", "names of one row")],
    *[("v1", "admission", name) for name in (*ROWS, *V1)],
    *[("v1", "floats", name) for name in V1],
    *[("v1 strings", "strings", name) for name in V1],
    *[("classify", "admission", name) for name in EXAMPLES],
    *[("v2", "floats", name) for name in (*ROWS, *V2)],
]
BODIES = {**ROWS, **V1, **EXAMPLES, **V2}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the models of CASES."""
    folder = tmp_path_factory.mktemp("models")
    publish_admission(folder)
    publish_mixed(folder)
    publish_bare(folder, "floats", identity(TensorProto.FLOAT, ["n", 2]))
    publish_bare(folder, "strings", identity(TensorProto.STRING, ["n", 2]))
    return folder


@pytest.mark.parametrize(("protocol", "model", "name"), CASES)
def test_decoding_takes_linear_time(models: Path, protocol: str, model: str, name: str) -> None:
    """A body ten times as large takes about ten times as long, or is rejected earlier."""
    seconds = asyncio.run(_measured(models, protocol, model, BODIES[name]))

    assert seconds[10 * KIB] < MOST_TIMES * max(seconds[KIB], LEAST_SECONDS)
    assert seconds[100 * KIB] < MOST_TIMES * max(seconds[10 * KIB], LEAST_SECONDS)


async def _measured(
    models: Path, protocol: str, name: str, body: Callable[[int], bytes]
) -> dict[int, float]:
    """Return the least CPU seconds of a few decodings, by the size of the body."""
    settings = Settings(models=models, device="cpu", poll_seconds=0)
    tested = _protocol(protocol, settings)
    found = {}
    async with loaded_model(settings, name, None) as model:
        endpoint = EndpointCache(settings, Limits(settings)).get(model)
        for size in (KIB, 10 * KIB, 100 * KIB):
            content = body(size)
            spent = []
            for _ in range(3):
                started = time.process_time()
                with contextlib.suppress(InvalidRequest):
                    tested.decode(endpoint, content, RequestHead([]))
                spent.append(time.process_time() - started)
            found[size] = min(spent)
    return found


def _protocol(protocol: str, settings: Settings) -> InferenceProtocol[Any]:
    limits = Limits(settings, lambda _: None)
    if protocol == "native":
        return NativeProtocol(limits)
    if protocol == "classify":
        return V1ExamplesProtocol(CLASSIFY, limits)
    if protocol == "v2":
        return V2Protocol(Regions(allowed=False), limits)
    return V1Protocol(limits)
