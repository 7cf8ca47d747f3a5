"""What every test can use: a models folder, a client of a running service, and `--fast`."""

import ast
import asyncio
import os
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from itertools import count
from pathlib import Path

# Several test processes share the cores, where threads of one matrix product mostly wait for each
# other. The libraries read this when they are imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import httpx
import pytest
import uvicorn

from service.app import create_app
from service.server.fast_path import FastPathProtocol
from service.settings import Settings

pytest_plugins = ("tests.browser",)

StartApp = Callable[..., httpx.Client]
Serve = Callable[..., httpx.Client]
# Importing a name from here is what keeps a module out of ``--fast``.
ShippedClient = httpx.Client

_SHIPPED = Path(__file__).parents[1] / "models"
_PATIENCE_SECONDS = 30
_TICK_SECONDS = 0.005
# Servers speak plain HTTP here, and reading certificates takes as long as starting one.
_NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

# A module of tests that imports one of these starts servers or processes, trains models, or
# measures time.
SLOW_IMPORTS = {
    "multiprocessing",
    "schemathesis",
    "service.app",
    "subprocess",
    "tests.conftest",
    "tests.processes",
    "tests.training.shipped",
    "time",
    "training.learn",
    "training.export.folding",
    "training.__main__",
    "training.fit",
    "training.images.fit",
    "training.image_run",
    "training.run",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--fast`."""
    parser.addoption(
        "--fast",
        action="store_true",
        help="leave out modules that start servers or processes, train models or measure time",
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `--fast`, leave out slow modules before they are imported."""
    if not config.getoption("--fast") or not collection_path.match("test_*.py"):
        return None
    return bool(SLOW_IMPORTS & imported_by(collection_path)) or None


def pytest_runtest_setup() -> None:
    """List the operators of PyTorch's exporter once, which takes longer than a small export."""
    exporter = sys.modules.get("onnxscript._framework_apis.torch_2_11")
    if exporter is not None and not hasattr(exporter.get_torchlib_ops, "cache_info"):
        exporter.__dict__["get_torchlib_ops"] = cache(exporter.get_torchlib_ops)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name bytes by their parameter: compressed ones differ between two workers."""
    return argname if isinstance(val, bytes) else None


def imported_by(path: Path) -> set[str]:
    """The modules that a file imports, and those that may be: ``from a import b`` gives a.b too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


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
            return stack.enter_context(_client({"models": models} | settings))

        yield start


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Publish models and serve them until the last test of a module ends; no test changes them."""
    with ExitStack() as stack:

        def serve(publish: Callable[[Path], object], **settings: object) -> httpx.Client:
            models = tmp_path_factory.mktemp("models")
            publish(models)
            return stack.enter_context(_client({"models": models} | settings))

        yield serve


@pytest.fixture(scope="session")
def shipped_client() -> Iterator[ShippedClient]:
    """Serve the models of this repository, once in each test process."""
    with _client({"models": _SHIPPED}) as client:
        yield client


@contextmanager
def _client(settings: dict[str, object]) -> Iterator[httpx.Client]:
    """A client of a service with these settings, on the CPU and without polling."""
    made = Settings.model_validate({"device": "cpu", "poll_seconds": 0} | settings)
    with (
        _serving(made) as base,
        httpx.Client(base_url=base, timeout=_PATIENCE_SECONDS, verify=_NO_CERTIFICATES) as client,
    ):
        yield client


class _Server(uvicorn.Server):
    """Ends within milliseconds; uvicorn takes 0.2 s, which a thousand tests would wait for."""

    async def main_loop(self) -> None:
        """Serve until ``should_exit`` is set."""
        ticks = count()
        while not await self.on_tick(next(ticks)):  # noqa: ASYNC110 - set by another thread
            await asyncio.sleep(_TICK_SECONDS)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish what has begun, as uvicorn does without a timeout."""
        assert sockets is None
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        while self.server_state.connections or self.server_state.tasks:  # noqa: ASYNC110 - sets
            await asyncio.sleep(_TICK_SECONDS)
        for server in self.servers:
            await server.wait_closed()
        await self.lifespan.shutdown()


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
    server = _Server(config)
    ended = threading.Event()

    def serve() -> None:
        server.run()
        ended.set()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        while not server.started and not ended.wait(_TICK_SECONDS):
            pass
        if not server.started:
            raise RuntimeError("the service did not start; its log says why")
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(_PATIENCE_SECONDS)
