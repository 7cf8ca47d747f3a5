"""Hooks of schemathesis for rules that JSON Schema cannot express.

`schemathesis.toml` loads this file.
"""

import base64
import io
from typing import Any

import schemathesis
from hypothesis import strategies as st
from PIL import Image
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.openapi.checks import RejectedPositiveData
from schemathesis.transport.serialization import Binary

# A model of the shipped ones and of tests/test_schemathesis.py.
MODEL = {"name": "iris", "version": "1"}


@schemathesis.serializer("application/x-ndjson", "text/csv")
def as_text(_: schemathesis.SerializationContext, value: object) -> bytes | None:
    """Serialize tables, which the document describes as text; other values become no body."""
    return value.encode(errors="ignore") if isinstance(value, str) else None


def image(size: tuple[int, int], gray: int) -> bytes:
    """A PNG file."""
    file = io.BytesIO()
    Image.new("L", size, gray).save(file, "PNG")
    return file.getvalue()


IMAGES = st.builds(image, st.tuples(*[st.integers(1, 40)] * 2), st.integers(0, 255))
schemathesis.openapi.format("binary", IMAGES.map(Binary))
schemathesis.openapi.format("base64-image", IMAGES.map(lambda it: base64.b64encode(it).decode()))


@schemathesis.hook
def map_path_parameters(
    context: schemathesis.HookContext, path_parameters: dict[str, Any]
) -> dict[str, Any]:
    """Use the name of an existing model for half of the requests instead of a random one."""
    operation = context.operation
    changes = operation is None or "repository" in operation.path or operation.method == "delete"
    if changes or not path_parameters or len(repr(path_parameters)) % 2:
        return path_parameters
    return path_parameters | {key: MODEL[key] for key in MODEL if key in path_parameters}


@schemathesis.hook
def filter_failure(
    context: schemathesis.HookContext,  # noqa: ARG001 - the hook's own parameters
    failure: Failure,
    case: schemathesis.Case[Any],
    response: schemathesis.Response,
) -> bool:
    """Report a failure unless no schema can avoid it."""
    if isinstance(failure, RejectedPositiveData):
        # Only the path of a specific model describes the input of that model.
        is_generic = "{name}" in case.path
        # Whether a model's numbers overflow is known when they are computed.
        overflows = b'"code":"input_rejected"' in response.content
        # A schema cannot say what is in a table file; the files are images.
        is_table_file = b"no Parquet, Arrow or Excel file" in response.content
        is_table_file |= b"not a table of text" in response.content
        # Any image is valid for a schema, but a digit needs something drawn on it.
        is_blank = b"No foreground is found" in response.content
        # Its largest pixel may not be 1.
        is_unscaled = b"Its pixels are between 0 and 1" in response.content
        return not (is_generic or overflows or is_table_file or is_blank or is_unscaled)
    # A schema cannot require that nested rows of pixels have the same length.
    takes_images = "multipart/form-data" in str(case.operation.definition.raw)
    is_accepted = isinstance(failure, AcceptedNegativeData)
    return not (is_accepted and takes_images and are_pixels(case.body))


def are_pixels(body: Any) -> bool:  # noqa: ANN401 - any JSON
    """Whether a body contains arrays of numbers from 0 to 255."""
    while isinstance(body, dict) and len(body) == 1:
        (body,) = body.values()
    if isinstance(body, list):
        return bool(body) and all(are_pixels(one) for one in body)
    return isinstance(body, int | float) and 0 <= body <= 255
