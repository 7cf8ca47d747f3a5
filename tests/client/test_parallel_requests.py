"""Many requests at the same time through one `AsyncClient`."""

import asyncio
import ssl

import httpx

from service.client import AsyncClient
from tests.conftest import ShippedClient

# Reading certificates takes longer than the test, which uses plain HTTP.
_NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Counting(httpx.AsyncHTTPTransport):
    """Counts the requests that are in flight, and connections by the ports of the client."""

    def __init__(self) -> None:
        super().__init__(verify=_NO_CERTIFICATES, limits=httpx.Limits(max_connections=None))
        self.alive = self.most = 0
        self.ports: set[int] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.alive += 1
        self.most = max(self.most, self.alive)
        try:
            response = await super().handle_async_request(request)
        finally:
            self.alive -= 1
        self.ports.add(response.extensions["network_stream"].get_extra_info("client_addr")[1])
        return response


def test_requests_wait_before_they_are_sent(shipped_client: ShippedClient) -> None:
    """A few are in flight, on as many connections, and each gets its own prediction."""
    transport = Counting()

    async def predict_all() -> list[float | None]:
        async with AsyncClient(str(shipped_client.base_url), transport=transport) as client:
            found = await asyncio.gather(
                *(client.predict("line", {"x": number}) for number in range(200))
            )
            return [one.value for one in found]

    values = asyncio.run(predict_all())

    rows = [{"x": number} for number in range(200)]
    response = shipped_client.post("/models/line/predict", json=rows).json()
    assert values == [one["value"] for one in response["predictions"]]
    assert 1 < transport.most <= 16
    assert 1 < len(transport.ports) <= 16


def test_a_program_may_predict_between_the_pieces_of_tables(shipped_client: ShippedClient) -> None:
    """Also with more tables open than requests may be in flight."""

    async def read(client: AsyncClient) -> float | None:
        async for _ in client.stream("line", b"x\n1\n"):
            await all_open.wait()
            return (await client.predict("line", {"x": 1})).value
        return None

    async def read_all() -> list[float | None]:
        async with AsyncClient(str(shipped_client.base_url)) as client:
            return await asyncio.gather(*(read(client) for _ in range(tables)))

    tables = 20
    all_open = asyncio.Barrier(tables)
    values = asyncio.run(read_all())

    assert set(values) == {
        shipped_client.post("/models/line/predict", json={"x": 1}).json()["value"]
    }
