"""The OpenAPI operation of explanations: that of predictions, with what reasons add."""

import copy
from typing import Any

from service.api.body import JSON
from service.api.explain.parameters import LEAST_CELLS, MOST_CELLS
from service.api.native.posted import INSTANCES
from service.bundle.features import FeaturesInput
from service.bundle.manifest import ClassesOutput, ImageInput, Manifest

Schema = dict[str, Any]

_NUMBER: Schema = {"type": "number"}


def explain_operation(manifest: Manifest, predicted: Schema, max_rows: int) -> Schema:
    """The operation of a model's explanations.

    Args:
        manifest: the model's.
        predicted: the operation of its predictions, which stays as it is.
        max_rows: the operator's limit.
    """
    operation = copy.deepcopy(predicted)
    operation["operationId"] = f"explain_{manifest.name}"
    operation["summary"] = f"{manifest.title}: why"
    kept = [known for known in operation["parameters"] if known["name"] != "decimal"]
    operation["parameters"] = [*kept, *_parameters(manifest)]
    if isinstance(manifest.input, FeaturesInput):
        # Tables are predicted, not explained.
        asked = operation["requestBody"]["content"]
        operation["requestBody"]["content"] = {JSON: asked[JSON]}
    for schema in operation["requestBody"]["content"][JSON]["schema"]["anyOf"]:
        _limit_rows(schema, max_rows)
    one, many, *_ = operation["responses"]["200"]["content"][JSON]["schema"]["anyOf"]
    reasons = _reasons(manifest)
    about = _about(manifest)
    for schema in (one, many["properties"]["predictions"]["items"]):
        schema["properties"]["explanation"] = reasons
        schema["required"] = [*schema["required"], "explanation"]
    for schema in (one, many):
        schema["properties"] |= about
        schema["required"] = [*schema["required"], "method", "meaning"]
    content: Schema = {JSON: {"schema": {"anyOf": [one, many]}}}
    if isinstance(manifest.input, ImageInput):
        content["image/png"] = {"schema": {"type": "string", "format": "binary"}}
    operation["responses"]["200"]["content"] = content
    # Explanations have no phases to report.
    operation["responses"]["200"]["headers"].pop("Server-Timing")
    return operation


def _limit_rows(form: Schema, most: int) -> None:
    """Add the limit to the arrays of rows or pictures among the forms of a body."""
    form = form.get("properties", {}).get(INSTANCES, form)
    if form["type"] == "array" and "maxItems" not in form:
        form["maxItems"] = most


def _parameters(manifest: Manifest) -> list[Schema]:
    found: list[Schema] = []
    if isinstance(manifest.output, ClassesOutput):
        schema = {"type": "string", "enum": manifest.output.labels}
        asked = "The label to explain, instead of the one answered."
        found.append({"name": "label", "in": "query", "description": asked, "schema": schema})
    if isinstance(manifest.input, ImageInput):
        most = min(MOST_CELLS, manifest.input.height, manifest.input.width)
        cells = {"type": "integer", "minimum": LEAST_CELLS, "maximum": most}
        asked = "The cells of the grid along either side."
        found.append({"name": "resolution", "in": "query", "description": asked, "schema": cells})
    return found


def _about(manifest: Manifest) -> Schema:
    by_nature = "occlusion" if isinstance(manifest.input, ImageInput) else "shapley"
    method = by_nature if manifest.reasons is None else "additive"
    about: Schema = {
        "method": {"type": "string", "enum": [method]},
        "meaning": {"type": "string", "description": "What the numbers are, in a sentence."},
    }
    if method == "shapley":
        about["reference"] = {"type": "object", "description": "The row that base is of."}
    return about


def _reasons(manifest: Manifest) -> Schema:
    taken = manifest.input
    of: Schema = {"type": "string", "description": "What the numbers are of."}
    if isinstance(taken, FeaturesInput):
        names = [feature.name for feature in taken.features]
        contributions = {
            "type": "object",
            "required": names,
            "properties": dict.fromkeys(names, _NUMBER),
            "additionalProperties": False,
        }
        properties = {"of": of, "base": _NUMBER, "contributions": contributions, "score": _NUMBER}
    else:
        grid = {"type": "array", "items": {"type": "array", "items": _NUMBER}}
        properties = {"of": of, "score": _NUMBER, "drops": grid}
    return {"type": "object", "required": list(properties), "properties": properties}
