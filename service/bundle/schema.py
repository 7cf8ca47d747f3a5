"""``python -m service.bundle.schema`` prints the JSON Schema that models/ publishes."""

import json
import sys

from service.bundle.manifest import Manifest


def manifest_schema() -> str:
    """The schema of ``manifest.json`` as indented JSON with a final newline."""
    return json.dumps(Manifest.model_json_schema(), indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(manifest_schema())
