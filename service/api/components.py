"""Names of models in the OpenAPI document, and the components that its paths refer to."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple
from zlib import crc32

from service.api.schemas import STRING, Schema, refer

# Generators of clients ignore these characters, or start a new word at them.
_NOT_ALPHANUMERIC = re.compile(r"[^A-Za-z0-9]+")
_SNAKE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


class Identifier(NamedTuple):
    """The name of a model as a part of the names of components and operations."""

    camel: str
    """Such as ``AdmissionMlp``."""
    snake: str
    """Such as ``admission_mlp``."""


def identify(names: Iterable[str]) -> dict[str, Identifier]:
    """Return an identifier for each model, which is unique in generated code of any language.

    Names that differ only in case and punctuation, such as ``a-b`` and ``a_b``, are not: then one
    of them has the plain identifier, and the others have the checksum of their name.
    """
    found: dict[str, Identifier] = {}
    used: set[str] = set()
    for name in sorted(names, key=lambda name: (_SNAKE.fullmatch(name) is None, name)):
        words = [word for word in _NOT_ALPHANUMERIC.split(name) if word]
        if words[0][0].isdigit():
            words.insert(0, "model")
        key = "".join(words).lower()
        if key in used:
            words.append(f"x{crc32(name.encode()):08x}")
        used.add(key)
        camel = "".join(word[0].upper() + word[1:] for word in words)
        found[name] = Identifier(camel, "_".join(words).lower())
    return found


class Components:
    """The component schemas of one model, whose names start with its identifier."""

    def __init__(self, identifier: Identifier) -> None:
        self.identifier = identifier
        self.schemas: Schema = {}

    def add(self, suffix: str, schema: Schema) -> Schema:
        """Add a schema, and return a reference to it."""
        name = self.identifier.camel + suffix
        self.schemas[name] = schema
        return refer(name)


class ModelDescription(NamedTuple):
    """What the OpenAPI document says of one model."""

    tag: Mapping[str, object]
    paths: Schema
    schemas: Schema


def enum_schema(values: Sequence[str]) -> Schema:
    """Return the schema of one of several strings."""
    schema = STRING | {"enum": list(values)}
    names = {_NOT_ALPHANUMERIC.sub("", value).lower() for value in values}
    if len(names) < len(values):
        # Generators derive names of constants from the values, and would use one for several.
        schema["x-enum-varnames"] = [f"VALUE_{number}" for number in range(len(values))]
    return schema
