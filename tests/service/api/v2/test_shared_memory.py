"""Shared memory: disabled by default, and limited to the registered regions."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.utils.shared_memory as shm

from service.api.v2.shared_memory import Regions
from service.errors import InvalidRequest
from tests.conftest import StartApp
from tests.models import publish_bare, sum_and_difference
from tests.service.api.test_invalid_requests import assert_contract

REGIONS = "/v2/systemsharedmemory"
KEY = f"/onward_test_{os.getpid()}"
VALUES = np.arange(32, dtype=np.int32)
ALLOWED = {"shared_memory": "system"}


@pytest.fixture
def memory() -> Iterator[Any]:
    """Create 128 bytes of shared memory with the numbers 0 to 31."""
    region = shm.create_shared_memory_region("values", KEY, VALUES.nbytes)
    shm.set_shared_memory_region(region, [VALUES])
    yield region
    shm.destroy_shared_memory_region(region)


def register(client: httpx.Client, **changes: object) -> httpx.Response:
    document = {"key": KEY, "offset": 0, "byte_size": VALUES.nbytes} | changes
    return client.post(f"{REGIONS}/region/values/register", json=document)


def infer(client: httpx.Client, slot: dict[str, object], **output: object) -> httpx.Response:
    """Request the sum of the simple model, with its first input in shared memory."""
    stated = {"shape": [1, 16], "datatype": "INT32"}
    parameters = {f"shared_memory_{key}": value for key, value in slot.items()}
    if "binary" in slot:
        parameters["binary_data_size"] = slot["binary"]
    inputs = [
        stated | {"name": "INPUT0", "parameters": parameters},
        stated | {"name": "INPUT1", "data": [0] * 16},
    ]
    parameters = {f"shared_memory_{key}": value for key, value in output.items()}
    wanted = {"name": "OUTPUT0", "parameters": parameters}
    return client.post("/v2/models/simple/infer", json={"inputs": inputs, "outputs": [wanted]})


def test_shared_memory_is_rejected_unless_enabled(
    models: Path,
    start: StartApp,
    memory: Any,  # noqa: ANN401 - the client has no types
) -> None:
    """Each call, and each tensor in shared memory, gets a 403 that names the setting."""
    assert memory
    publish_bare(models, "simple", sum_and_difference())
    client = start()

    responses = [
        register(client),
        client.get(f"{REGIONS}/status"),
        client.post(f"{REGIONS}/unregister"),
        infer(client, {"region": "values", "byte_size": 64}),
    ]

    for response in responses:
        assert "ONWARD_SHARED_MEMORY=system" in assert_contract(response, 403)["error"]
    assert "system_shared_memory" not in client.get("/v2").json()["extensions"]


@pytest.mark.parametrize(
    "call",
    [
        f"{REGIONS}/region/values/register",
        f"{REGIONS}/region/values/unregister",
        f"{REGIONS}/unregister",
        "/v2/repository/models/simple/load",
        "/v2/repository/models/simple/unload",
    ],
)
def test_browsers_cannot_change_what_is_served(models: Path, start: StartApp, call: str) -> None:
    """A POST with the header that browsers add is rejected for all settings."""
    publish_bare(models, "simple", sum_and_difference())
    client = start(model_control="explicit", **ALLOWED)

    response = client.post(call, headers={"origin": "http://page.example"})

    assert "Browsers may not" in assert_contract(response, 403)["error"]
    assert client.get("/v2/models/simple/ready").json()["ready"] is True


def test_parts_of_a_region_are_read_and_written(
    models: Path,
    start: StartApp,
    memory: Any,  # noqa: ANN401 - the client has no types
) -> None:
    """Offsets are relative to the region; the response has the slot of the output."""
    publish_bare(models, "simple", sum_and_difference())
    client = start(**ALLOWED)

    registered = register(client)
    slot = {"region": "values", "byte_size": 64, "offset": 64}
    response = infer(client, slot, region="values", byte_size=64)

    assert registered.json() == {}
    (output,) = response.json()["outputs"]
    assert output["parameters"] == {
        "shared_memory_region": "values",
        "shared_memory_offset": 0,
        "shared_memory_byte_size": 64,
    }
    assert "data" not in output
    found = shm.get_contents_as_numpy(memory, np.int32, [32])
    np.testing.assert_array_equal(found, [*VALUES[16:], *VALUES[16:]])
    assert "system_shared_memory" in client.get("/v2").json()["extensions"]


WRONG_REGIONS: list[tuple[dict[str, object], str]] = [
    ({"key": "/nothing_of_this_name"}, "cannot be opened: No such file"),
    ({"key": "/../../etc/passwd"}, "it must be 1 to 201 letters"),
    ({"key": "/.."}, "it must be 1 to 201 letters"),
    ({"key": ""}, "it must be 1 to 201 letters"),
    ({"key": "/a\0b"}, "it must be 1 to 201 letters"),
    ({"key": 7}, "'key', the name of the shared memory"),
    ({"byte_size": 129}, "has 128 bytes, not 129"),
    ({"byte_size": 128, "offset": 1}, "has 128 bytes, not 128 from 1 on"),
    ({"byte_size": -1}, "must be a number of bytes"),
    ({"byte_size": 2**62, "offset": 2**62}, "has 128 bytes"),
    ({"byte_size": None}, "must be a number of bytes, got null"),
]


@pytest.mark.parametrize(("changes", "sentence"), WRONG_REGIONS)
def test_an_invalid_region_cannot_be_registered(
    start: StartApp,
    memory: Any,  # noqa: ANN401 - the client has no types
    changes: dict[str, object],
    sentence: str,
) -> None:
    """The key must be a plain name, and the memory long enough."""
    assert memory
    client = start(**ALLOWED)

    assert sentence in assert_contract(register(client, **changes), 400)["error"]
    assert client.get(f"{REGIONS}/status").json() == []


WRONG_SLOTS: list[tuple[dict[str, object], str]] = [
    ({"region": "value", "byte_size": 64}, "did you mean 'values'?"),
    ({"region": 7, "byte_size": 64}, "is 7, not a name"),
    ({"region": "values", "byte_size": 64, "offset": 65}, "are outside of it"),
    ({"region": "values", "byte_size": 2**62, "offset": 2**62}, "are outside of it"),
    ({"region": "values", "byte_size": 60}, "INT32 [1, 16] takes 64 bytes, got 60"),
    ({"region": "values", "byte_size": 64, "binary": 64}, "has both binary_data_size and shared"),
]


@pytest.mark.parametrize(("slot", "sentence"), WRONG_SLOTS)
def test_a_slot_outside_its_region_is_rejected(
    models: Path,
    start: StartApp,
    memory: Any,  # noqa: ANN401 - the client has no types
    slot: dict[str, object],
    sentence: str,
) -> None:
    """Slots must start and end within the region."""
    assert memory
    publish_bare(models, "simple", sum_and_difference())
    client = start(**ALLOWED)
    register(client)

    assert sentence in assert_contract(infer(client, slot), 400)["error"]


def test_truncated_and_small_memory_is_reported(
    models: Path,
    start: StartApp,
    memory: Any,  # noqa: ANN401 - the client has no types
) -> None:
    """An output that does not fit, and memory truncated after registration, get an error."""
    assert memory
    publish_bare(models, "simple", sum_and_difference())
    client = start(**ALLOWED)
    register(client)
    slot: dict[str, object] = {"region": "values", "byte_size": 64}

    small = infer(client, slot, region="values", byte_size=60)
    os.truncate(f"/dev/shm{KEY}", 8)  # noqa: S108 - where Linux shows it
    truncated = infer(client, slot)

    assert "64 bytes does not fit into the 60" in assert_contract(small, 400)["error"]
    assert "has 8 bytes, not 128" in assert_contract(truncated, 400)["error"]


@pytest.mark.usefixtures("memory")
def test_the_number_of_regions_is_limited() -> None:
    """A thousand regions may overlap; another one is rejected until some are unregistered."""
    regions = Regions(allowed=True)
    region = {"key": KEY, "byte_size": 128}
    for number in range(1000):
        regions.register(str(number), region)

    with pytest.raises(InvalidRequest, match="1000 regions are registered; unregister some"):
        regions.register("another", region)
    regions.unregister("0")
    regions.register("another", region)

    assert len(regions.list_regions()) == 1000


def test_a_region_is_listed_and_unregistered_by_name(
    start: StartApp,
    memory: Any,  # noqa: ANN401 - the client has no types
) -> None:
    """A name can be registered once; unregistering an unknown one is not an error."""
    assert memory
    client = start(**ALLOWED)
    register(client)
    expected = [{"name": "values", "key": KEY, "offset": 0, "byte_size": 128}]

    twice = register(client)

    assert "registered already" in assert_contract(twice, 400)["error"]
    assert client.get(f"{REGIONS}/region/values/status").json() == expected
    for name in ("values", "values"):
        assert client.post(f"{REGIONS}/region/{name}/unregister").json() == {}
    assert_contract(client.get(f"{REGIONS}/region/values/status"), 400)


def test_cuda_memory_cannot_be_registered(start: StartApp) -> None:
    """Unregistering is accepted; the error of registering has an alternative."""
    client = start()

    registered = client.post("/v2/cudasharedmemory/region/a/register", json={})

    assert "send the tensors in the body" in assert_contract(registered, 400)["error"]
    assert client.get("/v2/cudasharedmemory/status").json() == []
    assert client.post("/v2/cudasharedmemory/unregister").json() == {}
    assert client.post("/v2/cudasharedmemory/region/a/unregister").json() == {}
