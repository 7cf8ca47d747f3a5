"""``onward score``: a file through a model, by the same code as over HTTP."""

import argparse
import asyncio
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import get_args
from urllib.parse import urlencode

from service.api.body import unpacked
from service.cli.files import STANDARD, pieces, size_of, source, target
from service.cli.one_model import one_model
from service.cli.options import add_settings, read_settings
from service.cli.progress import Progress
from service.cli.score_images import score_images
from service.codecs.endpoint import Endpoints
from service.codecs.outputs import Parameters, read_parameters
from service.errors import InvalidRequest, OnwardError
from service.limits import Limits
from service.observability.logs import configure_logging
from service.scoring import Form, ScoringFactory, ScoringOptions, TableForm, peek

_FAILED, _USAGE_ERROR, _INTERRUPTED = 1, 2, 130
_FORMS: dict[str, Form] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".json": "json",
}
_PACKED = ".gz"
_PARAMETERS = ("top", "probabilities", "warnings", "interval", "decimal")


def score(arguments: Sequence[str]) -> int:
    """Score a file: 0 where every row has an answer, 1 where some have an error, 2 where none has.

    Where it is 2, nothing has been written.
    """
    options = _parser().parse_args(arguments)
    configure_logging("text", "critical")  # what is wrong is told in a sentence below
    try:
        return _FAILED if asyncio.run(_scoring(options)) else 0
    except OnwardError as error:
        reason = str(error)
    except OSError as error:
        reason = f"{error.filename or options.source}: {error.strerror}."
    except KeyboardInterrupt:
        return _INTERRUPTED
    sys.stderr.write(f"{reason}\n")
    return _USAGE_ERROR


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="onward score",
        description="Score a table, or a folder of images, by a model of the models folder, "
        "without a server. The answer is the same as over HTTP.",
        epilog="Ends with 0 where every row has an answer, 1 where some have an error in their "
        "place, 2 where nothing was scored; then nothing is written.",
    )
    parser.add_argument("model", help="name of the model")
    parser.add_argument(
        "source",
        help="file to read, also packed (.gz), or a folder of images; - is standard input",
    )
    parser.add_argument("-o", "--output", default=STANDARD, help="file to write (default: -)")
    parser.add_argument("--version", help="of the model, or an alias (default: what serves)")
    forms = get_args(TableForm)
    parser.add_argument("--from", dest="form", choices=forms, help="default: by the file's name")
    parser.add_argument("--to", choices=_answer_forms(), help="default: by the output's name")
    parser.add_argument("--charset", help="encoding of a CSV file that is not UTF-8")
    for name in _PARAMETERS:
        parser.add_argument(f"--{name}", help=f"the parameter {name} of docs/http.md")
    parser.add_argument("--quiet", action="store_true", help="tell no progress")
    add_settings(parser, ("models", "device", "threads", "deadline_seconds"))
    return parser


def _answer_forms() -> list[Form]:
    return list(dict.fromkeys(_FORMS.values()))


def _scoring(options: argparse.Namespace) -> Coroutine[None, None, int]:
    if Path(options.source).is_dir():
        return score_images(options, read_settings(vars(options)), _parameters(options))
    return _score(options)


async def _score(options: argparse.Namespace) -> int:
    """How many rows have an error.

    Raises:
        OnwardError: nothing was scored, or not all of it.
        OSError: a file cannot be read or written.
    """
    scoring_options = _scoring_options(options)
    settings = read_settings(vars(options))
    endpoints = Endpoints(settings, Limits(settings))
    async with one_model(settings, options.model, options.version) as model:
        with source(options.source) as file:
            progress = Progress(size_of(file), "rows")
            encoding = "gzip" if options.source.endswith(_PACKED) else "identity"
            arriving = unpacked(pieces(file, progress.begin), encoding)
            stream = await peek(arriving, scoring_options.form, settings.max_csv_record_bytes)
            pipeline = ScoringFactory(endpoints, settings).open(model, scoring_options, stream)
            with target(options.output) as written:
                async for piece in pipeline.run(stream.rest):
                    written.write(piece)
                    if not options.quiet:
                        progress.show(pipeline.stats.total, pipeline.stats.errors)
                if pipeline.error is not None:
                    raise pipeline.error
    if not options.quiet:
        progress.end(pipeline.stats.total, pipeline.stats.errors, f"{model.name}/{model.version}")
    return pipeline.stats.errors


def _scoring_options(options: argparse.Namespace) -> ScoringOptions:
    """How the table comes and how it shall be answered.

    Raises:
        InvalidRequest: a parameter is wrong, or the file is of a form that is not read.
    """
    form = options.form or _form_of(options.source)
    if form == "json":
        raise InvalidRequest(
            f"{options.source} is JSON; a table is CSV, or JSON with one object a line (.ndjson)."
        )
    answer = options.to or (form if options.output == STANDARD else _form_of(options.output))
    return ScoringOptions(form, answer, _parameters(options), options.charset)


def _parameters(options: argparse.Namespace) -> Parameters:
    given = {name: getattr(options, name) for name in _PARAMETERS}
    query = urlencode({name: value for name, value in given.items() if value is not None})
    return read_parameters(query.encode())


def _form_of(path: str) -> Form:
    """By the file's name; what has no name that tells is CSV."""
    return _FORMS.get(Path(path.removesuffix(_PACKED)).suffix.lower(), "csv")
