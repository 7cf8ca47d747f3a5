"""How each dialect writes the requests, and how its answers are read to be checked."""

import json
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from bench.processes import Post
from bench.workloads import Array, Workload, png

_LENGTH = "inference-header-content-length"
_FORM_EDGE = "edge-of-the-form"

Write = Callable[[Workload], Post]
Read = Callable[[bytes, Mapping[str, str], Workload], Array]


@dataclass(frozen=True)
class Dialect:
    """A way to ask, and the way to read what comes back."""

    write: Write
    read: Read


def dumped(content: object) -> bytes:
    """JSON without blanks."""
    return json.dumps(content, separators=(",", ":")).encode()


def rows_at(path: str, *, image: str | None = None) -> Dialect:
    """``{"instances": rows}`` to a path with a place for the model; answered by rows.

    Args:
        path: with ``{model}``.
        image: how the PNG goes: ``body``, or the name of a form's field; None for numbers.
    """

    def write(asked: Workload) -> Post:
        where = path.format(model=asked.model)
        if image is None:
            return Post(where, dumped({"instances": _nested(asked)}))
        return _image(where, png(asked.rows), image)

    return Dialect(write, _read_rows)


def _image(path: str, file: bytes, field: str) -> Post:
    if field == "body":
        return Post(path, file, {"Content-Type": "image/png"})
    head = (
        f'--{_FORM_EDGE}\r\nContent-Disposition: form-data; name="{field}"; '
        'filename="digit.png"\r\nContent-Type: image/png\r\n\r\n'
    )
    body = head.encode() + file + f"\r\n--{_FORM_EDGE}--\r\n".encode()
    return Post(path, body, {"Content-Type": f"multipart/form-data; boundary={_FORM_EDGE}"})


def _nested(asked: Workload) -> list[list[float]]:
    """Rows of floats: an image's as one flat list, as the course's clients send it."""
    rows: list[list[float]] = asked.rows.reshape(len(asked.rows), -1).astype(float).tolist()
    return rows


def _read_rows(body: bytes, _: Mapping[str, str], asked: Workload) -> Array:
    """Rows, bare or as ``predictions``."""
    answer = json.loads(body)
    found = answer["predictions"] if isinstance(answer, dict) else answer
    return np.array(found, np.float32).reshape(asked.expected.shape)


def _by_name(asked: Workload) -> list[dict[str, float]]:
    return [dict(zip(asked.columns, row, strict=True)) for row in asked.rows.tolist()]


def _write_plain(asked: Workload) -> Post:
    """One object for one row of few features, else rows in the features' order."""
    path = f"/models/{asked.model}/predict"
    if not asked.columns:
        return Post(path, dumped({"image": _nested(asked)[0]}))
    if asked.letter == "A":
        return Post(path, dumped(_by_name(asked)[0]))
    return Post(path, dumped({"instances": _nested(asked)}))


def _write_objects(asked: Workload) -> Post:
    path = f"/models/{asked.model}/predict"
    named = _by_name(asked)
    return Post(path, dumped(named[0] if len(named) == 1 else {"instances": named}))


def _read_plain(body: bytes, _: Mapping[str, str], asked: Workload) -> Array:
    answer = json.loads(body)
    rows = answer.get("predictions", [answer])
    found = np.array([list(row["probabilities"].values()) for row in rows], np.float32)
    return found[:, -asked.expected.shape[1] :]


def _write_csv(asked: Workload) -> Post:
    lines = [",".join(asked.columns), *(",".join(map(str, row)) for row in asked.rows.tolist())]
    body = "\n".join(lines).encode() + b"\n"
    return Post(f"/models/{asked.model}/predict", body, {"Content-Type": "text/csv"})


def _read_csv(body: bytes, _: Mapping[str, str], asked: Workload) -> Array:
    head, *lines = body.decode().splitlines()
    place = head.split(",").index("probability_admitted")
    found = [float(line.split(",")[place]) for line in lines]
    return np.array(found, np.float32).reshape(asked.expected.shape)


def _write_v1(asked: Workload) -> Post:
    return Post(f"/v1/models/{asked.model}:predict", dumped({"instances": _nested(asked)}))


def _write_v1_image(asked: Workload) -> Post:
    file = {"b64": b64encode(png(asked.rows)).decode()}
    return Post(f"/v1/models/{asked.model}:predict", dumped({"instances": [file]}))


def _tensor(asked: Workload) -> dict[str, object]:
    name, datatype = ("features", "FP32") if asked.columns else ("image", "UINT8")
    return {"name": name, "shape": list(asked.rows.shape), "datatype": datatype}


def _write_v2(asked: Workload) -> Post:
    tensor = _tensor(asked) | {"data": asked.rows.ravel().tolist()}
    return Post(f"/v2/models/{asked.model}/infer", dumped({"inputs": [tensor]}))


def _read_v2(body: bytes, _: Mapping[str, str], asked: Workload) -> Array:
    (output,) = json.loads(body)["outputs"]
    return np.array(output["data"], np.float32).reshape(asked.expected.shape)


def _write_binary(asked: Workload) -> Post:
    rows = asked.rows if not asked.columns else asked.rows.astype(np.float32)
    tensor = _tensor(asked) | {"parameters": {"binary_data_size": rows.nbytes}}
    head = dumped({"inputs": [tensor], "parameters": {"binary_data_output": True}})
    headers = {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(head)),
    }
    return Post(f"/v2/models/{asked.model}/infer", head + rows.tobytes(), headers)


def _read_binary(body: bytes, headers: Mapping[str, str], asked: Workload) -> Array:
    if _LENGTH not in headers:
        raise ValueError("the answer is not in bytes")
    found = np.frombuffer(body[int(headers[_LENGTH]) :], np.float32)
    return found.reshape(asked.expected.shape)


PLAIN = "plain"
V1 = "v1"
V2 = "v2"
BINARY = "v2 binary"
OBJECTS = "plain, by name"
CSV = "CSV"
IMAGE = "PNG"
V1_IMAGE = "v1, b64"

OURS: Mapping[str, Dialect] = {
    PLAIN: Dialect(_write_plain, _read_plain),
    OBJECTS: Dialect(_write_objects, _read_plain),
    V1: Dialect(_write_v1, _read_rows),
    V2: Dialect(_write_v2, _read_v2),
    BINARY: Dialect(_write_binary, _read_binary),
    CSV: Dialect(_write_csv, _read_csv),
    IMAGE: Dialect(rows_at("/models/{model}/predict", image="body").write, _read_plain),
    V1_IMAGE: Dialect(_write_v1_image, _read_rows),
}
