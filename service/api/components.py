"""Names of models in the OpenAPI document, and the components that its paths refer to."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, get_args
from zlib import crc32

from service.api.schemas import STRING, Schema, refer

# Generators of clients ignore these characters, or start a new word at them.
_NOT_ALPHANUMERIC = re.compile(r"[^A-Za-z0-9]+")
_SNAKE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")

Suffix = Literal[
    "Attribution",
    "ExplainedInstances",
    "Explanation",
    "ExplanationItem",
    "Explanations",
    "Files",
    "Image",
    "Instances",
    "Label",
    "Pixels",
    "Prediction",
    "PredictionItem",
    "Predictions",
    "Probabilities",
    "Row",
    "Values",
]
"""The ends of the names of a model's components."""
_SUFFIXES: tuple[str, ...] = ("", *get_args(Suffix))


class Identifier(NamedTuple):
    """The name of a model as a part of the names of components and operations."""

    camel: str
    """Such as ``AdmissionMlp``."""
    snake: str
    """Such as ``admission_mlp``."""


def identify(names: Iterable[str], components: Iterable[str] = ()) -> dict[str, Identifier]:
    """Return an identifier for each model, which is unique in generated code of any language.

    The names of components are those that are the same for all models. A model has the checksum of
    its name in its identifier if a component would have the name of another one, as for ``a-b`` and
    ``a_b``, or for the instances of ``churn_explained`` and the explained ones of ``churn``.
    """
    found: dict[str, Identifier] = {}
    used = {name.lower() for name in components}
    for name in sorted(names, key=lambda name: (_SNAKE.fullmatch(name) is None, name)):
        words = [word for word in _NOT_ALPHANUMERIC.split(name) if word]
        if words[0][0].isdigit():
            words.insert(0, "model")
        key = "".join(words).lower()
        if used.intersection(key + suffix.lower() for suffix in _SUFFIXES):
            words.append(f"x{crc32(name.encode()):08x}")
            key = "".join(words).lower()
        used.update(key + suffix.lower() for suffix in _SUFFIXES)
        camel = "".join(word[0].upper() + word[1:] for word in words)
        found[name] = Identifier(camel, "_".join(words).lower())
    return found


class Components:
    """The component schemas of one model, whose names start with its identifier."""

    def __init__(self, identifier: Identifier) -> None:
        self.identifier = identifier
        self.schemas: Schema = {}

    def add(self, suffix: Suffix, schema: Schema) -> Schema:
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
