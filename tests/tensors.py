"""Requests of the Open Inference Protocol, created by the code of its reference client."""

from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import orjson
import tritonclient.http as triton
from tritonclient.utils import np_to_triton_dtype

Array = npt.NDArray[Any]
LENGTH = "inference-header-content-length"


def datatype_of(array: Array) -> str:
    """The datatype of an array in the protocol."""
    return "BYTES" if array.dtype.kind in "OUS" else str(np_to_triton_dtype(array.dtype))


def infer_in_binary(
    client: httpx.Client, model: str, inputs: Mapping[str, Array]
) -> httpx.Response:
    """Send every input in binary, and request every output in binary."""
    tensors = []
    for name, array in inputs.items():
        tensor = triton.InferInput(name, array.shape, datatype_of(array))
        tensor.set_data_from_numpy(array.astype(object) if array.dtype.kind == "U" else array)
        tensors.append(tensor)
    body, length = triton.InferenceServerClient.generate_request_body(tensors)
    headers = {} if length is None else {LENGTH: str(length)}
    return client.post(f"/v2/models/{model}/infer", content=body, headers=headers)


def outputs_in_binary(response: httpx.Response, outputs: Sequence[str]) -> list[Array | None]:
    """The arrays of a response to `infer_in_binary`; None for an absent output."""
    length = response.headers.get(LENGTH)
    result = triton.InferenceServerClient.parse_response_body(
        response.content, header_length=None if length is None else int(length)
    )
    return [result.as_numpy(name) for name in outputs]


def infer_in_json(client: httpx.Client, model: str, inputs: Mapping[str, Array]) -> httpx.Response:
    """Send every input as flat JSON data."""
    tensors = [
        {
            "name": name,
            "shape": list(array.shape),
            "datatype": datatype_of(array),
            "data": [_text(value) for value in array.ravel().tolist()],
        }
        for name, array in inputs.items()
    ]
    return client.post(f"/v2/models/{model}/infer", content=orjson.dumps({"inputs": tensors}))


def outputs_in_json(response: httpx.Response, outputs: Sequence[str]) -> list[Array | None]:
    """The arrays of a JSON response, NaN for null; None for an absent output."""
    tensors = {tensor["name"]: tensor for tensor in orjson.loads(response.content)["outputs"]}
    return [_array(tensors[name]) if name in tensors else None for name in outputs]


def _array(tensor: Mapping[str, Any]) -> Array:
    shape, datatype = tensor["shape"], tensor["datatype"]
    if datatype == "BYTES":
        return np.array([text.encode() for text in tensor["data"]], object).reshape(shape)
    return np.array(tensor["data"], triton_dtype(datatype)).reshape(shape)


def triton_dtype(datatype: str) -> Any:  # noqa: ANN401 - numpy's own
    """The numpy type of a datatype of the protocol."""
    names = {"BOOL": "bool", "FP16": "float16", "FP32": "float32", "FP64": "float64"}
    return np.dtype(names.get(datatype, datatype.lower()))


def _text(value: object) -> object:
    return value.decode() if isinstance(value, bytes) else value
