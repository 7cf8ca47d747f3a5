"""What every test may ask for: a models folder, and a client of a really running service."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn

from service.app import create_app
from service.server.fast_path import FastPathProtocol
from service.settings import Settings

StartApp = Callable[..., httpx.Client]

_PATIENCE_SECONDS = 30


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """An empty models folder."""
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


@pytest.fixture
def start(models: Path) -> Iterator[StartApp]:
    """Serve the models folder on a free port, with the settings given, until the test ends."""
    with ExitStack() as stack:

        def start(**settings: object) -> httpx.Client:
            given = {"models": models, "device": "cpu", "poll_seconds": 0} | settings
            base = stack.enter_context(_serving(Settings.model_validate(given)))
            return stack.enter_context(httpx.Client(base_url=base, timeout=_PATIENCE_SECONDS))

        yield start


@contextmanager
def _serving(settings: Settings) -> Iterator[str]:
    """A uvicorn server in a thread; gives its address."""
    config = uvicorn.Config(
        create_app(settings),
        port=0,
        log_config=None,
        access_log=False,
        proxy_headers=False,
        http=FastPathProtocol,
    )
    server = uvicorn.Server(config)
    ended = threading.Event()

    def serve() -> None:
        server.run()
        ended.set()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        while not server.started and not ended.wait(0.005):
            pass
        if not server.started:
            raise RuntimeError("the service did not start; its log says why")
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(_PATIENCE_SECONDS)
