"""Every node test case of the onnx package, served as it is: ``pytest -s`` prints the counts."""

import warnings
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime
from onnx import TensorProto, numpy_helper
from onnx.backend.test.case.node import collect_testcases
from onnx.backend.test.case.test_case import TestCase as Case

from tests.conftest import StartApp
from tests.models import publish_bare
from tests.tensors import (
    Array,
    infer_in_binary,
    infer_in_json,
    outputs_in_binary,
    outputs_in_json,
)


@cache
def every_case() -> list[Case]:
    """The package's cases; some divide by zero or overflow while they are made, on purpose."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return collect_testcases()


def serialized(case: Case) -> bytes:
    """The content of its ``model.onnx``."""
    content: bytes = case.model.SerializeToString() if case.model else b""
    return content


class Direct:
    """A case's model run by ONNX Runtime itself, without the service.

    ``outputs`` is None if the runtime rejects the model or its inputs.
    """

    def __init__(self, case: Case) -> None:
        given, published = (case.data_sets or ())[0]
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        self.names: list[str] = []
        self.inputs: dict[str, Array] = {}
        self.outputs: list[Any] | None = None
        try:
            session = onnxruntime.InferenceSession(
                serialized(case), options, ["CPUExecutionProvider"]
            )
            names = [node.name for node in session.get_inputs()]
            values = [_plain(value) for value in given]
            self.names = [node.name for node in session.get_outputs()]
            self.outputs = session.run(None, dict(zip(names, values, strict=True)))
            self.inputs = dict(zip(names, values, strict=True))
        except Exception:  # noqa: BLE001 - the runtime's errors share no base; the service must say
            self.outputs = None
        self.agrees = self.outputs is not None and all(
            _close(got, _plain(wanted), case)
            for got, wanted in zip(self.outputs, published, strict=True)
        )


def _plain(value: Any) -> Any:  # noqa: ANN401 - cases hold arrays, messages, scalars and lists
    if isinstance(value, TensorProto):
        return numpy_helper.to_array(value)
    return np.asarray(value) if isinstance(value, np.generic) else value


def _close(got: Any, wanted: Any, case: Case) -> bool:  # noqa: ANN401 - as above
    if not isinstance(got, np.ndarray) or not isinstance(wanted, np.ndarray):
        return False
    if got.shape != wanted.shape:
        return False
    if got.dtype.kind in "OUS":
        return bool(got.astype(str).tolist() == wanted.astype(str).tolist())
    close = np.allclose(got, wanted, rtol=case.rtol, atol=case.atol, equal_nan=True)
    return bool(got.dtype == wanted.dtype and close)


def _same(got: Sequence[Array | None], wanted: Sequence[Any], *, finite: bool) -> bool:
    """Whether arrays are equal to the last bit; ``finite`` leaves out what JSON cannot write."""
    return all(
        array is not None
        and array.shape == direct.shape
        and _bits(array, finite=finite) == _bits(direct, finite=finite)
        for array, direct in zip(got, wanted, strict=True)
    )


def _bits(array: Array, *, finite: bool) -> object:
    if array.dtype.kind in "OUS":
        return [v if isinstance(v, bytes) else str(v).encode() for v in array.ravel().tolist()]
    if array.dtype.kind == "f":
        array = np.where(np.isnan(array) | (finite & np.isinf(array)), np.nan, array)
        # Every NaN is written as null, whatever its own bits.
        return array.dtype, np.isnan(array).tobytes(), np.nan_to_num(array).tobytes()
    return array.dtype, array.tobytes()


def _verdict(response: httpx.Response) -> str:
    """The status of a response; an error has a message of the service."""
    if response.status_code != httpx.codes.OK:
        assert response.status_code in {400, 409}, response.text
        assert len(response.json()["error"]) > len("Model cannot be served"), response.text
    return str(response.status_code)


def _judge(client: httpx.Client, case: Case, counts: Counter[str]) -> list[str]:
    """Count what becomes of a case in binary and in JSON; give what is wrong."""
    direct = Direct(case)
    if client.get(f"/v2/models/{case.name}/ready").status_code != httpx.codes.OK:
        counts[f"rejected at load: {_verdict(infer_in_json(client, case.name, {}))}"] += 1
        return [f"{case.name} could be served"] if _servable(direct) else []
    if direct.outputs is None or not direct.agrees:
        counts["the runtime itself disagrees or fails"] += 1
        _verdict(infer_in_binary(client, case.name, direct.inputs))
        _verdict(infer_in_json(client, case.name, _writable(direct.inputs)))
        return []
    wrong = []
    for form, send, read in (
        ("binary", infer_in_binary, outputs_in_binary),
        ("JSON", infer_in_json, outputs_in_json),
    ):
        inputs = direct.inputs if form == "binary" else _writable(direct.inputs)
        response = send(client, case.name, inputs)
        if _verdict(response) != "200":
            counts[f"{form} rejected: {_why(response)}"] += 1
        elif _same(read(response, direct.names), direct.outputs, finite=form == "JSON"):
            counts[f"equal in {form}"] += 1
        else:
            wrong.append(f"{case.name} differs in {form}")
    return wrong


def _servable(direct: Direct) -> bool:
    """Whether all that goes in and comes out is of a type that the protocol has."""
    values = [*direct.inputs.values(), *(direct.outputs or [])]
    return bool(direct.agrees) and all(
        isinstance(value, np.ndarray) and value.dtype.isbuiltin for value in values
    )


def _writable(inputs: dict[str, Array]) -> dict[str, Array]:
    """Inputs as JSON can have them: strings instead of their bytes."""
    return {
        name: array.astype(str) if array.dtype.kind in "OS" else array
        for name, array in inputs.items()
    }


def _why(response: httpx.Response) -> str:
    sentence = response.json()["error"]
    for known in ("FP16, which JSON cannot carry", "NaN and infinity"):
        if known in sentence:
            return known
    return str(sentence)


def test_every_case_gets_the_published_outputs_or_a_reason(models: Path, start: StartApp) -> None:
    """Many of them at once in one service: equal to ONNX Runtime's own run, in both forms."""
    cases = every_case()
    for case in cases:
        publish_bare(models, case.name, serialized(case))
    client = start(log_requests="none")
    counts: Counter[str] = Counter()

    wrong = [problem for case in cases for problem in _judge(client, case, counts)]

    for what, count in sorted(counts.items()):
        print(f"{count:5} {what}")  # noqa: T201 - docs/log.md quotes it
    assert wrong == []
    assert set(counts) == {
        "equal in JSON",
        "equal in binary",
        "JSON rejected: FP16, which JSON cannot carry",
        "JSON rejected: NaN and infinity",
        "rejected at load: 409",
        "the runtime itself disagrees or fails",
    }
    assert counts["equal in binary"] > len(cases) * 0.7
