"""What OpenAPI says of a picture model's requests."""

import base64
from typing import Any

from service.api.native.forms import MULTIPART
from service.api.native.posted import INSTANCES
from service.bundle.manifest import ImageInput
from service.codecs.image_sources import KEY
from service.imaging.preprocess import example_picture

Schema = dict[str, Any]

ENCODED = "base64-image"
"""The format of strings that are a picture's file; JSON Schema has none."""

_FILE: Schema = {"type": "string", "format": "binary"}
_FITS = {
    "stretch": "both of its sides are scaled to",
    "crop": "scaled to cover, its middle becomes",
    "pad": "all of it, with background around, becomes",
}


def picture_body(rule: ImageInput) -> Schema:
    """The request body of predictions: a file, a form of files, or JSON."""
    text = base64.b64encode(example_picture(rule)).decode()
    picture = _picture(rule)
    one = _wrapped(KEY, picture)
    several = {"type": "array", "items": {"anyOf": [one, picture]}, "minItems": 1}
    instances = _wrapped(INSTANCES, several)
    form = {
        "type": "object",
        "required": [KEY],
        "properties": {KEY: {"type": "array", "items": _FILE, "minItems": 1}},
        "additionalProperties": False,
    }
    return {
        "required": True,
        "description": f"A picture of any size: {_FITS[rule.fit]} {rule.width} x {rule.height} "
        "pixels. The file itself, several as a form's files, or JSON.",
        "content": {
            "application/json": {
                "schema": {"anyOf": [one, instances, several]},
                "examples": {
                    "one picture": {"value": {KEY: text}},
                    "several pictures": {"value": {INSTANCES: [{KEY: text}, {KEY: text}]}},
                },
            },
            "image/*": {"schema": _FILE},
            MULTIPART: {"schema": form, "encoding": {KEY: {"contentType": "image/*"}}},
        },
    }


def _wrapped(key: str, schema: Schema) -> Schema:
    return {
        "type": "object",
        "required": [key],
        "properties": {key: schema},
        "additionalProperties": False,
    }


def _picture(rule: ImageInput) -> Schema:
    pixels = rule.height * rule.width * rule.channels
    encoded = {
        "type": "string",
        "description": "A picture's file in base64, or a data URL.",
        "contentEncoding": "base64",
        "contentMediaType": "image/*",
        "format": ENCODED,
    }
    numbers = {
        "type": "array",
        "description": f"Pixels from 0 to 255, row by row: {pixels} of them. Rows of "
        + ("numbers" if rule.channels == 1 else "red, green and blue")
        + ", of a picture of any size, are read too.",
        "items": {"type": "integer", "minimum": 0, "maximum": 255},
        "minItems": pixels,
        "maxItems": pixels,
    }
    return {"anyOf": [encoded, _wrapped("b64", encoded), numbers]}
