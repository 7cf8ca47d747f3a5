"""A minimal ASGI application, which reads the body and sends a constant response."""

from typing import Any

_RESPONSE = b'{"label":"admitted","probability":0.5,"model_version":"1"}  '


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI's callables
    """Respond to any request with sixty bytes of JSON."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", b"60")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": _RESPONSE.ljust(60)[:60]})
