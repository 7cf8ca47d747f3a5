"""What every test can use: a models folder, a client of a running service, and `--fast`."""

import ast
import ssl
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
            given = {"models": models, "device": "cpu", "poll_seconds": 0} | settings
            base = stack.enter_context(_serving(Settings.model_validate(given)))
            client = httpx.Client(base_url=base, timeout=_PATIENCE_SECONDS, verify=_NO_CERTIFICATES)
            return stack.enter_context(client)

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
