"""``python -m service``: serve the models folder over HTTP, or tell what a service serves."""

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Sequence

import uvicorn

from service.app import create_app
from service.cli.check import check
from service.cli.models import list_models
from service.cli.options import add_settings, read_settings
from service.cli.score import score
from service.cli.tune import tune
from service.engine.devices import available_cores
from service.engine.session import choose_device
from service.errors import CannotStart, NoModels, OnwardError
from service.observability.logs import configure_logging, flush_logs
from service.server.open_files import raise_open_files_limit
from service.server.sockets import Server, bound, port_of_workers
from service.server.supervisor import Supervisor
from service.settings import Settings, misspelt_variables
from service.spelling import nearest
from service.workers.ipc import WORKERS_FOLDER, runtime_dir

_USAGE_ERROR = 2
# After its own bound a worker has so long to end; then its supervisor ends it.
_LAST_SECONDS = 1.5
_COMMANDS = {"score": score, "check": check, "tune": tune, "models": list_models}

_log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop, or do what the first word says.

    Returns:
        2 where the options or the machine do not allow it.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    command, rest = (given[0], given[1:]) if given else ("", [])
    if command in _COMMANDS:
        return _COMMANDS[command](rest)
    if command and not command.startswith("-"):
        close = nearest(command, _COMMANDS)
        meant = f"did you mean {close!r}?" if close else "there are score, check, tune and models."
        return _refuse(f"There is no command {command!r}; {meant} Without one, it serves.")
    return _serve_as_told(given)


def _serve_as_told(arguments: Sequence[str]) -> int:
    try:
        settings = read_settings(vars(_parser().parse_args(arguments)))
        if settings.workers == 0:
            settings = settings.model_copy(update={"workers": available_cores()})
        limited = settings.log_requests != "all"
        configure_logging(settings.log_format, settings.log_level, limited=limited)
        for sentence in misspelt_variables(os.environ):
            _log.warning(sentence)
        _check_machine(settings)
        raise_open_files_limit()
        _serve(settings)
    except OnwardError as error:
        return _refuse(str(error))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m service",
        description="Serve every model of a folder over HTTP.",
        epilog="Each option is also a setting ONWARD_<NAME>; the option wins. Other commands: "
        "'score' scores a file without a server, 'check' proves every model of a folder, 'tune' "
        "measures how one is best run here, 'models' "
        "tells what a running service serves.",
    )
    add_settings(parser)
    return parser


def _check_machine(settings: Settings) -> None:
    """Find out before any worker starts what would stop each of them."""
    choose_device(settings.device)
    if not settings.models.is_dir():
        raise NoModels(settings.models)
    if settings.workers > 1 and settings.shared_memory == "system":
        raise CannotStart(
            "Shared memory is known only to the worker that registered it; use one worker, or "
            "ONWARD_SHARED_MEMORY=none."
        )
    bound(settings.host, settings.port).close()


def _serve(settings: Settings) -> None:
    options = {
        "host": settings.host,
        "port": settings.port,
        "log_config": None,
        "access_log": False,
        "server_header": False,
        # Nothing here asks who called, or by which scheme.
        "proxy_headers": False,
        # By name: a worker imports it after it has begun to answer its supervisor.
        "http": "service.server.fast_path:FastPathProtocol",
        "timeout_graceful_shutdown": settings.deadline_seconds,
    }
    if settings.workers == 1:
        config = uvicorn.Config(create_app(settings), **options)  # type: ignore[arg-type] # a dict of several types
        with contextlib.suppress(KeyboardInterrupt):
            Server(config).serve_on(bound(settings.host, settings.port))
        return
    os.environ.update(
        {
            f"ONWARD_{name.upper()}": str(value)
            for name, value in settings.model_dump(exclude_none=True).items()
        }
    )
    with runtime_dir() as folder:
        os.environ[WORKERS_FOLDER] = str(folder)
        config = uvicorn.Config(
            "service.app:create_app_from_environment",
            factory=True,
            workers=settings.workers,
            **options,  # type: ignore[arg-type] # a dict of several types
        )
        Supervisor(
            config,
            port_of_workers(settings.host, settings.port),
            folder,
            health_seconds=settings.worker_health_seconds,
            stop_seconds=settings.drain_seconds + settings.deadline_seconds + _LAST_SECONDS,
        ).serve()


def _refuse(reason: str) -> int:
    flush_logs()
    sys.stderr.write(f"Onward cannot start.\n{reason}\n")
    return _USAGE_ERROR


if __name__ == "__main__":
    sys.exit(main())
