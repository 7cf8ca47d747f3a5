"""What the OpenAPI document tells of tables: how they are sent, and how they are answered."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from service.api.features import FeatureCodec
from service.api.tables.quoting import quoted

Schema = dict[str, Any]

_TABLE = (
    "A first line with the columns' names, in any order, and a row a line; other columns are "
    "carried through. The answer is the same table with the answer's columns behind."
)
_LINES = "One row a line: an object by names, or an array in the features' order."
_ROWS = 2


def table_requests(codec: FeatureCodec) -> Schema:
    """The bodies of tables by media type, each with an example that works."""
    line = orjson.dumps(codec.example).decode()
    return {
        "text/csv": _text(_TABLE, "two rows", _csv(codec.example)),
        "application/x-ndjson": _text(_LINES, "two lines", f"{line}\n" * _ROWS),
    }


def table_answers() -> Schema:
    """The answers of tables by media type."""
    failed = "A row that fails has its sentence in the column error, and the others are scored."
    lines = "One answer a line, or the object of an error in the place of a row that failed."
    return {
        "text/csv": {"schema": {"type": "string", "description": failed}},
        "application/x-ndjson": {"schema": {"type": "string", "description": lines}},
    }


def _text(description: str, name: str, value: str) -> Schema:
    schema = {"type": "string", "description": description}
    return {"schema": schema, "examples": {name: {"value": value}}}


def _csv(example: Mapping[str, object]) -> str:
    cells = [quoted(_cell(value), ",") for value in example.values()]
    names = [quoted(name, ",") for name in example]
    rows: Sequence[Sequence[str]] = [names, *[cells] * _ROWS]
    return "".join(",".join(row) + "\n" for row in rows)


def _cell(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
