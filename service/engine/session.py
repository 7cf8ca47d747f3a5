"""A loaded ONNX graph: the only importer of onnxruntime."""

import contextlib
import io
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from service.engine.cuda import cuda_problem
from service.engine.datatypes import ABSENT, OF_RUNTIME, Array, Arrays
from service.errors import DeviceUnavailable, LoadFailed
from service.settings import Device

# Builds since 1.29 send telemetry unless this is set before the import.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime

ActualDevice = Literal["cpu", "cuda"]

_CUDA = "CUDAExecutionProvider"
_CPU = "CPUExecutionProvider"
_SILENT = 4  # what goes wrong is told by our own sentences
_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"
# A tensor, an optional tensor, or what scikit-learn's converters write for probabilities: a
# sequence of maps from label to share.
_TYPE = re.compile(r"(?:optional\()?tensor\((\w+)\)\)?|(seq\(map\(\w+,tensor\(float\)\)\))")


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a graph; -1 in the shape is an axis of any length.

    An empty shape is a scalar, or a tensor whose rank the graph does not tell.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    optional: bool = False


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
        self._may_lack = any(spec.optional for spec in self.inputs)
        self._input_names = [spec.name for spec in self.inputs]
        self._output_names = [spec.name for spec in self.outputs]

    @classmethod
    def open(
        cls, model: bytes, device: ActualDevice, threads: int, folder: Path | None = None
    ) -> Self:
        """Load a serialised graph.

        Args:
            model: the content of ``model.onnx``.
            device: as `choose_device` found it.
            threads: ONNX Runtime threads within one run.
            folder: where weights that the graph keeps outside itself may lie, and nowhere else.

        Raises:
            LoadFailed: ONNX Runtime refuses the graph, or silently took another device.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _SILENT
        if folder is not None:
            options.add_session_config_entry(_WEIGHTS_FOLDER, str(folder))
        providers = [_CUDA, _CPU] if device == "cuda" else [_CPU]
        try:
            session = onnxruntime.InferenceSession(model, options, providers=providers)
        except Exception as error:
            raise LoadFailed(f"ONNX Runtime refuses model.onnx: {_first_line(error)}") from error
        if session.get_providers()[0] != providers[0]:
            raise LoadFailed(f"ONNX Runtime took {session.get_providers()[0]}, not {providers[0]}")
        session.disable_fallback()
        # It keeps the file for a fallback to another device, and with it twice the memory.
        session._model_bytes = None  # noqa: SLF001 - the library has no other way, and says so
        return cls(session, device)

    def run(self, arrays: Arrays) -> Arrays:
        """Run the graph on arrays in the order of ``inputs``; answers in that of ``outputs``.

        `ABSENT` stands for an optional tensor that is left out.

        Raises:
            Exception: whatever ONNX Runtime raises; its errors share no narrower base.
        """
        feeds = dict(zip(self._input_names, arrays, strict=True))
        if self._may_lack:
            feeds = {name: array for name, array in feeds.items() if array is not ABSENT}
        return tuple(map(_plain, self._session.run(self._output_names, feeds)))


def _spec(node: "onnxruntime.NodeArg") -> TensorSpec:
    found = _TYPE.fullmatch(node.type)
    if found is None or (found[1] and found[1] not in OF_RUNTIME):
        raise LoadFailed(f"{node.name!r} is a {node.type}, which no protocol here can carry")
    if found[2]:
        return TensorSpec(node.name, "FP32", (-1, -1))
    shape = tuple(axis if isinstance(axis, int) else -1 for axis in node.shape)
    return TensorSpec(node.name, OF_RUNTIME[found[1]], shape, node.type.startswith("optional"))


def _plain(output: Any) -> Array:  # noqa: ANN401 - the runtime answers several kinds
    """An output as one array; a sequence of maps becomes a row of shares each, in their order."""
    if isinstance(output, list):
        classes = len(output[0]) if output else 0
        rows = [list(shares.values()) for shares in output]
        return np.array(rows, np.float32).reshape(len(rows), classes)
    return ABSENT if output is None else np.asarray(output)


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
