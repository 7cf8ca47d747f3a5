"""OpenAPI schemas of features: exactly the values that a row may have."""

import math
import re

from service.api.components import enum_schema
from service.api.schemas import NUMBER, STRING, Schema
from service.bundle.features import (
    WHOLE_MAX,
    BooleanFeature,
    CategoryFeature,
    Datatype,
    DatetimeFeature,
    Feature,
    IntegerFeature,
    NumberFeature,
    TextFeature,
    client_value,
)
from service.codecs.messages import describe
from service.codecs.ranges import find_valid_range
from service.engine.tensors import DTYPES
from service.freetext import MAX_CHARACTERS
from service.tabletext import missing_words
from service.timetext import json_pattern
from service.values import MAX_ROUNDED_TO_FLOAT32

# A category that is the canonical text of an integer.
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}")

BOOLEAN: Schema = {"anyOf": [{"type": "boolean"}, {"type": "integer", "enum": [0, 1]}]}
"""True and false; 0 and 1 are accepted too."""
_NULL: Schema = {"type": "null"}
# The one half way is rounded up.
MAX_NUMBER = int(MAX_ROUNDED_TO_FLOAT32) + int(math.ulp(MAX_ROUNDED_TO_FLOAT32) / 2) - 1
"""The largest integer that JSON parsers round to the largest number of 32 bits."""


def describe_feature(feature: Feature, datatype: Datatype) -> Schema:
    """Return the schema of a property of a row, with its description and an example."""
    parts = [part for part in (feature.description, f"Expected: {describe(feature)}.") if part]
    schema = describe_type(feature, datatype) | {
        "description": " ".join(parts),
        "examples": [feature.example],
    }
    if isinstance(feature, NumberFeature | IntegerFeature):
        if feature.unit:
            schema["x-unit"] = feature.unit
        if feature.trained is not None:
            ends = feature.trained.model_dump(exclude_none=True)
            schema |= {f"x-trained-{end}": limit for end, limit in ends.items()}
    if isinstance(feature, DatetimeFeature) and feature.trained is not None:
        ends = feature.trained.model_dump(exclude_none=True)
        schema |= {f"x-trained-{end}": client_value(feature, days) for end, days in ends.items()}
    return schema


def describe_type(feature: Feature, datatype: Datatype) -> Schema:
    """Return the schema of exactly the values that a feature accepts.

    Values of several types are alternatives: generators of clients reject an ``enum`` of strings
    and numbers.
    """
    if isinstance(feature, DatetimeFeature):
        return _describe_date(feature)
    if isinstance(feature, BooleanFeature):
        return {"anyOf": [*BOOLEAN["anyOf"], _NULL]} if feature.optional else BOOLEAN
    if isinstance(feature, CategoryFeature) and feature.unseen != "other":
        return _describe_category(feature)
    schema: Schema
    if isinstance(feature, CategoryFeature):
        kinds, schema = ["string", "integer"], {}
    elif isinstance(feature, TextFeature):
        # Numbers are read as they are written.
        kinds, schema = ["string", "number"], {"x-read-characters": MAX_CHARACTERS}
    else:
        is_whole = isinstance(feature, IntegerFeature)
        kinds = ["integer" if is_whole else "number"]
        # Every number of a JSON parser fits 64 bits.
        largest = WHOLE_MAX if is_whole else MAX_NUMBER if datatype == "FP32" else None
        schema = {} if largest is None else {"minimum": -largest, "maximum": largest}
        if feature.allowed is not None:
            schema |= feature.allowed.model_dump(exclude_none=True)
    if feature.optional:
        kinds.append("null")
    return {"type": kinds if len(kinds) > 1 else kinds[0], **schema}


def _describe_date(feature: DatetimeFeature) -> Schema:
    """Return the texts of a date, and its numbers: days since 1970-01-01."""
    low, high = find_valid_range(feature, DTYPES["FP64"])
    kinds = [
        STRING | {"pattern": json_pattern(feature.format), "x-format": feature.format},
        NUMBER | {"minimum": low, "maximum": high},
    ]
    if feature.optional:
        words = sorted(missing_words(feature.missing))
        kinds += [enum_schema(words), _NULL]
    return {"anyOf": kinds}


def _describe_category(feature: CategoryFeature) -> Schema:
    """Return the values of a category; integers may be sent without quotes."""
    texts = enum_schema(feature.categories)
    numbers = [int(word) for word in feature.categories if _WHOLE.fullmatch(word)]
    kinds = [
        texts,
        *([{"type": "integer", "enum": numbers}] if numbers else []),
        *([_NULL] if feature.optional else []),
    ]
    return {"anyOf": kinds} if len(kinds) > 1 else texts
