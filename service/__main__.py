"""``python -m service``: serve the models folder over HTTP, or tell what a service serves."""

import argparse
import logging
import os
import socket
import sys
from collections.abc import Sequence

import uvicorn
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from service.app import create_app
from service.engine.session import choose_device
from service.errors import CannotStart, NoModels, OnwardError
from service.listing import list_models
from service.logs import configure_logging
from service.metrics import WORKERS_FOLDER
from service.settings import Settings, misspelt_variables
from service.workers.slots import meeting_place
from service.workers.supervisor import Supervisor

_USAGE_ERROR = 2
_LIST = "models"

_log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop; 2 where the options or the machine do not allow it."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if words[:1] == [_LIST]:
        return list_models(words[1:])
    options = vars(_parser().parse_args(words))
    given = {name: value for name, value in options.items() if value is not None}
    try:
        settings = Settings(**given)
    except ValidationError as error:
        return _refuse("\n".join(_problem(problem) for problem in error.errors()))
    configure_logging(settings.log_format, settings.log_level)
    for sentence in misspelt_variables(os.environ):
        _log.warning(sentence)
    try:
        _check_machine(settings)
        _serve(settings)
    except OnwardError as error:
        return _refuse(str(error))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m service",
        description="Serve every model of a folder over HTTP.",
        epilog="Each option is also a setting ONWARD_<NAME>; the option wins. "
        f"`python -m service {_LIST}` tells what a running service serves.",
    )
    for name, field in Settings.model_fields.items():
        shown = str(field.default).replace("%", "%%")
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            dest=name,
            metavar="VALUE",
            help=f"{(field.description or '').replace('%', '%%')} (default: {shown})",
        )
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
    _check_port(settings.host, settings.port)


def _serve(settings: Settings) -> None:
    options = {
        "host": settings.host,
        "port": settings.port,
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "timeout_graceful_shutdown": int(settings.deadline_seconds) + 1,
    }
    if settings.workers == 1:
        uvicorn.run(create_app(settings), **options)  # type: ignore[arg-type] # a dict of several types
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
        Supervisor(config, [config.bind_socket()], folder).serve()


def _check_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise CannotStart(
                f"Cannot listen on {host} port {port}: {error.strerror}; end what listens there, "
                "or choose another with --port or ONWARD_PORT."
            ) from error


def _problem(problem: ErrorDetails) -> str:
    name = str(problem["loc"][0]) if problem["loc"] else "settings"
    option = f"--{name.replace('_', '-')} (ONWARD_{name.upper()})"
    return f"{option} is {problem['input']!r}: {problem['msg']}."


def _refuse(reason: str) -> int:
    sys.stderr.write(f"Onward cannot start.\n{reason}\n")
    return _USAGE_ERROR


if __name__ == "__main__":
    sys.exit(main())
