"""The command lines ``onward`` and ``python -m service``, which serves without a command."""

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name

import uvicorn

from service.app import create_app
from service.bundle.errors import BundleError
from service.cli.check import check
from service.cli.models import list_models
from service.cli.options import USAGE_ERROR, add_settings, read_settings
from service.cli.score import score
from service.cli.tune import tune
from service.cli.versions import publish, rollback, versions, withdraw
from service.engine.devices import count_cores
from service.engine.session import choose_device
from service.errors import CannotStart, NoModels, OnwardError
from service.observability.logs import configure_logging, flush_logs
from service.server.connections import raise_open_files_limit
from service.server.sockets import Server, bind_socket, bind_workers_socket
from service.server.supervisor import Supervisor
from service.settings import Settings, find_misspelled_variables
from service.spelling import closest_name, format_install, format_suggestion
from service.workers.ipc import WORKERS_FOLDER, runtime_dir

# How much longer than its own limit a worker may take to stop before the supervisor kills it.
_STOP_MARGIN_SECONDS = 1.5

_log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``python -m service``: a command or, without one, the server; return the exit status.

    It is 2 if an option is invalid or cannot be applied on this machine.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    if not words or words[0].startswith("-"):
        return serve(words)
    return _run(words)


def onward(arguments: Sequence[str] | None = None) -> int:
    """Run ``onward``: a command of the service or of training; without one, list them."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if not words or words[0] in {"-h", "--help", "help"}:
        sys.stdout.write(_format_overview())
        return 0
    return main(words)


def serve(arguments: Sequence[str]) -> int:
    """Serve the models folder until a signal stops the service."""
    try:
        settings = read_settings(vars(_create_parser().parse_args(arguments)))
        if settings.workers == 0:
            settings = settings.model_copy(update={"workers": count_cores()})
        limited = settings.log_requests != "all"
        configure_logging(settings.log_format, settings.log_level, limited=limited)
        for sentence in find_misspelled_variables(os.environ):
            _log.warning(sentence)
        _check_machine(settings)
        raise_open_files_limit()
        _serve(settings)
    except OnwardError as error:
        flush_logs()
        sys.stderr.write(f"Onward cannot start.\n{error}\n")
        return USAGE_ERROR
    return 0


_COMMANDS: Mapping[str, tuple[Callable[[Sequence[str]], int], str]] = {
    "serve": (serve, "serve the models folder over HTTP"),
    "check": (check, "run the self-test of every version in the models folder"),
    "score": (score, "score a file, or a folder of images, without a server"),
    "tune": (tune, "measure the fastest settings for a model on this machine"),
    "models": (list_models, "list the models of a running service"),
    "publish": (publish, "serve a version: point an alias to it"),
    "rollback": (rollback, "return to the version that served before"),
    "withdraw": (withdraw, "remove an alias"),
    "versions": (versions, "list the versions of a model, or choose which serve"),
}

TRAINING_COMMANDS = {
    "new": "write a recipe for your own CSV file or image folder, and train it",
    "train": "train a recipe and publish the model",
    "list": "list the shipped recipes and their published versions",
    "import": "turn an ONNX model of another library into a bundle",
    "evaluate": "measure a published model on a CSV file",
    "search": "search the hyperparameters of a recipe",
    "compare": "show the metrics of all versions in one table",
    "results": "measure all shipped models and their baselines",
}
# The libraries that the training extra installs and its commands import.
_TRAINING_LIBRARIES = (
    *("jinja2", "matplotlib", "onnx", "onnxscript", "optuna", "polars"),
    *("rich", "skl2onnx", "sklearn", "torch"),
)


def _run(words: Sequence[str]) -> int:
    command, *rest = words
    if command in _COMMANDS:
        try:
            status = _COMMANDS[command][0](rest)
            sys.stdout.flush()
        except BrokenPipeError:
            # The reader, such as head, has what it needs. Nothing is written at the exit.
            with Path(os.devnull).open("wb") as nothing:
                os.dup2(nothing.fileno(), sys.stdout.fileno())
            return 0
        except (BundleError, OnwardError) as error:
            sys.stderr.write(f"{error}\n")
            return USAGE_ERROR
        return status
    if command in TRAINING_COMMANDS:
        return _run_training(words)
    close = closest_name(command, [*_COMMANDS, *TRAINING_COMMANDS])
    hint = format_suggestion(close, "onward --help lists the commands.")
    sys.stderr.write(f"There is no command {command!r}; {hint}\n")
    return USAGE_ERROR


def _run_training(words: Sequence[str]) -> int:
    missing = [library for library in _TRAINING_LIBRARIES if find_spec(library) is None]
    if missing:
        command = words[0]
        sentence = (
            f"onward {command} needs the training extra; {format_install('training')} "
            f"(missing: {', '.join(missing)}).\n"
        )
        if not {"-h", "--help"}.isdisjoint(words):
            summary = TRAINING_COMMANDS[command]
            sys.stdout.write(f"usage: onward {command} [OPTION ...]\n\n{summary}\n\n{sentence}")
            return 0
        sys.stderr.write(sentence)
        return USAGE_ERROR
    # Resolved when it runs, since the service must work without torch and never imports training.
    # This is the only call from one program to the other.
    status: int = resolve_name("training.__main__:main")(words)
    return status


def _format_overview() -> str:
    lines = ["usage: onward COMMAND [OPTION ...]", "", "Train small, serve fast.", ""]
    lines += [f"  {name:<10}{summary}" for name, (_, summary) in _COMMANDS.items()]
    lines += ["", f"With the training extra; {format_install('training')}:", ""]
    lines += [f"  {name:<10}{summary}" for name, summary in TRAINING_COMMANDS.items()]
    lines += ["", "onward COMMAND --help shows the options of a command."]
    return "\n".join(lines) + "\n"


def _create_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="onward serve",
        description="Serve every model of a folder over HTTP.",
        epilog="Each option can also be set in the environment as ONWARD_<NAME>; the option wins. "
        "'onward --help' lists the other commands.",
    )
    add_settings(parser)
    return parser


def _check_machine(settings: Settings) -> None:
    """Check before any worker starts what would prevent each of them from starting."""
    choose_device(settings.device)
    if not settings.models.is_dir():
        raise NoModels(settings.models)
    if settings.workers > 1 and settings.shared_memory == "system":
        raise CannotStart(
            "Shared memory is known only to the worker that registered it; use one worker, or "
            "ONWARD_SHARED_MEMORY=none."
        )
    bind_socket(settings.host, settings.port).close()


def _serve(settings: Settings) -> None:
    options = {
        "host": settings.host,
        "port": settings.port,
        # The default of Linux. A shorter queue overflows in a flood of connections, and then other
        # clients' connections are dropped too, and retried only after a second.
        "backlog": 4096,
        "log_config": None,
        "access_log": False,
        "server_header": False,
        # Nothing uses the address of the client or the scheme.
        "proxy_headers": False,
        # By name, so that a worker imports it only after its health checks have begun.
        "http": "service.server.fast_path:FastPathProtocol",
        "timeout_graceful_shutdown": settings.deadline_seconds,
    }
    if settings.workers == 1:
        config = uvicorn.Config(create_app(settings), **options)  # type: ignore[arg-type] # a dict of several types
        with contextlib.suppress(KeyboardInterrupt):
            listening = bind_socket(settings.host, settings.port, settings.first_request_seconds)
            Server(config).serve_on(listening)
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
            bind_workers_socket(settings.host, settings.port, settings.first_request_seconds),
            folder,
            health_seconds=settings.worker_health_seconds,
            stop_seconds=settings.drain_seconds + settings.deadline_seconds + _STOP_MARGIN_SECONDS,
        ).serve()


if __name__ == "__main__":
    sys.exit(main())
