"""``onward score``: predictions for a table or a folder of images, without a server."""

import argparse
import asyncio
import os
import stat
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, get_args
from urllib.parse import urlencode

import numpy as np

from service.bundle.store import open_replacement
from service.cli.options import USAGE_ERROR, add_settings, read_settings
from service.cli.table_source import open_source
from service.codecs.csv_rows import CsvFormat
from service.codecs.endpoint import Endpoint, EndpointCache
from service.codecs.images import ImageCodec
from service.codecs.messages import RowBatch, RowError
from service.codecs.parameters import (
    PARAMETER_NAMES,
    Parameters,
    read_parameters,
)
from service.decompression import decompress
from service.engine.model import ServedModel
from service.engine.reconciler import Reconciler
from service.engine.registry import Registry
from service.engine.tensors import Array
from service.errors import InvalidInput, InvalidRequest
from service.filetypes import TABLE_FILE_EXTENSIONS
from service.limits import Limits
from service.observability.logs import configure_logging
from service.observability.metrics import Metrics
from service.scoring import Form, ScoringOptions, TableForm, open_pipeline, peek
from service.settings import Settings
from service.spelling import format_count
from service.tabletext import CsvDialect, quote_cell

_STANDARD = "-"
# The last ones are those of shells for commands that a signal ended.
_FAILED, _INTERRUPTED, _CLOSED = 1, 130, 141
_FORMS: dict[str, Form] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".json": "json",
}
_COMPRESSED = ".gz"
# The predictions for image files are written like those for a table of their names.
_LIST_OF_FILES = CsvFormat(CsvDialect("utf-8", ",", '"', "\n"), ["file"], ".")
_NO_ROWS = np.empty((0, 0), np.float32)
_PIECE_BYTES = 64 * 1024
_BAR_WIDTH = 24
_REDRAW_SECONDS = 0.1


def score(arguments: Sequence[str]) -> int:
    """Score a file or a folder of images.

    Return the exit status: 0 if every row has a prediction, 1 if some rows have an error, 2 if a
    file cannot be read or written. Raise `OnwardError` if nothing was scored; then nothing has been
    written.
    """
    options = _parser().parse_args(arguments)
    configure_logging("text", "critical")  # the errors of the command are printed
    score_source = _score_images if Path(options.source).is_dir() else _score_table
    try:
        failed = asyncio.run(score_source(options))
    except BrokenPipeError:  # nobody reads on, as with `| head`
        return _CLOSED
    except OSError as error:
        sys.stderr.write(f"{error.filename or options.source}: {error.strerror}.\n")
        return USAGE_ERROR
    except KeyboardInterrupt:
        return _INTERRUPTED
    return _FAILED if failed else 0


@asynccontextmanager
async def loaded_model(
    settings: Settings, name: str, version: str | None
) -> AsyncIterator[ServedModel]:
    """Load one model as the service does; of the others, only the manifests are read.

    Without a version or an alias it is the version that serves by default. Raise `OnwardError` if
    there is no such model, or it cannot be served.
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
        help="file to read: CSV, JSON lines, Parquet, Arrow or Excel, also compressed (.gz); or a "
        "folder of images; - is standard input",
    )
    parser.add_argument("-o", "--output", default=_STANDARD, help="file to write (default: -)")
    parser.add_argument("--version", help="version or alias (default: the version that serves)")
    forms = get_args(TableForm)
    parser.add_argument("--from", dest="form", choices=forms, help="default: by the file's name")
    output_forms = list(dict.fromkeys(_FORMS.values()))
    parser.add_argument("--to", choices=output_forms, help="default: by the output's name")
    parser.add_argument("--sheet", help="of an Excel file (default: the first)")
    parser.add_argument("--charset", help="encoding of a CSV file that is not UTF-8")
    for name in PARAMETER_NAMES:
        parser.add_argument(f"--{name}", help=f"the parameter {name} of docs/http.md")
    parser.add_argument("--quiet", action="store_true", help="do not print the progress")
    add_settings(parser, ("models", "device", "threads", "deadline_seconds"))
    return parser


# Tables


async def _score_table(options: argparse.Namespace) -> int:
    """Score a table, and return how many rows have an error."""
    scoring_options = _read_scoring_options(options)
    settings = read_settings(vars(options))
    endpoints = EndpointCache(settings, Limits(settings))
    async with loaded_model(settings, options.model, options.version) as model:
        with _open_source(options.source) as file:
            progress = _Progress(_measure_size(file), "row", quiet=options.quiet)
            content = _read_pieces(file, progress.begin)
            path = None if options.source == _STANDARD else Path(options.source)
            if options.source.endswith(_COMPRESSED):
                content = decompress(content, "gzip")
                path = None
            content, numbers = await open_source(content, path, options.sheet)
            if numbers is not None:
                scoring_options = replace(scoring_options, form="csv", typed=numbers)
            stream = await peek(content, scoring_options.form, settings.max_csv_record_bytes)
            pipeline = open_pipeline(
                endpoints,
                settings,
                asyncio.Lock(),
                model=model,
                options=scoring_options,
                stream=stream,
            )
            with _open_target(options.output) as output:
                async for piece in pipeline.run(stream.rest):
                    output.write(piece)
                    progress.show(pipeline.stats.total, pipeline.stats.errors)
                if pipeline.error is not None:
                    raise pipeline.error
    progress.end(pipeline.stats.total, pipeline.stats.errors, f"{model.name}/{model.version}")
    return pipeline.stats.errors


def _read_scoring_options(options: argparse.Namespace) -> ScoringOptions:
    """Return the forms of the table and of the output, and the parameters."""
    form = options.form or _detect_form(options.source)
    if form == "json":
        raise InvalidRequest(
            f"{options.source} is JSON; a table is CSV, or JSON with one object per line (.ndjson)."
        )
    if (kind := TABLE_FILE_EXTENSIONS.get(Path(options.output).suffix.lower())) is not None:
        raise InvalidRequest(
            f"{options.output} would be {kind}, and the command writes CSV and JSON; give a name "
            "with .csv, .ndjson or .json."
        )
    default = form if options.output == _STANDARD else _detect_form(options.output)
    parameters = _read_parameters(options)
    return ScoringOptions(form, options.to or default, parameters, options.charset)


def _read_parameters(options: argparse.Namespace) -> Parameters:
    values = {name: getattr(options, name) for name in PARAMETER_NAMES}
    query = urlencode({name: value for name, value in values.items() if value is not None})
    return read_parameters(query.encode())


def _detect_form(path: str) -> Form:
    """Return the form of a file by the extension of its name; CSV if that is unknown."""
    return _FORMS.get(Path(path.removesuffix(_COMPRESSED)).suffix.lower(), "csv")


# Folders of images


async def _score_images(options: argparse.Namespace) -> int:
    """Write one line per file, sorted by name, and return how many have an error."""
    settings, parameters = read_settings(vars(options)), _read_parameters(options)
    folder = Path(options.source)
    files = _list_files(folder)
    async with loaded_model(settings, options.model, options.version) as model:
        endpoint = EndpointCache(settings, Limits(settings)).get(model)
        codec = endpoint.require_images()
        endpoint.require_supported(parameters)
        writer = endpoint.create_csv_writer(parameters, _LIST_OF_FILES)
        progress = _Progress(len(files), "image", quiet=options.quiet)
        failed = 0
        with _open_target(options.output) as target:
            target.write(writer.start())
            for done, path in enumerate(files, 1):
                progress.begin(1)
                scores, errors = await _predict_image(model, endpoint, codec, path)
                failed += len(errors)
                name = quote_cell(path.relative_to(folder).as_posix(), ",")
                row = writer.write(RowBatch(_NO_ROWS, errors, [done]), scores, {})
                target.write(name.encode("utf-8", "surrogateescape") + b"," + row)
                progress.show(done, failed)
    progress.end(len(files), failed, f"{model.name}/{model.version}")
    return failed


async def _predict_image(
    model: ServedModel, endpoint: Endpoint, codec: ImageCodec, path: Path
) -> tuple[Array, Mapping[int, RowError]]:
    """Return the outputs for an image file, ``[1, columns]``, or no row and its error."""
    content = await asyncio.to_thread(path.read_bytes)
    try:
        read = codec.decode([content], lambda _: "")
        inputs = read if isinstance(read, tuple) else await read()
    except InvalidInput as error:
        return _NO_ROWS, {0: RowError(str(error), error.code)}
    outputs = (await model.predict(inputs)).outputs
    if endpoint.graph_outputs is not None:
        return endpoint.graph_outputs.join(outputs, 1), {}
    return outputs[0], {}


def _list_files(folder: Path) -> list[Path]:
    """Return all visible files in a folder and its subfolders, sorted by name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name[0] != ".")
    if not files:
        raise InvalidRequest(f"{folder} holds no files; give a folder of images.")
    return files


# Files and progress


@contextmanager
def _open_source(path: str) -> Iterator[BinaryIO]:
    """Open a file to read; ``-`` is standard input."""
    if path == _STANDARD:
        yield sys.stdin.buffer
        return
    with Path(path).open("rb") as file:
        yield file


@contextmanager
def _open_target(path: str) -> Iterator[BinaryIO]:
    """Open a file to write; ``-`` is standard output.

    The file is renamed to its path when it is complete, so an error leaves an earlier file as it
    was.
    """
    if path == _STANDARD:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    target = Path(path)
    if target.exists() and not target.is_file():
        with target.open("wb") as file:  # a device or a pipe, which cannot be replaced
            yield file
        return
    with open_replacement(target) as file:
        yield file


def _measure_size(file: BinaryIO) -> int:
    """Return the size of a file in bytes; 0 if it is not a regular file, such as a pipe."""
    status = os.fstat(file.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


async def _read_pieces(file: BinaryIO, on_read: Callable[[int], None]) -> AsyncIterator[bytes]:
    """Read a file in pieces, and pass the size of each to ``on_read``."""
    while piece := file.read(_PIECE_BYTES):
        on_read(len(piece))
        yield piece


class _Progress:
    """A progress bar on standard error if that is a terminal; otherwise only a last line.

    ``total`` is the total amount of work; 0 if unknown. Nothing is written if it is ``quiet``.
    """

    def __init__(self, total: int, unit: str, *, quiet: bool) -> None:
        self._total = total
        self._unit = unit
        self._is_quiet = quiet
        self._is_shown = not quiet and sys.stderr.isatty()
        self._started = self._drawn = time.monotonic()
        self._begun = 0

    def begin(self, work: int) -> None:
        """Add to the amount of work that has begun."""
        self._begun += work

    def show(self, done: int, failed: int) -> None:
        """Draw the bar, at most every 0.1 s."""
        now = time.monotonic()
        if self._is_shown and now - self._drawn >= _REDRAW_SECONDS:
            self._drawn = now
            sys.stderr.write(f"\r{self._format_line(done, failed, now)}\x1b[K")
            sys.stderr.flush()

    def end(self, done: int, failed: int, model: str) -> None:
        """Write the totals and the model, as ``name/version``, as a last line."""
        if self._is_quiet:
            return
        seconds = time.monotonic() - self._started
        rate = done / max(seconds, 1e-9)
        start = "\r\x1b[K" if self._is_shown else ""
        sys.stderr.write(
            f"{start}{model}: {format_count(done, self._unit)} in {seconds:.1f} s "
            f"({rate:,.0f} a second), {failed:,} with an error.\n"
        )

    def _format_line(self, done: int, failed: int, now: float) -> str:
        counts = f"{format_count(done, self._unit)}, {failed:,} with an error"
        if not self._total or not self._begun:
            return counts
        share = min(self._begun / self._total, 1.0)
        full = round(share * _BAR_WIDTH)
        left = (now - self._started) * (1 - share) / share
        return f"{'█' * full}{'░' * (_BAR_WIDTH - full)} {share:4.0%}  {counts}, {left:.0f} s left"
