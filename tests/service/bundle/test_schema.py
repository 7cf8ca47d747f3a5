"""The published schemas are generated from the classes, and the shipped manifests conform to them.

``python -m tests.service.bundle.test_schema`` writes the files again.
"""

import json
from pathlib import Path

import jsonschema
import pytest
from pydantic import BaseModel

from service.bundle.manifest import Manifest
from service.bundle.tuning import Tuning

MODELS = Path(__file__).parents[3] / "models"
SCHEMAS: dict[str, type[BaseModel]] = {
    "manifest.schema.json": Manifest,
    "tuning.schema.json": Tuning,
}


def schema_of(document: type[BaseModel]) -> str:
    """Return the schema as indented JSON with a final newline."""
    return json.dumps(document.model_json_schema(), indent=2) + "\n"


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_published_schema_is_generated_from_the_class(name: str) -> None:
    """Run this module to update the file."""
    assert (MODELS / name).read_text() == schema_of(SCHEMAS[name])


def test_every_shipped_manifest_conforms_to_the_schema() -> None:
    """Any JSON Schema validator can check a manifest."""
    manifests = sorted(MODELS.glob("*/*/manifest.json"))

    assert manifests
    for path in manifests:
        jsonschema.validate(json.loads(path.read_text()), Manifest.model_json_schema())


if __name__ == "__main__":
    for name, document in SCHEMAS.items():
        (MODELS / name).write_text(schema_of(document))
