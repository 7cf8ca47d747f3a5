"""A loaded ONNX graph: the only importer of onnxruntime."""

import contextlib
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from service.engine.cuda import cuda_problem
from service.errors import DeviceUnavailable, LoadFailed
from service.settings import Device

# Builds since 1.29 send telemetry unless this is set before the import.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime

Array = npt.NDArray[np.generic]
Arrays = tuple[Array, ...]
ActualDevice = Literal["cpu", "cuda"]

_CUDA = "CUDAExecutionProvider"
_CPU = "CPUExecutionProvider"
_ERRORS_ONLY = 3
_DATATYPES = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
}


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a graph; -1 in the shape is an axis of any length."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class DeviceChoice:
    """The device asked for and the one that is used, with the reason where they differ."""

    requested: Device
    actual: ActualDevice
    reason: str | None = None


def choose_device(requested: Device) -> DeviceChoice:
    """Find out which device can be used, without ONNX Runtime's own attempt and its noise.

    Raises:
        DeviceUnavailable: ``cuda`` was demanded and cannot be used.
    """
    if requested == "cpu":
        return DeviceChoice(requested, "cpu")
    problem = _cuda_problem()
    if problem is None:
        return DeviceChoice(requested, "cuda")
    if requested == "cuda":
        raise DeviceUnavailable(requested, problem)
    return DeviceChoice(requested, "cpu", problem)


class Session:
    """One graph, ready to run on one device. Safe to call from several threads."""

    def __init__(self, session: "onnxruntime.InferenceSession", device: ActualDevice) -> None:
        self._session = session
        self.device = device
        self.inputs = tuple(_spec(node) for node in session.get_inputs())
        self.outputs = tuple(_spec(node) for node in session.get_outputs())
        self._input_names = [spec.name for spec in self.inputs]
        self._output_names = [spec.name for spec in self.outputs]

    @classmethod
    def open(cls, model: bytes, device: ActualDevice, threads: int) -> Self:
        """Load a serialised graph.

        Args:
            model: the content of ``model.onnx``.
            device: as `choose_device` found it.
            threads: ONNX Runtime threads within one run.

        Raises:
            LoadFailed: ONNX Runtime refuses the graph, or silently took another device.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        providers = [_CUDA, _CPU] if device == "cuda" else [_CPU]
        try:
            session = onnxruntime.InferenceSession(model, options, providers=providers)
        except Exception as error:
            raise LoadFailed(f"ONNX Runtime refuses model.onnx: {_first_line(error)}") from error
        if session.get_providers()[0] != providers[0]:
            raise LoadFailed(f"ONNX Runtime took {session.get_providers()[0]}, not {providers[0]}")
        session.disable_fallback()
        return cls(session, device)

    def run(self, arrays: Arrays) -> Arrays:
        """Run the graph on arrays in the order of ``inputs``; answers in that of ``outputs``.

        Raises:
            Exception: whatever ONNX Runtime raises; its errors share no narrower base.
        """
        feeds = dict(zip(self._input_names, arrays, strict=True))
        return tuple(self._session.run(self._output_names, feeds))


def _spec(node: "onnxruntime.NodeArg") -> TensorSpec:
    if node.type not in _DATATYPES:
        raise LoadFailed(f"{node.name!r} is a {node.type}, which is not served yet")
    shape = tuple(axis if isinstance(axis, int) else -1 for axis in node.shape)
    return TensorSpec(node.name, _DATATYPES[node.type], shape)


def _cuda_problem() -> str | None:
    if _CUDA not in onnxruntime.get_available_providers():
        return "this build of ONNX Runtime has no CUDA (onnxruntime-gpu is for Linux x86-64)"
    # It prints what it does not find; our own probe tells that in a sentence.
    with contextlib.redirect_stdout(io.StringIO()):
        onnxruntime.preload_dlls()
    folder = Path(onnxruntime.__file__).parent / "capi"
    return cuda_problem(folder / "libonnxruntime_providers_cuda.so")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
