"""Requests that a shutdown cancels."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Message, Scope

from service.app import Onward, create_app
from service.settings import Settings
from tests.models import publish_price

_HEADERS = [(b"host", b"x"), (b"content-type", b"application/json"), (b"content-length", b"11")]


def scope_of(method: str, path: str) -> Scope:
    """The ASGI scope of a request with a body of 11 bytes."""
    return {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": _HEADERS,
        "client": None,
        "server": None,
    }


async def call(app: Onward, scope: Scope, *, cancel_after: float | None = None) -> list[Message]:
    """The messages of the response to a request whose body does not arrive."""
    sent: list[Message] = []

    async def receive() -> Any:  # noqa: ANN401 - it does not return
        await asyncio.Event().wait()

    async def send(message: Message) -> None:
        sent.append(message)

    task = asyncio.create_task(app(scope, receive, send))
    if cancel_after is not None:
        await asyncio.sleep(cancel_after)
        task.cancel()
    await task
    return sent


@pytest.mark.parametrize(
    ("path", "counted"),
    [
        ("predict", 'onward_requests_total{model="price",outcome="draining",protocol="native",'),
        ("explain", 'onward_explanations_total{model="price",outcome="draining",'),
    ],
)
def test_a_request_that_a_shutdown_cancels_is_counted(
    models: Path, path: str, counted: str
) -> None:
    """Its outcome is the code of the error that the client gets."""
    publish_price(models)

    async def cancel() -> tuple[list[Message], str]:
        app = create_app(Settings(models=models, device="cpu"))
        async with app.router.lifespan_context(app):
            scope = scope_of("POST", f"/models/price/{path}")
            response = await call(app, scope, cancel_after=0.1)
            metrics = await call(app, scope_of("GET", "/metrics"))
            return response, b"".join(part.get("body", b"") for part in metrics).decode()

    (head, body), metrics = asyncio.run(cancel())

    assert head["status"] == 503
    assert b'"code":"draining"' in body["body"]
    assert f'{counted}version=""}} 1.0' in metrics
