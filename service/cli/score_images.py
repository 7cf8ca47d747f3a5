"""Score a folder of images with the codecs of the HTTP service; the output is a table."""

import argparse
import csv
import io
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from service.bundle.manifest import Output
from service.cli.files import target
from service.cli.one_model import one_model
from service.cli.progress import Progress
from service.codecs.csv_writer import column_names
from service.codecs.endpoint import Endpoints
from service.codecs.outputs import Parameters, predictions, require_supported
from service.engine.model import ServedModel
from service.errors import InvalidInput, InvalidRequest
from service.limits import Limits
from service.settings import Settings

Answer = dict[str, object]
_PLAIN = ("label", "probability", "value", "unit")


async def score_images(
    options: argparse.Namespace, settings: Settings, parameters: Parameters
) -> int:
    """Write one line a file, in the order of their names; how many of them have an error.

    Raises:
        OnwardError: nothing was scored, or not all of it.
        OSError: a file cannot be read or written.
    """
    folder, files = _files(options.source)
    async with one_model(settings, options.model, options.version) as model:
        ask = _asker(model, Endpoints(settings, Limits(settings)), parameters)
        names = ["file", *column_names(_output(model), parameters)]
        progress = Progress(len(files), "images")
        failed = 0
        with target(options.output) as written:
            written.write(_line(names))
            for done, path in enumerate(files, 1):
                progress.begin(1)
                answer = await ask(path)
                failed += "error" in answer
                answer["file"] = path.relative_to(folder).as_posix()
                written.write(_line([str(answer.get(name, "")) for name in names]))
                if not options.quiet:
                    progress.show(done, failed)
    if not options.quiet:
        progress.end(len(files), failed, f"{model.name}/{model.version}")
    return failed


def _files(source: str) -> tuple[Path, list[Path]]:
    """A folder and its visible files, however deep, in the order of their names."""
    folder = Path(source)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name[0] != ".")
    if not files:
        raise InvalidRequest(f"{folder} holds no files; give a folder of images.")
    return folder, files


def _line(cells: Sequence[str]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode("utf-8", "surrogateescape")


def _asker(
    model: ServedModel, endpoints: Endpoints, parameters: Parameters
) -> Callable[[Path], Awaitable[Answer]]:
    """What answers a file by the model.

    Raises:
        InvalidRequest: the model takes no images, or does not support an option.
    """
    codec = endpoints.of(model).images
    if codec is None:
        raise InvalidRequest(f"Model {model.name!r} takes no images; give it a table to score.")
    output = _output(model)
    require_supported(output, parameters)

    async def ask(path: Path) -> Answer:
        try:
            read = codec.read([_content(path)], lambda _: "")
            inputs = read if isinstance(read, tuple) else await read()
        except InvalidInput as error:
            return {"error": str(error)}
        prediction = await model.predict(inputs)
        (answer,) = predictions(output, prediction.outputs[0], parameters)
        return _cells(answer, parameters)

    return ask


def _content(path: Path) -> bytes:
    return path.read_bytes()


def _output(model: ServedModel) -> Output:
    if model.manifest is None:
        raise InvalidRequest(f"Model {model.name!r} has no manifest that says what it takes.")
    return model.manifest.output


def _cells(answer: Mapping[str, Any], parameters: Parameters) -> Answer:
    """An answer's parts under the names of a table's columns."""
    cells: Answer = {name: answer[name] for name in _PLAIN if name in answer}
    shares = answer.get("probabilities", {})
    if parameters.top is None:
        cells |= {f"probability_{label}": share for label, share in shares.items()}
    else:
        for place, (label, share) in enumerate(shares.items(), 1):
            cells |= {f"label_{place}": label, f"probability_{place}": share}
    if "interval" in answer:
        cells["interval_low"] = answer["interval"]["low"]
        cells["interval_high"] = answer["interval"]["high"]
    if "unsure" in answer:
        cells["unsure"] = "true" if answer["unsure"] else "false"
    return cells
