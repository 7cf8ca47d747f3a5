"""Requests to a model, to copy: with curl and with the Python client."""

import base64
import json
import shlex

from service.bundle.features import FeaturesInput
from service.bundle.manifest import ImageInput, Manifest
from service.imaging.preprocess import create_example_image

DEFAULT_ADDRESS = "http://localhost:8000"
_IMAGE = "image.png"


def create_row(features: FeaturesInput) -> dict[str, object]:
    """Return the example row of a table model, as a request has it."""
    row: dict[str, object] = {feature.name: feature.example for feature in features.features}
    return {
        name: int(example) if isinstance(example, float) and example.is_integer() else example
        for name, example in row.items()
    }


def format_curl(manifest: Manifest, path: str, address: str = DEFAULT_ADDRESS) -> str:
    """Return a curl command that sends the example row, or an example image, to a path."""
    if isinstance(manifest.input, ImageInput):
        example: dict[str, object] = {
            "image": base64.b64encode(create_example_image(manifest.input)).decode()
        }
    else:
        example = create_row(manifest.input)
    body = shlex.quote(json.dumps(example, ensure_ascii=False))
    return f"curl -s {address}{path} -H 'content-type: application/json' -d {body}"


def format_curl_of_file(name: str) -> str:
    """Return a curl command that sends an image file to a model."""
    url = f"{DEFAULT_ADDRESS}/models/{name}/predict"
    return f"curl -s {url} -H 'content-type: image/png' --data-binary @{_IMAGE}"


def format_python(manifest: Manifest) -> str:
    """Return a program in three lines that sends the example row, or an image file."""
    if isinstance(manifest.input, ImageInput):
        sent = json.dumps(_IMAGE)
    else:
        sent = repr(create_row(manifest.input))
    return (
        "from service.client import Client\n\n"
        f"client = Client({json.dumps(DEFAULT_ADDRESS)})\n"
        f"print(client.predict({json.dumps(manifest.name)}, {sent}))"
    )
