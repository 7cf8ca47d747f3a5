"""The arguments of ``onward import``."""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from training.errors import DataError
from training.export.image_input import SCALINGS, Channels, Layout
from training.importing.images import ImageOptions
from training.importing.options import ImportOptions

Options = argparse.Namespace

ACCUMULATED: dict[str, Any] = {"action": "extend", "default": []}
"""Of an option with a list: given several times, it has the values of all."""

_WHITE = 255
_TABLE_OPTIONS = ("csv", "target", "expected", "features", "optional", "unseen", "units")
_IMAGE_OPTIONS = (
    "layout",
    "size",
    "channels",
    "scaling",
    "mean",
    "std",
    "fit",
    "background",
)


def add_import_options(verb: argparse.ArgumentParser) -> None:
    """Add the arguments of the command, without the folder of models."""
    verb.add_argument(
        "path",
        type=Path,
        metavar="FILE_OR_FOLDER",
        help="an ONNX file, or an MLflow model's folder",
    )
    verb.add_argument("overrides", nargs="*", metavar="key=value", help="change a key of the card")
    rows = verb.add_argument_group("rows to verify the bundle with")
    rows.add_argument("--csv", type=Path, help="a table with the columns of the model")
    rows.add_argument("--target", help="its column of true values, to measure the model")
    rows.add_argument(
        "--expected",
        nargs="+",
        **ACCUMULATED,
        metavar="COLUMN",
        help="its columns with the library's own predictions, which the bundle must give too: "
        "one of values or labels, or one of probabilities for each label",
    )
    columns = verb.add_argument_group("columns, if the graph or the table does not describe them")
    columns.add_argument(
        "--features", type=split_names, **ACCUMULATED, metavar="A,B", help="names, in graph order"
    )
    columns.add_argument(
        "--optional",
        type=split_names,
        **ACCUMULATED,
        metavar="A,B",
        help="columns that may be empty",
    )
    columns.add_argument(
        "--unseen",
        choices=("reject", "other"),
        help="what to do with words that the model does not know (default: reject)",
    )
    columns.add_argument(
        "--units", type=split_names, **ACCUMULATED, metavar="A=KG,B=EUR", help="units of columns"
    )
    columns.add_argument("--card", type=Path, help=".toml file: name, title, features, target …")
    output = verb.add_argument_group("output")
    output.add_argument("--output", help="name of the graph's output to serve, if it has several")
    output.add_argument(
        "--activation", choices=("softmax", "sigmoid"), help="what turns logits into probabilities"
    )
    labels = output.add_mutually_exclusive_group()
    labels.add_argument(
        "--labels",
        type=split_names,
        **ACCUMULATED,
        metavar="A,B",
        help="class names, in graph order",
    )
    labels.add_argument("--labels-file", type=Path, help="a file with a class name in each line")
    _add_image_options(verb)


def _add_image_options(verb: argparse.ArgumentParser) -> None:
    images = verb.add_argument_group("images; what is not stated is read from the graph")
    images.add_argument(
        "--images",
        nargs="?",
        const="",
        metavar="FOLDER",
        help="the model takes images, not columns of a table; a folder of some to verify it with",
    )
    images.add_argument(
        "--layout", choices=get_args(Layout), help="order of channels, height and width"
    )
    images.add_argument("--size", type=_read_size, metavar="HEIGHTxWIDTH", help="in pixels")
    images.add_argument("--channels", type=int, choices=get_args(Channels), help="1: gray; 3: RGB")
    images.add_argument(
        "--scaling",
        choices=SCALINGS,
        help="the pixels that the graph takes: "
        + "; ".join(f"{name}: {text}" for name, text in SCALINGS.items()),
    )
    images.add_argument(
        "--mean", type=_read_numbers, **ACCUMULATED, metavar="R,G,B", help="of pixels from 0 to 1"
    )
    images.add_argument(
        "--std", type=_read_numbers, **ACCUMULATED, metavar="R,G,B", help="their standard deviation"
    )
    images.add_argument(
        "--fit",
        choices=("stretch", "crop", "pad"),
        help="how images of other shapes are fitted (default: stretch)",
    )
    images.add_argument(
        "--background",
        type=int,
        metavar="GRAY",
        help="0 to 255, around padded images and behind transparent pixels (default: 255)",
    )


def require_one_kind(options: Options) -> None:
    """Raise `DataError` for an option of images with a table, or the reverse."""
    takes_images = options.images is not None
    for name in _TABLE_OPTIONS if takes_images else _IMAGE_OPTIONS:
        if getattr(options, name) not in (None, []):
            flag = f"--{name.replace('_', '-')}"
            remedy = (
                "leave it out, or leave out --images if the model takes columns"
                if takes_images
                else "add --images if the model takes images"
            )
            kind = "tables, not for images" if takes_images else "images"
            raise DataError(f"{flag} is an option for {kind}; {remedy}.")


def read_image_options(options: Options, labels: Sequence[str]) -> ImageOptions:
    """Return the choices for a model of images."""
    return ImageOptions(
        layout=options.layout,
        size=options.size,
        channels=options.channels,
        scaling=options.scaling,
        mean=tuple(options.mean),
        deviation=tuple(options.std),
        fit=options.fit or "stretch",
        background=_WHITE if options.background is None else options.background,
        labels=tuple(labels),
        output=options.output,
        activation=options.activation,
        folder=Path(options.images) if options.images else None,
    )


def read_table_options(options: Options, labels: Sequence[str]) -> ImportOptions:
    """Return the choices for a model of columns.

    Raise `DataError` if a unit has no column.
    """
    return ImportOptions(
        output=options.output,
        activation=options.activation,
        labels=tuple(labels),
        optional=tuple(options.optional),
        unseen=options.unseen,
        units=_read_units(options.units),
        target=options.target,
        expected=tuple(
            name for word in options.expected if "=" not in word for name in split_names(word)
        ),
    )


def _read_size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    try:
        return int(height), int(width or height)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a size; write the height and the width, as in 224x224"
        ) from None


def _read_numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a list of numbers; write one for each channel, as in 0.5,0.5,0.5"
        ) from None


def split_names(text: str) -> list[str]:
    """Split names at commas; quotes hold a name with commas or blanks around it together."""
    return next(csv.reader([text], skipinitialspace=True), [])


def _read_units(pairs: Sequence[str]) -> dict[str, str]:
    units = {}
    for pair in pairs:
        name, _, unit = pair.rpartition("=")
        if not name or not unit:
            raise DataError(f"--units has {pair!r}; write each as COLUMN=UNIT, as in weight=kg.")
        units[name] = unit
    return units
