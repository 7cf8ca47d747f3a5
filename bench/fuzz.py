"""``python -m bench.fuzz TARGET --seconds 60``: random bytes into one reader of client input.

It needs ``pip install atheris`` (libFuzzer), which no other part of the project does.
A target fails by any exception but the service's own errors, or by one input that takes more than
``--slowest`` seconds; libFuzzer then writes that input into the current folder.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

import atheris
import orjson

# Instrumented alone: libraries would take minutes, and their branches are not what is searched.
with atheris.instrument_imports(include=["service"]):
    from bench import fuzz_images, fuzz_protocols
    from service.api.body import parameter_of, response_form
    from service.bundle.features import FeaturesInput
    from service.codecs.csv_cells import CellReader, number_hint
    from service.codecs.csv_header import find_columns, open_csv
    from service.codecs.csv_reader import Lines, TableReader
    from service.codecs.features import FeatureCodec
    from service.codecs.json_reader import parse_json, rows_of_numbers
    from service.codecs.ndjson import NdjsonReader
    from service.codecs.outputs import read_parameters
    from service.errors import OnwardError
    from service.tabletext import Numerals, find_decimal, sniff
    from service.values import not_a_number
    from tests.models import mixed_features

_CODEC = FeatureCodec(FeaturesInput(kind="features", features=mixed_features()))
_HEADER = b"size,rooms,garden,quarter,colour\n"
_CHARSETS = (None, "utf-16", "utf-16le", "utf-32", "windows-1252", "shift_jis", "iso-2022-jp")
_ROWS_AT_ONCE = 7


def csv(data: bytes) -> None:
    """A CSV body; its first byte chooses the charset and the size of its pieces."""
    choice, table = data[0] if data else 0, data[1:]
    charset = _CHARSETS[choice % len(_CHARSETS)]
    first = len(table) >> (choice % 3)
    with suppress(OnwardError):
        whole = first == len(table)
        reader, _ = open_csv(table[:first], _CODEC, whole=whole, longest=4096, charset=charset)
        _read(reader, table[first:])


def csv_rows(data: bytes) -> None:
    """The rows of a CSV body whose header is right."""
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
    """One cell as each kind of feature, and its error message."""
    cell = _text(data)
    for feature in _CODEC.features:
        for numerals in (Numerals(), Numerals(","), Numerals(",", "."), Numerals(".", " ")):
            reader = CellReader(feature, numerals)
            reader.numbers([cell])
            reader.value(cell)
            reader.problem(cell)


def numerals(data: bytes) -> None:
    """Words that should be numbers: their decimal mark, and the advice about them."""
    words = _text(data).split("\n")
    with suppress(ValueError):
        find_decimal(list(enumerate(words)), ";")
    for word in words:
        number_hint(word)
        number_hint(word, Numerals(","))
        not_a_number(word, whole=True)


def parameters(data: bytes) -> None:
    """A query string, and the headers that choose the form of a table."""
    with suppress(OnwardError):
        read_parameters(data)
    text = data.decode("latin-1")
    response_form(text, "csv")
    parameter_of(text, "charset")


def json(data: bytes) -> None:
    """A JSON body, read by both JSON parsers."""
    if (numbers := rows_of_numbers(data)) is not None:
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
    "numerals": numerals,
    "parameters": parameters,
    "json": json,
}
TARGETS |= {**fuzz_images.TARGETS, **fuzz_protocols.TARGETS}


def _read(reader: TableReader, data: bytes) -> None:
    """Read all rows, as a table that arrives is read."""
    reader.feed(data)
    while reader.take(_ROWS_AT_ONCE) is not None:
        pass
    reader.end()
    while reader.take(_ROWS_AT_ONCE) is not None:
        pass


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def main(arguments: Sequence[str] | None = None) -> None:
    """Fuzz one target; the process ends with libFuzzer's status, 0 where nothing failed."""
    parser = argparse.ArgumentParser(prog="python -m bench.fuzz", description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--slowest", type=int, default=5, help="seconds of one input")
    parser.add_argument("--longest", type=int, default=65536, help="bytes of one input")
    parser.add_argument("--corpus", nargs="*", default=[], help="folders of inputs to start from")
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
