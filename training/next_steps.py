"""The last lines of a run: whether the new version serves, and a request that calls it."""

import base64
import json
import os
import shlex
from collections.abc import Iterator

from service.bundle.manifest import ImageInput, Manifest
from service.imaging.preprocess import example_image
from training.export.publish import Publication


def next_steps(publication: Publication) -> str:
    """Sentences, and a curl command that works once the service runs."""
    return "\n".join([*_findings(publication), _curl(publication)])


def _findings(publication: Publication) -> Iterator[str]:
    name, version, serving = publication.manifest.name, publication.version, publication.serving
    comparison = publication.comparison
    models = publication.folder.parents[1]
    option = (
        "" if str(models) == os.environ.get("ONWARD_MODELS", "models") else f" --models {models}"
    )
    if comparison is not None:
        yield comparison.finding
    if publication.serves:
        yield (
            f"{name} version {version} serves: a running service loads it within seconds; "
            f"start one with: onward serve{option}"
        )
        return
    if comparison is not None and comparison.worse:
        yield f"Version {version} is clearly worse than version {comparison.version}."
    remains = f"version {serving} still serves" if serving else "no version serves"
    yield (
        f"{name} version {version} does not serve; {remains}. "
        f"To serve it: onward publish {name} {version}{option}"
    )


def _curl(publication: Publication) -> str:
    port = os.environ.get("ONWARD_PORT", "")
    address = f"http://127.0.0.1:{port if port.isdecimal() else 8000}"
    version = "" if publication.serves else f"/versions/{publication.version}"
    path = f"/models/{publication.manifest.name}{version}/predict"
    body = shlex.quote(json.dumps(_example(publication.manifest), ensure_ascii=False))
    return f"  curl -s {address}{path} -H 'content-type: application/json' -d {body}"


def _example(manifest: Manifest) -> dict[str, object]:
    """The body of a request: an example row, or an example image in base64."""
    if isinstance(manifest.input, ImageInput):
        return {"image": base64.b64encode(example_image(manifest.input)).decode()}
    return {feature.name: feature.example for feature in manifest.input.features}
