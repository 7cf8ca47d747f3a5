"""OpenAPI schemas of the JSON of requests: one row or image, several, or an object with them."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from service.api.body import JSON
from service.api.components import Components, Suffix
from service.api.native.forms import INSTANCES
from service.api.schemas import Schema, array_schema, object_schema


def describe_json(
    components: Components,
    one: Schema,
    alternative: Schema,
    max_rows: int | None,
    *,
    has_instances: bool = True,
) -> Schema:
    """Return the JSON of a request: one row or image, a list, or an object with a list.

    The items of a list may have the alternative form.
    """
    limits = {"minItems": 1} | ({} if max_rows is None else {"maxItems": max_rows})
    several = array_schema({"anyOf": [one, alternative]}, **limits)
    forms = [one, several]
    if has_instances:
        suffix: Suffix = "Instances" if max_rows is None else "ExplainedInstances"
        forms.append(components.add(suffix, object_schema({INSTANCES: several}, closed=True)))
    return {"anyOf": forms}


def describe_content(schema: Schema, examples: Schema) -> Schema:
    """Return the content of a media type, with examples by name."""
    named = {name: {"value": value} for name, value in examples.items()}
    return {"schema": schema, "examples": named}


def describe_rows(  # noqa: PLR0913 - the parts of a row
    components: Components,
    properties: Schema,
    example: Mapping[str, object],
    max_rows: int | None,
    *,
    optional: AbstractSet[str] = frozenset(),
    values: Sequence[Schema] | None = None,
) -> Schema:
    """Return the content of a request with one row or several in JSON.

    Args:
        components: to which the row is added.
        properties: of a row, by feature name.
        example: a valid row.
        max_rows: of a request; None is no limit.
        optional: the features that a row may omit.
        values: of a row that is an array; None are the properties.
    """
    row: Schema = {
        "type": "object",
        "required": [name for name in properties if name not in optional],
        "properties": properties,
        "additionalProperties": False,
    }
    # The lengths allow no further items, so `items` would change nothing for servers. Generators of
    # clients reject `false` there.
    array = {
        "type": "array",
        "prefixItems": list(properties.values()) if values is None else values,
        "minItems": len(properties),
        "maxItems": len(properties),
    }
    schema = describe_json(
        components,
        components.add("Row", row),
        components.add("Values", array),
        max_rows,
        # A feature of that name makes it part of a row.
        has_instances=INSTANCES not in properties,
    )
    examples = {"one row": example, "several rows": [example, list(example.values())]}
    return {JSON: describe_content(schema, examples)}
