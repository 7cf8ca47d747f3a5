"""The requests of the example programs of Triton's client project, by its own client.

Each test has the name of a program, and the same assertions.
"""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tritonclient.http as triton
import tritonclient.utils.shared_memory as shm
from tritonclient.http import aio

from tests.conftest import StartApp
from tests.triton_models import IMAGE, LABELS, publish_examples

LEFT = np.arange(16, dtype=np.int32).reshape(1, 16)
RIGHT = np.full((1, 16), -1, np.int32)
COMPRESSION = [None, "gzip", "deflate"]
EXTRA: dict[str, object] = {"query_params": {"test_1": 1, "test_2": 2}}

Array = npt.NDArray[Any]


@contextmanager
def served(
    models: Path, start: StartApp, concurrency: int = 1, **settings: object
) -> Iterator[triton.InferenceServerClient]:
    """A blocking client of a service with the example models."""
    publish_examples(models)
    address = address_of(start, **settings)
    client = triton.InferenceServerClient(address, concurrency=concurrency)
    try:
        yield client
    finally:
        client.close()


def address_of(start: StartApp, **settings: object) -> str:
    return str(start(**settings).base_url).removeprefix("http://").rstrip("/")


def pair(left: Array, right: Array, *, binary: tuple[bool, bool], datatype: str) -> list[Any]:
    """The two inputs of the simple models."""
    tensors = [triton.InferInput(f"INPUT{n}", list(left.shape), datatype) for n in (0, 1)]
    for tensor, array, as_bytes in zip(tensors, (left, right), binary, strict=True):
        tensor.set_data_from_numpy(array, binary_data=as_bytes)
    return tensors


def wanted(*binary: bool) -> list[Any]:
    return [
        triton.InferRequestedOutput(f"OUTPUT{n}", binary_data=as_bytes)
        for n, as_bytes in enumerate(binary)
    ]


def require_sum_and_difference(result: Any, left: Array, right: Array) -> None:  # noqa: ANN401 - the client has no types
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), left + right)
    np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), left - right)


@pytest.mark.parametrize("responses", COMPRESSION)
@pytest.mark.parametrize("requested", COMPRESSION)
def test_simple_http_infer_client(
    models: Path, start: StartApp, requested: str | None, responses: str | None
) -> None:
    """JSON and binary tensors, query parameters, headers, statistics and an unknown name."""
    options = EXTRA | {
        "headers": {"x-mine": "1"},
        "request_compression_algorithm": requested,
        "response_compression_algorithm": responses,
    }
    with served(models, start) as client:
        inputs = pair(LEFT, RIGHT, binary=(False, True), datatype="INT32")

        chosen = client.infer("simple", inputs, outputs=wanted(True, False), **options)  # noqa: FBT003 - binary or not
        everything = client.infer("simple", inputs, outputs=None, **options)
        (statistics,) = client.get_inference_statistics("simple")["model_stats"]

        require_sum_and_difference(chosen, LEFT, RIGHT)
        require_sum_and_difference(everything, LEFT, RIGHT)
        assert statistics["inference_count"] == 2
        assert statistics["inference_stats"]["success"]["count"] == 2
        with pytest.raises(triton.InferenceServerException) as rejected:
            client.infer("wrong_model_name", inputs)
        assert rejected.value.message().startswith("Request for unknown model")


@pytest.mark.parametrize("compression", COMPRESSION)
def test_simple_http_aio_infer_client(
    models: Path, start: StartApp, compression: str | None
) -> None:
    """The same by the asynchronous client, and two at once."""
    publish_examples(models)
    address = address_of(start)
    both_ways = ("request_compression_algorithm", "response_compression_algorithm")
    options = EXTRA | dict.fromkeys(both_ways, compression)
    inputs = pair(LEFT, RIGHT, binary=(False, True), datatype="INT32")

    async def infer() -> list[Any]:
        async with aio.InferenceServerClient(address) as client:
            first = await client.infer("simple", inputs, outputs=wanted(True, False), **options)  # noqa: FBT003 - binary or not
            statistics = await client.get_inference_statistics("simple")
            assert len(statistics["model_stats"]) == 1
            with pytest.raises(triton.InferenceServerException, match="Request for unknown model"):
                await client.infer("wrong_model_name", inputs)
            both = await asyncio.gather(
                client.infer("simple", inputs, outputs=wanted(True, False), **options),  # noqa: FBT003 - as above
                client.infer("simple", inputs, outputs=None, **options),
            )
            return [first, *both]

    for result in asyncio.run(infer()):
        require_sum_and_difference(result, LEFT, RIGHT)


def test_simple_http_async_infer_client(models: Path, start: StartApp) -> None:
    """Two requests under way at once on the blocking client's own green threads."""
    with served(models, start, concurrency=2) as client:
        inputs = pair(LEFT, RIGHT, binary=(True, True), datatype="INT32")
        outputs = wanted(True, True)  # noqa: FBT003 - binary or not

        requested = [client.async_infer("simple", inputs, outputs=outputs) for _ in range(2)]

        for request in requested:
            require_sum_and_difference(request.get_result(), LEFT, RIGHT)


def test_simple_int8(models: Path, start: StartApp) -> None:
    """Triton's client adds and subtracts tensors of INT8."""
    left, right = LEFT.astype(np.int8), RIGHT.astype(np.int8)
    with served(models, start) as client:
        inputs = pair(left, right, binary=(True, False), datatype="INT8")

        result = client.infer("simple_int8", inputs, outputs=wanted(False, True))  # noqa: FBT003 - binary or not

        require_sum_and_difference(result, left, right)


def test_simple_model_with_any_batch(models: Path, start: StartApp) -> None:
    """Where the first axis is free, several rows are one request."""
    rows = np.arange(48, dtype=np.int32).reshape(3, 16)
    with served(models, start) as client:
        inputs = pair(rows, -rows, binary=(True, False), datatype="INT32")

        require_sum_and_difference(client.infer("simple_batch", inputs), rows, -rows)
        assert client.get_model_config("simple_batch")["max_batch_size"] > 1
        assert client.get_model_config("simple")["max_batch_size"] == 1


def test_simple_http_string_infer_client_adds_numbers_in_strings(
    models: Path, start: StartApp
) -> None:
    """Strings as bytes and as JSON in one request; both outputs are strings again."""
    left, right = (array.astype(str).astype(object) for array in (LEFT, RIGHT))
    with served(models, start) as client:
        inputs = pair(left, right, binary=(True, False), datatype="BYTES")

        result = client.infer("simple_string", inputs, outputs=wanted(True, False))  # noqa: FBT003 - binary or not

        for name, expected in (("OUTPUT0", LEFT + RIGHT), ("OUTPUT1", LEFT - RIGHT)):
            got = [int(value) for value in result.as_numpy(name).ravel()]
            assert got == expected.ravel().tolist()


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize(
    "value", ["he\0llo", "\x00\x01\x02\x03", "", "Grüße, 世界 🌍", "a" * 10_000, "\\\"'\n"]
)
def test_simple_http_string_infer_client_keeps_every_character(
    models: Path,
    start: StartApp,
    value: str,
    binary: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """An identity model returns strings unchanged, including null characters."""
    strings = np.array([value.encode()] * 16, object).reshape(1, 16)
    tensor = triton.InferInput("INPUT0", [1, 16], "BYTES")
    tensor.set_data_from_numpy(strings, binary_data=binary)
    with served(models, start) as client:
        result = client.infer("simple_identity", [tensor], outputs=wanted(binary))

        got = result.as_numpy("OUTPUT0")

    assert got.shape == (1, 16)
    assert {item if isinstance(item, bytes) else item.encode() for item in got.ravel()} == {
        value.encode()
    }


def test_simple_http_health_metadata(models: Path, start: StartApp) -> None:
    """Health, the configured name of the server, metadata and an unknown name."""
    with served(models, start, server_name="triton") as client:
        assert client.is_server_live(query_params={"test_1": 1, "test_2": 2})
        assert client.is_server_ready()
        assert client.is_model_ready("simple")
        assert client.get_server_metadata()["name"] == "triton"
        assert client.get_model_metadata("simple", **EXTRA)["name"] == "simple"
        with pytest.raises(triton.InferenceServerException, match="Request for unknown model"):
            client.get_model_metadata("wrong_model_name")


def test_reuse_infer_objects_client(models: Path, start: StartApp) -> None:
    """The same objects serve with shared memory, without it, and with it again."""
    left, right = LEFT[0], np.ones(16, np.int32)
    with served(models, start, shared_memory="system") as client, shared(client, left) as regions:
        inputs = pair(LEFT, RIGHT, binary=(True, True), datatype="INT32")
        outputs = wanted(True, True)  # noqa: FBT003 - binary or not
        for region, array in zip(regions[:2], (left, right), strict=True):
            shm.set_shared_memory_region(region, [array])

        for uses_memory in (True, False, True):
            if uses_memory:
                for tensor, name in zip([*inputs, *outputs], NAMES, strict=True):
                    tensor.set_shared_memory(name, left.nbytes)
            else:
                for tensor, array in zip(inputs, (left, right * 2), strict=True):
                    tensor.set_data_from_numpy(array.reshape(1, 16))
                for output in outputs:
                    output.unset_shared_memory()

            result = client.infer("simple", inputs, outputs=outputs)

            if uses_memory:
                reported = [result.get_output(name)["shape"] for name in ("OUTPUT0", "OUTPUT1")]
                found = [
                    shm.get_contents_as_numpy(region, np.int32, shape)
                    for region, shape in zip(regions[2:], reported, strict=True)
                ]
                np.testing.assert_array_equal(found, [[left + right], [left - right]])
            else:
                require_sum_and_difference(result, LEFT, np.array([right * 2]))


NAMES = ("onward_test_input0", "onward_test_input1", "onward_test_output0", "onward_test_output1")


@contextmanager
def shared(client: triton.InferenceServerClient, like: Array) -> Iterator[list[Any]]:
    """Four regions of shared memory, registered."""
    client.unregister_system_shared_memory()
    client.unregister_cuda_shared_memory()
    regions: list[Any] = []
    try:
        for name in NAMES:
            key = f"/{name}_{os.getpid()}"  # other processes may use the same names
            regions.append(shm.create_shared_memory_region(name, key, like.nbytes))
            client.register_system_shared_memory(name, key, like.nbytes)
        assert len(client.get_system_shared_memory_status()) == len(NAMES)
        yield regions
        client.unregister_system_shared_memory()
        assert client.get_system_shared_memory_status() == []
    finally:
        for region in regions:
            shm.destroy_shared_memory_region(region)


def test_memory_growth_test(models: Path, start: StartApp) -> None:
    """A hundred clients, each new, all get the same array back."""
    publish_examples(models)
    address = address_of(start)
    tensor = triton.InferInput("INPUT0", [1, 16], "INT32")
    tensor.set_data_from_numpy(LEFT, binary_data=True)
    for _ in range(100):
        client = triton.InferenceServerClient(address)

        got = client.infer("custom_identity_int32", [tensor], outputs=wanted(True))  # noqa: FBT003 - binary or not

        np.testing.assert_array_equal(got.as_numpy("OUTPUT0"), LEFT)
        assert got.as_numpy("OUTPUT0").dtype == np.int32
        client.close()


@pytest.mark.parametrize("binary", [True, False])
def test_image_client(models: Path, start: StartApp, binary: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """The configuration has the layout of an image; classes are ranked and have labels."""
    images = np.zeros((2, 3, IMAGE, IMAGE), np.float32)
    images[0, 1], images[1, 2], images[:, 0] = 200, 100, 7
    tensor = triton.InferInput("data", images.shape, "FP32")
    tensor.set_data_from_numpy(images)
    outputs = [triton.InferRequestedOutput("scores", binary_data=binary, class_count=2)]
    with served(models, start) as client:
        config = client.get_model_config("colors")
        result = client.infer("colors", [tensor], outputs=outputs, request_id="1")

    assert (config["max_batch_size"], config["input"][0]["format"]) == (8, "FORMAT_NCHW")
    assert config["input"][0]["dims"] == [3, IMAGE, IMAGE]
    assert result.get_response()["id"] == "1"
    got = result.as_numpy("scores")
    texts = [[str(x, "utf-8") if binary else x for x in row] for row in got.tolist()]
    assert texts == [
        [f"200.000000:1:{LABELS[1]}", f"7.000000:0:{LABELS[0]}"],
        [f"100.000000:2:{LABELS[2]}", f"7.000000:0:{LABELS[0]}"],
    ]
