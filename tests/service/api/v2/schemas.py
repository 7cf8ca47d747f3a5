"""The objects of the Open Inference Protocol as JSON schemas.

Written from the protocol's published specification (github.com/kserve/open-inference-protocol,
``specification/protocol/open_inference_rest.yaml`` and ``inference_rest.md``, Apache License 2.0,
Copyright 2023 The KServe Authors): the same properties, types and required fields. Stricter where
Onward promises more, with a comment.
"""

from typing import Any

Schema = dict[str, Any]

STRING: Schema = {"type": "string"}
STRINGS: Schema = {"type": "array", "items": STRING}


def an_object(required: str, optional: str = "", *, closed: bool = True, **types: Schema) -> Schema:
    """An object with these properties; ``closed`` is Onward's promise to send no others."""
    names = required.split() + optional.split()
    return {
        "type": "object",
        "properties": {name: types.get(name, STRING) for name in names},
        "required": required.split(),
        "additionalProperties": not closed,
    }


SHAPE: Schema = {"type": "array", "items": {"type": "integer"}}
METADATA_TENSOR = an_object("name datatype shape", shape=SHAPE)
METADATA_TENSORS: Schema = {"type": "array", "items": METADATA_TENSOR}

METADATA_SERVER = an_object("name version extensions", extensions=STRINGS)
METADATA_MODEL = an_object(
    # The specification leaves versions, inputs and outputs open; Onward always returns them.
    "name platform versions inputs outputs",
    versions=STRINGS,
    inputs=METADATA_TENSORS,
    outputs=METADATA_TENSORS,
)
LIVE = an_object("live", live={"type": "boolean"})
READY = an_object("ready", ready={"type": "boolean"})
MODEL_READY = an_object("name ready", ready={"type": "boolean"})

# In the specification, data is nested or flat, of numbers, strings and booleans. Onward's is flat,
# and has null for numbers that are not finite, which JSON cannot represent.
TENSOR_DATA: Schema = {
    "type": "array",
    "items": {"type": ["number", "string", "boolean", "null"]},
}
PARAMETERS: Schema = {"type": "object"}
RESPONSE_OUTPUT = an_object(
    "name shape datatype data",
    "parameters",
    shape=SHAPE,
    data=TENSOR_DATA,
    parameters=PARAMETERS,
)
# In the binary extension the data follows the JSON, and the parameters contain its size.
BINARY_OUTPUT = an_object(
    "name shape datatype parameters",
    shape=SHAPE,
    parameters={
        "type": "object",
        "required": ["binary_data_size"],
        "properties": {"binary_data_size": {"type": "integer", "minimum": 0}},
    },
)
INFERENCE = an_object(
    "model_name outputs",
    "model_version id parameters",
    outputs={"type": "array", "items": {"oneOf": [RESPONSE_OUTPUT, BINARY_OUTPUT]}},
    parameters=PARAMETERS,
)
# An error object of the specification has this field only; Onward adds code and details.
ERROR = an_object("error", closed=False)
