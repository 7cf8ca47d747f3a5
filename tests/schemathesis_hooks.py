"""What schemathesis cannot learn from the OpenAPI document; `schemathesis.toml` loads this file.

Each hook stands for something that JSON Schema cannot say.
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

# A model that the shipped models and those of tests/test_schemathesis.py have.
MODEL = {"name": "iris", "version": "1"}


@schemathesis.serializer("application/x-ndjson", "text/csv")
def as_text(_: schemathesis.SerializationContext, value: object) -> bytes | None:
    """Tables, which the document describes as text; what is not text becomes an empty body."""
    return value.encode(errors="ignore") if isinstance(value, str) else None


def image(size: tuple[int, int], grey: int) -> bytes:
    """A PNG file."""
    file = io.BytesIO()
    Image.new("L", size, grey).save(file, "PNG")
    return file.getvalue()


IMAGES = st.builds(image, st.tuples(*[st.integers(1, 40)] * 2), st.integers(0, 255))
schemathesis.openapi.format("binary", IMAGES.map(Binary))
schemathesis.openapi.format("base64-image", IMAGES.map(lambda it: base64.b64encode(it).decode()))


@schemathesis.hook
def map_path_parameters(
    context: schemathesis.HookContext, path_parameters: dict[str, Any]
) -> dict[str, Any]:
    """Half of the requests are for a model that exists; random names never are."""
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
    """Keep a failure unless it is one of three that no schema can avoid."""
    if isinstance(failure, RejectedPositiveData):
        # The paths of any model cannot say what one model takes; its own path does.
        is_generic = "{name}" in case.path
        # Whether a model's numbers overflow is known when they are computed.
        overflows = b'"code":"input_rejected"' in response.content
        return not (is_generic or overflows)
    # Pixels may have any size, and be nested; a schema cannot say that rows are as long.
    takes_images = "multipart/form-data" in str(case.operation.definition.raw)
    is_accepted = isinstance(failure, AcceptedNegativeData)
    return not (is_accepted and takes_images and are_pixels(case.body))


def are_pixels(body: Any) -> bool:  # noqa: ANN401 - any JSON
    """Whether a body holds arrays of numbers of 0 to 255 where an image is expected."""
    while isinstance(body, dict) and len(body) == 1:
        (body,) = body.values()
    if isinstance(body, list):
        return bool(body) and all(are_pixels(one) for one in body)
    return isinstance(body, int | float) and 0 <= body <= 255
