"""``python -m service.bundle.schema`` prints the JSON Schemas that are published in models/."""

import json
import sys

from service.bundle.manifest import Manifest
from service.bundle.tuning import Tuning


def manifest_schema() -> str:
    """Return the schema of ``manifest.json`` as indented JSON with a final newline."""
    return json.dumps(Manifest.model_json_schema(), indent=2) + "\n"


def tuning_schema() -> str:
    """Return the schema of ``tuning.json`` as indented JSON with a final newline."""
    return json.dumps(Tuning.model_json_schema(), indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(tuning_schema() if sys.argv[1:] == ["tuning"] else manifest_schema())
