"""Both clients behind one interface, so that every test runs with each of them."""

import asyncio
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Protocol, cast

import httpx
import pytest

from service.client import AsyncClient, Client, Model, ScoredTable

# Reading certificates takes longer than most tests, which use plain HTTP.
_NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class BlockingClient:
    """An `AsyncClient` that is used like a `Client`."""

    def __init__(self, client: AsyncClient, run: Callable[[Any], Any]) -> None:
        self._client = client
        self._run = run

    def models(self) -> list[Model]:
        found: list[Model] = self._run(self._client.models())
        return found

    def model(self, name: str, *, version: str | int | None = None) -> Model:
        found: Model = self._run(self._client.model(name, version=version))
        return found

    def predict(self, model: str, data: Any, **options: Any) -> Any:  # noqa: ANN401 - of the client
        return self._run(self._client.predict(model, data, **options))

    def explain(self, model: str, data: Any, **options: Any) -> Any:  # noqa: ANN401 - of the client
        return self._run(self._client.explain(model, data, **options))

    def score(self, model: str, source: Any, target: Any, **options: Any) -> ScoredTable:  # noqa: ANN401 - of the client
        scored: ScoredTable = self._run(self._client.score(model, source, target, **options))
        return scored

    def stream(self, model: str, source: Any, **options: Any) -> Iterator[bytes]:  # noqa: ANN401 - of the client
        pieces = self._client.stream(model, source, **options)
        while piece := self._run(anext(pieces, b"")):
            yield piece


class AnyClient(Protocol):
    """Either client; the tests call it with data of every kind."""

    def models(self) -> list[Model]: ...
    def model(self, name: str, *, version: str | int | None = None) -> Model: ...
    def predict(self, model: str, data: Any, **options: Any) -> Any: ...  # noqa: ANN401
    def explain(self, model: str, data: Any, **options: Any) -> Any: ...  # noqa: ANN401
    def score(self, model: str, source: Any, target: Any, **options: Any) -> ScoredTable: ...  # noqa: ANN401
    def stream(self, model: str, source: Any, **options: Any) -> Iterator[bytes]: ...  # noqa: ANN401


Connect = Callable[..., AnyClient]


@pytest.fixture(params=["Client", "AsyncClient"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Return a client of an address, of the one class and of the other."""
    with ExitStack() as stack:

        def connect_client(url: httpx.URL | str, **options: Any) -> AnyClient:  # noqa: ANN401 - of the client
            http = httpx.Client(transport=options.pop("transport", None), verify=_NO_CERTIFICATES)
            stack.callback(http.close)
            return cast("AnyClient", Client(str(url), http_client=http, **options))

        def connect_async(url: httpx.URL | str, **options: Any) -> AnyClient:  # noqa: ANN401 - of the client
            runner = stack.enter_context(asyncio.Runner())
            http = httpx.AsyncClient(verify=_NO_CERTIFICATES)
            stack.callback(lambda: runner.run(http.aclose()))
            return BlockingClient(AsyncClient(str(url), http_client=http, **options), runner.run)

        yield connect_client if request.param == "Client" else connect_async


@pytest.fixture
def onward(connect: Connect, shipped_client: httpx.Client) -> AnyClient:
    """A client of the shipped models."""
    return connect(shipped_client.base_url)
