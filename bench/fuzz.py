"""Fuzz one reader of client input with random bytes: ``python -m bench.fuzz TARGET --seconds 60``.

It needs ``pip install atheris`` (libFuzzer), which no other part of the project needs. A target
fails if it raises an exception other than an error of the service, or if one input takes more than
``--slowest`` seconds; libFuzzer then writes that input into the current folder.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

import atheris
import orjson

# Only the service is instrumented: libraries would take minutes, and are not tested here.
with atheris.instrument_imports(include=["service"]):
    from bench import fuzz_images, fuzz_protocols
    from service.api.body import parse_parameter, response_form
    from service.bundle.features import FeaturesInput
    from service.codecs.csv_cells import CellReader, find_decimal, number_hint
    from service.codecs.csv_header import find_columns, open_csv
    from service.codecs.csv_rows import TableReader
    from service.codecs.features import FeatureCodec
    from service.codecs.json_reader import parse_json, parse_number_rows
    from service.codecs.ndjson import NdjsonReader
    from service.codecs.parameters import read_parameters
    from service.errors import OnwardError
    from service.records import Lines
    from service.tabletext import NumberFormat, sniff
    from service.values import not_a_number
    from tests.models import mixed_features

_CODEC = FeatureCodec(FeaturesInput(kind="features", features=mixed_features()))
_HEADER = b"size,rooms,garden,quarter,color\n"
_CHARSETS = (None, "utf-16", "utf-16le", "utf-32", "windows-1252", "shift_jis", "iso-2022-jp")
_BATCH_ROWS = 7


def csv(data: bytes) -> None:
    """A CSV body; the first byte selects the charset and the size of the pieces."""
    selector, table = data[0] if data else 0, data[1:]
    charset = _CHARSETS[selector % len(_CHARSETS)]
    first = len(table) >> (selector % 3)
    with suppress(OnwardError):
        whole = first == len(table)
        reader, _ = open_csv(table[:first], _CODEC, whole=whole, longest=4096, charset=charset)
        _read(reader, table[first:])


def csv_rows(data: bytes) -> None:
    """The rows of a CSV body with a valid header."""
    csv(b"\0" + _HEADER + data)


def ndjson(data: bytes) -> None:
    """A body of newline-delimited JSON."""
    with suppress(OnwardError):
        _read(NdjsonReader(_CODEC, Lines("utf-8-sig", 4096)), data)


def layout(data: bytes) -> None:
    """The first bytes of a CSV body."""
    text = _text(data)
    if text.strip():
        sniff(text, "utf-8", names=["size", "rooms"])


def header(data: bytes) -> None:
    """The first row of a CSV body."""
    with suppress(OnwardError):
        find_columns(_text(data).split(","), _CODEC.features, 1)


def cells(data: bytes) -> None:
    """One cell for each kind of feature, and its error message."""
    cell = _text(data)
    for feature in _CODEC.features:
        for number_format in (
            NumberFormat(),
            NumberFormat(","),
            NumberFormat(",", "."),
            NumberFormat(".", " "),
        ):
            reader = CellReader(feature, number_format)
            reader.numbers([cell])
            reader.value(cell)
            reader.problem(cell)


def hints(data: bytes) -> None:
    """Words instead of numbers: their decimal separator, and the hints of the error messages."""
    words = _text(data).split("\n")
    with suppress(OnwardError):
        find_decimal(list(enumerate(words)), ";")
    for word in words:
        number_hint(word)
        number_hint(word, NumberFormat(","))
        not_a_number(word, whole=True)


def parameters(data: bytes) -> None:
    """A query string, and the headers that select the format of a table."""
    with suppress(OnwardError):
        read_parameters(data)
    text = data.decode("latin-1")
    response_form(text, "csv")
    parse_parameter(text, "charset")


def json(data: bytes) -> None:
    """A JSON body, read by both JSON parsers."""
    if (numbers := parse_number_rows(data)) is not None:
        _CODEC.decode_numbers(numbers)
    with suppress(OnwardError):
        document = parse_json(data, lambda: orjson.dumps(_CODEC.example))
        rows = document if isinstance(document, list) else [document]
        if rows:
            _CODEC.decode_rows(rows)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "csv": csv,
    "csv_rows": csv_rows,
    "ndjson": ndjson,
    "layout": layout,
    "header": header,
    "cells": cells,
    "hints": hints,
    "parameters": parameters,
    "json": json,
}
TARGETS |= {**fuzz_images.TARGETS, **fuzz_protocols.TARGETS}


def _read(reader: TableReader, data: bytes) -> None:
    """Read all rows in batches."""
    reader.feed(data)
    while reader.take(_BATCH_ROWS) is not None:
        pass
    reader.end()
    while reader.take(_BATCH_ROWS) is not None:
        pass


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def main(arguments: Sequence[str] | None = None) -> None:
    """Fuzz one target; libFuzzer ends the process, with status 0 if nothing failed."""
    parser = argparse.ArgumentParser(prog="python -m bench.fuzz", description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--slowest", type=int, default=5, help="maximum seconds per input")
    parser.add_argument("--longest", type=int, default=65536, help="maximum bytes of an input")
    parser.add_argument("--corpus", nargs="*", default=[], help="folders of initial inputs")
    options = parser.parse_args(arguments)
    limits = [
        f"-max_total_time={options.seconds}",
        f"-timeout={options.slowest}",
        f"-max_len={options.longest}",
    ]
    atheris.Setup([sys.argv[0], *limits, *options.corpus], TARGETS[options.target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
