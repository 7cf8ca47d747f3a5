"""The published schema is generated from the classes, and the shipped manifests conform to it."""

import json
from pathlib import Path

import jsonschema

from service.bundle.schema import manifest_schema

MODELS = Path(__file__).parents[3] / "models"


def test_the_published_schema_is_generated_from_the_classes() -> None:
    """`python -m service.bundle.schema > models/manifest.schema.json` updates it."""
    assert (MODELS / "manifest.schema.json").read_text() == manifest_schema()


def test_every_shipped_manifest_conforms_to_the_schema() -> None:
    """Any JSON Schema validator can check a manifest."""
    schema = json.loads(manifest_schema())
    manifests = sorted(MODELS.glob("*/*/manifest.json"))

    assert manifests
    for path in manifests:
        jsonschema.validate(json.loads(path.read_text()), schema)
