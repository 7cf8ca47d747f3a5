"""``onward score``: predictions for a table or a folder of images, without a server."""

import argparse
import asyncio
import csv
import io
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlencode

from service.api.body import decompress
from service.bundle.manifest import Output
from service.cli.files import STANDARD, Progress, open_source, open_target, read_pieces, size_of
from service.cli.options import add_settings, read_settings
from service.codecs.csv_writer import column_names
from service.codecs.endpoint import Endpoints
from service.codecs.outputs import Parameters, predictions, read_parameters, require_supported
from service.engine.model import ServedModel
from service.engine.reconciler import Reconciler
from service.engine.registry import Registry
from service.errors import InvalidInput, InvalidRequest, OnwardError
from service.limits import Limits
from service.observability.logs import configure_logging
from service.observability.metrics import Metrics
from service.scoring import Form, ScoringOptions, TableForm, open_pipeline, peek
from service.settings import Settings

Cells = dict[str, object]
"""The cells of one line of the output, by column name."""

_FAILED, _USAGE_ERROR, _INTERRUPTED = 1, 2, 130
_FORMS: dict[str, Form] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".json": "json",
}
_COMPRESSED = ".gz"
_PARAMETERS = ("top", "probabilities", "warnings", "interval", "decimal")
_COPIED_COLUMNS = ("label", "probability", "value", "unit")


def score(arguments: Sequence[str]) -> int:
    """Score a file or a folder of images.

    Returns:
        The exit status: 0 if every row has a prediction, 1 if some rows have an error, 2 if
        nothing was scored; then nothing has been written.
    """
    options = _parser().parse_args(arguments)
    configure_logging("text", "critical")  # errors are printed below
    try:
        failed = asyncio.run(_scoring(options))
    except OnwardError as error:
        reason = str(error)
    except OSError as error:
        reason = f"{error.filename or options.source}: {error.strerror}."
    except KeyboardInterrupt:
        return _INTERRUPTED
    else:
        return _FAILED if failed else 0
    sys.stderr.write(f"{reason}\n")
    return _USAGE_ERROR


@asynccontextmanager
async def loaded_model(
    settings: Settings, name: str, version: str | None
) -> AsyncIterator[ServedModel]:
    """Load one model as the service does; of the others, only the manifests are read.

    Args:
        settings: of the service, such as the models folder and the device.
        name: of the model.
        version: a version or an alias; None for the version that is served by default.

    Raises:
        OnwardError: there is no such model, or it cannot be served.
    """
    # With a limit on the number of models in memory, a model is loaded on first use.
    settings = settings.model_copy(update={"max_loaded_models": 1})
    reconciler = Reconciler(settings, Metrics(), Registry(settings.device))
    await reconciler.start()
    try:
        with await reconciler.ensure_loaded(name, version) as model:
            yield model
    finally:
        await reconciler.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="onward score",
        description="Score a table or a folder of images with a model of the models folder, "
        "without a server. The predictions are the same as over HTTP.",
        epilog="Exit status: 0 if every row has a prediction, 1 if some rows have an error "
        "instead, 2 if nothing was scored; then nothing is written.",
    )
    parser.add_argument("model", help="name of the model")
    parser.add_argument(
        "source",
        help="file to read, also compressed (.gz), or a folder of images; - is standard input",
    )
    parser.add_argument("-o", "--output", default=STANDARD, help="file to write (default: -)")
    parser.add_argument("--version", help="version or alias (default: the version that serves)")
    forms = get_args(TableForm)
    parser.add_argument("--from", dest="form", choices=forms, help="default: by the file's name")
    output_forms = list(dict.fromkeys(_FORMS.values()))
    parser.add_argument("--to", choices=output_forms, help="default: by the output's name")
    parser.add_argument("--charset", help="encoding of a CSV file that is not UTF-8")
    for name in _PARAMETERS:
        parser.add_argument(f"--{name}", help=f"the parameter {name} of docs/http.md")
    parser.add_argument("--quiet", action="store_true", help="do not print the progress")
    add_settings(parser, ("models", "device", "threads", "deadline_seconds"))
    return parser


def _scoring(options: argparse.Namespace) -> Coroutine[None, None, int]:
    is_folder = Path(options.source).is_dir()
    return _score_images(options) if is_folder else _score_table(options)


# Tables


async def _score_table(options: argparse.Namespace) -> int:
    """Score a table, and return how many rows have an error.

    Raises:
        OnwardError: scoring stopped before the end.
        OSError: a file cannot be read or written.
    """
    scoring_options = _scoring_options(options)
    settings = read_settings(vars(options))
    endpoints = Endpoints(settings, Limits(settings))
    async with loaded_model(settings, options.model, options.version) as model:
        with open_source(options.source) as file:
            progress = Progress(size_of(file), "rows")
            encoding = "gzip" if options.source.endswith(_COMPRESSED) else "identity"
            content = decompress(read_pieces(file, progress.begin), encoding)
            stream = await peek(content, scoring_options.form, settings.max_csv_record_bytes)
            pipeline = open_pipeline(
                endpoints,
                settings,
                asyncio.Lock(),
                model=model,
                options=scoring_options,
                stream=stream,
            )
            with open_target(options.output) as output:
                async for piece in pipeline.run(stream.rest):
                    output.write(piece)
                    if not options.quiet:
                        progress.show(pipeline.stats.total, pipeline.stats.errors)
                if pipeline.error is not None:
                    raise pipeline.error
    if not options.quiet:
        progress.end(pipeline.stats.total, pipeline.stats.errors, f"{model.name}/{model.version}")
    return pipeline.stats.errors


def _scoring_options(options: argparse.Namespace) -> ScoringOptions:
    """Return the forms of the table and of the output, and the parameters.

    Raises:
        InvalidRequest: a parameter is invalid, or the form of the file is not supported.
    """
    form = options.form or _form_of(options.source)
    if form == "json":
        raise InvalidRequest(
            f"{options.source} is JSON; a table is CSV, or JSON with one object a line (.ndjson)."
        )
    output_form = options.to or (form if options.output == STANDARD else _form_of(options.output))
    return ScoringOptions(form, output_form, _parameters(options), options.charset)


def _parameters(options: argparse.Namespace) -> Parameters:
    values = {name: getattr(options, name) for name in _PARAMETERS}
    query = urlencode({name: value for name, value in values.items() if value is not None})
    return read_parameters(query.encode())


def _form_of(path: str) -> Form:
    """Return the form of a file by the extension of its name; CSV if that is unknown."""
    return _FORMS.get(Path(path.removesuffix(_COMPRESSED)).suffix.lower(), "csv")


# Folders of images


async def _score_images(options: argparse.Namespace) -> int:
    """Write one line per file, sorted by name, and return how many have an error.

    Raises:
        OnwardError: scoring stopped before the end.
        OSError: a file cannot be read or written.
    """
    settings, parameters = read_settings(vars(options)), _parameters(options)
    folder, files = _files(options.source)
    async with loaded_model(settings, options.model, options.version) as model:
        predict = _image_predictor(model, Endpoints(settings, Limits(settings)), parameters)
        columns = ["file", *column_names(_output(model), parameters)]
        progress = Progress(len(files), "images")
        failed = 0
        with open_target(options.output) as output:
            output.write(_line(columns))
            for done, path in enumerate(files, 1):
                progress.begin(1)
                cells = await predict(path)
                failed += "error" in cells
                cells["file"] = path.relative_to(folder).as_posix()
                output.write(_line([str(cells.get(column, "")) for column in columns]))
                if not options.quiet:
                    progress.show(done, failed)
    if not options.quiet:
        progress.end(len(files), failed, f"{model.name}/{model.version}")
    return failed


def _files(source: str) -> tuple[Path, list[Path]]:
    """Return a folder and all visible files in it and its subfolders, sorted by name."""
    folder = Path(source)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name[0] != ".")
    if not files:
        raise InvalidRequest(f"{folder} holds no files; give a folder of images.")
    return folder, files


def _line(cells: Sequence[str]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode("utf-8", "surrogateescape")


def _image_predictor(
    model: ServedModel, endpoints: Endpoints, parameters: Parameters
) -> Callable[[Path], Awaitable[Cells]]:
    """Return a function that reads an image file and returns its prediction or its error.

    Raises:
        InvalidRequest: the model takes no images, or does not support a parameter.
    """
    codec = endpoints.of(model).images
    if codec is None:
        raise InvalidRequest(f"Model {model.name!r} takes no images; give it a table to score.")
    output = _output(model)
    require_supported(output, parameters)

    async def predict(path: Path) -> Cells:
        content = await asyncio.to_thread(path.read_bytes)
        try:
            read = codec.decode([content], lambda _: "")
            inputs = read if isinstance(read, tuple) else await read()
        except InvalidInput as error:
            return {"error": str(error)}
        prediction = await model.predict(inputs)
        (fields,) = predictions(output, prediction.outputs[0], parameters)
        return _cells(fields, parameters)

    return predict


def _output(model: ServedModel) -> Output:
    if model.manifest is None:
        raise InvalidRequest(f"Model {model.name!r} has no manifest that says what it takes.")
    return model.manifest.output


def _cells(fields: Mapping[str, Any], parameters: Parameters) -> Cells:
    """Flatten the fields of a JSON prediction into the columns of a table."""
    cells: Cells = {name: fields[name] for name in _COPIED_COLUMNS if name in fields}
    probabilities = fields.get("probabilities", {})
    if parameters.top is None:
        cells |= {f"probability_{label}": value for label, value in probabilities.items()}
    else:
        for rank, (label, value) in enumerate(probabilities.items(), 1):
            cells |= {f"label_{rank}": label, f"probability_{rank}": value}
    if "interval" in fields:
        cells["interval_low"] = fields["interval"]["low"]
        cells["interval_high"] = fields["interval"]["high"]
    if "unsure" in fields:
        cells["unsure"] = "true" if fields["unsure"] else "false"
    return cells
