"""Request formats of each protocol: how to write a request, and how to read its response."""

import json
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from bench.processes import Post
from bench.workloads import Array, Workload, png

_LENGTH = "inference-header-content-length"
_BOUNDARY = "form-boundary"

Write = Callable[[Workload], Post]
Read = Callable[[bytes, Mapping[str, str], Workload], Array]


@dataclass(frozen=True)
class RequestFormat:
    """How a workload becomes a request, and a response an array of outputs."""

    write: Write
    read: Read


def dump_json(content: object) -> bytes:
    """JSON without spaces."""
    return json.dumps(content, separators=(",", ":")).encode()


def rows_at(path: str, *, image: str | None = None) -> RequestFormat:
    """``{"instances": rows}`` to the path of a model; the response has rows of outputs.

    Args:
        path: contains ``{model}``.
        image: how the PNG is sent: ``body``, or the name of a form field; None for numbers.
    """

    def write(workload: Workload) -> Post:
        url_path = path.format(model=workload.model)
        if image is None:
            return Post(url_path, dump_json({"instances": _nested(workload)}))
        return _image(url_path, png(workload.rows), image)

    return RequestFormat(write, _read_rows)


def _image(path: str, file: bytes, field: str) -> Post:
    if field == "body":
        return Post(path, file, {"Content-Type": "image/png"})
    head = (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; '
        'filename="digit.png"\r\nContent-Type: image/png\r\n\r\n'
    )
    body = head.encode() + file + f"\r\n--{_BOUNDARY}--\r\n".encode()
    return Post(path, body, {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"})


def _nested(workload: Workload) -> list[list[float]]:
    """Rows of floats; an image is one flat list of its pixels."""
    rows: list[list[float]] = workload.rows.reshape(len(workload.rows), -1).astype(float).tolist()
    return rows


def _read_rows(body: bytes, _: Mapping[str, str], workload: Workload) -> Array:
    """Read a list of rows, or an object with ``predictions``."""
    document = json.loads(body)
    found = document["predictions"] if isinstance(document, dict) else document
    return np.array(found, np.float32).reshape(workload.expected.shape)


def _by_name(workload: Workload) -> list[dict[str, float]]:
    return [dict(zip(workload.columns, row, strict=True)) for row in workload.rows.tolist()]


def _write_native(workload: Workload) -> Post:
    """One object for a row of few features, otherwise rows in the order of the features."""
    path = f"/models/{workload.model}/predict"
    if not workload.columns:
        return Post(path, dump_json({"image": _nested(workload)[0]}))
    if workload.letter == "A":
        return Post(path, dump_json(_by_name(workload)[0]))
    return Post(path, dump_json({"instances": _nested(workload)}))


def _write_objects(workload: Workload) -> Post:
    path = f"/models/{workload.model}/predict"
    named = _by_name(workload)
    return Post(path, dump_json(named[0] if len(named) == 1 else {"instances": named}))


def _read_native(body: bytes, _: Mapping[str, str], workload: Workload) -> Array:
    document = json.loads(body)
    rows = document.get("predictions", [document])
    found = np.array([list(row["probabilities"].values()) for row in rows], np.float32)
    return found[:, -workload.expected.shape[1] :]


def _write_csv(workload: Workload) -> Post:
    lines = [
        ",".join(workload.columns),
        *(",".join(map(str, row)) for row in workload.rows.tolist()),
    ]
    body = "\n".join(lines).encode() + b"\n"
    return Post(f"/models/{workload.model}/predict", body, {"Content-Type": "text/csv"})


def _read_csv(body: bytes, _: Mapping[str, str], workload: Workload) -> Array:
    head, *lines = body.decode().splitlines()
    column = head.split(",").index("probability_admitted")
    found = [float(line.split(",")[column]) for line in lines]
    return np.array(found, np.float32).reshape(workload.expected.shape)


def _write_v1(workload: Workload) -> Post:
    return Post(f"/v1/models/{workload.model}:predict", dump_json({"instances": _nested(workload)}))


def _write_v1_image(workload: Workload) -> Post:
    file = {"b64": b64encode(png(workload.rows)).decode()}
    return Post(f"/v1/models/{workload.model}:predict", dump_json({"instances": [file]}))


def _tensor(workload: Workload) -> dict[str, object]:
    name, datatype = ("features", "FP32") if workload.columns else ("image", "UINT8")
    return {"name": name, "shape": list(workload.rows.shape), "datatype": datatype}


def _write_v2(workload: Workload) -> Post:
    tensor = _tensor(workload) | {"data": workload.rows.ravel().tolist()}
    return Post(f"/v2/models/{workload.model}/infer", dump_json({"inputs": [tensor]}))


def _read_v2(body: bytes, _: Mapping[str, str], workload: Workload) -> Array:
    (output,) = json.loads(body)["outputs"]
    return np.array(output["data"], np.float32).reshape(workload.expected.shape)


def _write_binary(workload: Workload) -> Post:
    rows = workload.rows if not workload.columns else workload.rows.astype(np.float32)
    tensor = _tensor(workload) | {"parameters": {"binary_data_size": rows.nbytes}}
    head = dump_json({"inputs": [tensor], "parameters": {"binary_data_output": True}})
    headers = {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(head)),
    }
    return Post(f"/v2/models/{workload.model}/infer", head + rows.tobytes(), headers)


def _read_binary(body: bytes, headers: Mapping[str, str], workload: Workload) -> Array:
    if _LENGTH not in headers:
        raise ValueError("the response is not binary")
    found = np.frombuffer(body[int(headers[_LENGTH]) :], np.float32)
    return found.reshape(workload.expected.shape)


NATIVE = "native"
V1 = "v1"
V2 = "v2"
BINARY = "v2 binary"
OBJECTS = "native, by name"
CSV = "CSV"
IMAGE = "PNG"
V1_IMAGE = "v1, b64"

OURS: Mapping[str, RequestFormat] = {
    NATIVE: RequestFormat(_write_native, _read_native),
    OBJECTS: RequestFormat(_write_objects, _read_native),
    V1: RequestFormat(_write_v1, _read_rows),
    V2: RequestFormat(_write_v2, _read_v2),
    BINARY: RequestFormat(_write_binary, _read_binary),
    CSV: RequestFormat(_write_csv, _read_csv),
    IMAGE: RequestFormat(rows_at("/models/{model}/predict", image="body").write, _read_native),
    V1_IMAGE: RequestFormat(_write_v1_image, _read_rows),
}
