"""``python -m service``: serve the models folder over HTTP, or tell what a service serves."""

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Sequence

import uvicorn

from service.app import create_app
from service.commands.check import check
from service.commands.options import add_settings, read_settings
from service.commands.score import score
from service.commands.tune import tune
from service.engine.cores import available_cores
from service.engine.session import choose_device
from service.errors import CannotStart, NoModels, OnwardError
from service.listening import Server, bound, port_of_workers
from service.listing import list_models
from service.logs import configure_logging
from service.server.fast_path import FastPathProtocol
from service.settings import Settings, misspelt_variables
from service.shared_metrics import WORKERS_FOLDER
from service.spelling import nearest
from service.workers.slots import meeting_place
from service.workers.supervisor import Supervisor

_USAGE_ERROR = 2
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
        configure_logging(settings.log_format, settings.log_level)
        for sentence in misspelt_variables(os.environ):
            _log.warning(sentence)
        _check_machine(settings)
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
        "http": FastPathProtocol,
        "timeout_graceful_shutdown": int(settings.deadline_seconds) + 1,
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
    with meeting_place() as folder:
        os.environ[WORKERS_FOLDER] = str(folder)
        config = uvicorn.Config(
            "service.app:create_app_from_environment",
            factory=True,
            workers=settings.workers,
            **options,  # type: ignore[arg-type] # a dict of several types
        )
        Supervisor(config, port_of_workers(settings.host, settings.port), folder).serve()


def _refuse(reason: str) -> int:
    sys.stderr.write(f"Onward cannot start.\n{reason}\n")
    return _USAGE_ERROR


if __name__ == "__main__":
    sys.exit(main())
