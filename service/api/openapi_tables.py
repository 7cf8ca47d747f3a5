"""What the OpenAPI document tells of tables: how they are sent, and how they are answered."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from service.codecs.features import FeatureCodec
from service.tabletext.dialect import quoted

Schema = dict[str, Any]

_TABLE = (
    "A first line with the columns' names, and a row a line. The pattern shows the usual form; the "
    "columns may be in any order, be separated by a semicolon, a tab or |, and lack optional ones; "
    "other columns are carried through. The answer is the same table with the answer's columns "
    "behind."
)
_LINES = (
    "One row a line: an object by names, or an array in the features' order. A line that is "
    "anything else has an error in its place."
)
# What a table must have for its rows to be read: a first row, after the names if it is CSV.
_ROWS_OF_TEXT = r"\r?\n[A-Za-z0-9][^\u0000]*$"
_ROW = r"[^ \t\n\r\v\f]"
_SPECIAL = re.compile(r"[\\^$.*+?()\[\]{}|/]")
_ROWS = 2


def table_requests(codec: FeatureCodec) -> Schema:
    """The bodies of tables by media type, each with an example that works."""
    line = orjson.dumps(codec.example).decode()
    header = ",".join(quoted(name, ",") for name in codec.example)
    return {
        "text/csv": _text(
            _TABLE, f"^{_escaped(header)}{_ROWS_OF_TEXT}", "two rows", _csv(codec.example)
        ),
        "application/x-ndjson": _text(_LINES, _ROW, "two lines", f"{line}\n" * _ROWS),
    }


def table_answers() -> Schema:
    """The answers of tables by media type."""
    failed = "A row that fails has its sentence in the column error, and the others are scored."
    lines = "One answer a line, or the object of an error in the place of a row that failed."
    return {
        "text/csv": {"schema": {"type": "string", "description": failed}},
        "application/x-ndjson": {"schema": {"type": "string", "description": lines}},
    }


def _text(description: str, pattern: str, name: str, value: str) -> Schema:
    schema = {"type": "string", "description": description, "pattern": pattern}
    return {"schema": schema, "examples": {name: {"value": value}}}


def _escaped(text: str) -> str:
    """Text as part of a regular expression of ECMA 262, as JSON Schema has them."""
    return _SPECIAL.sub(r"\\\g<0>", text)


def _csv(example: Mapping[str, object]) -> str:
    cells = [quoted(_cell(value), ",") for value in example.values()]
    names = [quoted(name, ",") for name in example]
    rows: Sequence[Sequence[str]] = [names, *[cells] * _ROWS]
    return "".join(",".join(row) + "\n" for row in rows)


def _cell(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
