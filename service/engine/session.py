"""A loaded ONNX graph: the only importer of onnxruntime."""

import contextlib
import io
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from service.engine.devices import cuda_problem, known_devices, provider_name, providers
from service.engine.dtypes import ABSENT, OF_RUNTIME, Array, Arrays
from service.engine.weights import Weights
from service.errors import DeviceUnavailable, LoadFailed

# Builds since 1.29 send telemetry unless this is set before the import.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime

RUNTIME_VERSION: str = onnxruntime.__version__

_SILENT = 4  # our own messages say what goes wrong
# y = x + x, to find out whether a device opens any graph.
_SMALLEST = (
    b'\x08\x08:5\n\x0e\n\x01x\n\x01x\x12\x01y"\x03Add\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01'
    b"\x12\x04\n\x02\x08\x01b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)
# The arena grows with the largest run and keeps its memory; with this option it releases what is
# free when the run ends. Small runs keep theirs, since allocating it again takes time
# (docs/decisions/0018-runtime.md).
_SHRINK, _ARENA = "memory.enable_memory_arena_shrinkage", "cpu:0"
_LARGE_BYTES = 16 * 1024 * 1024
_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"
# Without a folder ONNX Runtime would search the current one.
_NO_FOLDER = os.devnull
# A tensor, an optional tensor, or a sequence of maps from class label to probability, as written by
# scikit-learn's converters.
_TYPE = re.compile(r"(?:optional\()?tensor\((\w+)\)\)?|(seq\(map\(\w+,tensor\(float\)\)\))")


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a graph; -1 in the shape is an axis of any length.

    An empty shape is a scalar, or a tensor whose rank the graph does not give.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    optional: bool = False


@dataclass(frozen=True)
class SessionConfig:
    """How a graph is opened.

    ``threads`` compute within one run. A run of more rows than ``arena_rows`` releases its memory.
    ``gpu_memory_mib`` limits what a session allocates on the GPU; 0 is no limit.
    """

    threads: int = 1
    arena_rows: int = 1024
    gpu_memory_mib: int = 0


@dataclass(frozen=True)
class DeviceChoice:
    """The device requested and the one that is used, with the reason if they differ."""

    requested: str
    actual: str
    reason: str | None = None


def choose_device(requested: str) -> DeviceChoice:
    """Find out which device can be used, without ONNX Runtime's own attempt and its log lines.

    Raises:
        DeviceUnavailable: the requested device cannot be used.
    """
    if requested == "cpu":
        return DeviceChoice(requested, "cpu")
    wanted: str = "cuda" if requested == "auto" else requested
    problem = _problem(wanted)
    if problem is None:
        return DeviceChoice(requested, wanted)
    if requested == "auto":
        return DeviceChoice(requested, "cpu", problem)
    raise DeviceUnavailable(requested, problem)


def available_devices() -> Sequence[str]:
    """The devices that this build of ONNX Runtime supports, whether or not they work here."""
    return known_devices(onnxruntime.get_available_providers())


class Session:
    """One graph, ready to run on one device. Safe to call from several threads."""

    def __init__(
        self, session: "onnxruntime.InferenceSession", device: str, config: SessionConfig
    ) -> None:
        self._session = session
        self.device = device
        self.config = config
        self.inputs = tuple(_spec(node) for node in session.get_inputs())
        self.outputs = tuple(_spec(node) for node in session.get_outputs())
        self._has_optional_inputs = any(spec.optional for spec in self.inputs)
        self._input_names = [spec.name for spec in self.inputs]
        self._output_names = [spec.name for spec in self.outputs]
        self._shrinking = _run_options(_SHRINK, _ARENA)
        self._has_free_axes = self._has_optional_inputs or any(
            not _is_batch(spec.shape, spec.datatype) for spec in (*self.inputs, *self.outputs)
        )

    @classmethod
    def open(
        cls,
        model: bytes,
        device: str,
        threads: int,
        weights: Weights | None = None,
        config: SessionConfig | None = None,
    ) -> Self:
        """Load a serialized graph. ONNX Runtime reads nothing from the models folder.

        Args:
            model: the content of ``model.onnx``.
            device: as `choose_device` found it.
            threads: ONNX Runtime threads within one run, without ``config``.
            weights: external data of the graph.
            config: how it is opened.

        Raises:
            LoadFailed: ONNX Runtime rejects the graph, or silently uses another device.
        """
        config = config or SessionConfig(threads)
        wanted = providers(device, gpu_memory_mib=config.gpu_memory_mib)
        try:
            with _options_with(weights or Weights(), config.threads) as options:
                session = onnxruntime.InferenceSession(model, options, providers=wanted)
        except OSError as error:
            reason = f"its weights cannot be copied for the runtime: {error.strerror}"
            raise LoadFailed(reason) from error
        except Exception as error:
            raise LoadFailed(f"ONNX Runtime rejects model.onnx: {_first_line(error)}") from error
        if session.get_providers()[0] != wanted[0][0]:
            raise LoadFailed(f"ONNX Runtime uses {session.get_providers()[0]}, not {wanted[0][0]}")
        session.disable_fallback()
        # It keeps the file for a fallback to another device, which doubles the memory.
        session._model_bytes = None  # noqa: SLF001 - the library has no other way, and says so
        return cls(session, device, config)

    def run(self, arrays: Arrays, control: "onnxruntime.RunOptions | None" = None) -> Arrays:
        """Run the graph on arrays in the order of ``inputs``; returns those of ``outputs``.

        `ABSENT` stands for an optional tensor that is left out.

        Args:
            arrays: the inputs.
            control: of `new_control`, with which another thread may terminate the run.

        Raises:
            Exception: whatever ONNX Runtime raises; its errors share no narrower base.
        """
        if not self._is_large(arrays):
            return self._run(arrays, control)
        if control is None:
            return self._run(arrays, self._shrinking)
        control.add_run_config_entry(_SHRINK, _ARENA)
        return self._run(arrays, control)

    def _run(self, arrays: Arrays, options: "onnxruntime.RunOptions | None") -> Arrays:
        feeds = dict(zip(self._input_names, arrays, strict=True))
        if self._has_optional_inputs:
            feeds = {name: array for name, array in feeds.items() if array is not ABSENT}
        return tuple(map(_as_array, self._session.run(self._output_names, feeds, options)))

    def _is_large(self, arrays: Arrays) -> bool:
        """Whether a run may need more memory than is kept for the next one.

        With a second free axis it may need any amount: attention needs the square of its sequence
        length, whatever the size of the input.
        """
        if self.device != "cpu":
            return False
        if self._has_free_axes:
            return True
        first = arrays[0] if arrays else ABSENT
        rows = len(first) if first.ndim else 1
        return rows > self.config.arena_rows or first.nbytes > _LARGE_BYTES


def new_control() -> "onnxruntime.RunOptions":
    """The control of one run: another thread may set its ``terminate``, and the run then fails."""
    return onnxruntime.RunOptions()


def terminate(control: "onnxruntime.RunOptions") -> None:
    """Terminate the runs of a control, and those that begin with it afterwards."""
    control.terminate = True


@contextlib.contextmanager
def _options_with(weights: Weights, threads: int) -> "Iterator[onnxruntime.SessionOptions]":
    """Session options for a graph with these weights; valid until the graph is open."""
    options = _session_options(threads)
    if weights.initializers:
        names, contents = zip(*weights.initializers.items(), strict=True)
        sizes = list(map(len, contents))
        options.add_external_initializers_from_files_in_memory(names, contents, sizes)
    if not weights.nested:
        options.add_session_config_entry(_WEIGHTS_FOLDER, _NO_FOLDER)
        yield options
        return
    with weights.nested_folder() as folder:
        options.add_session_config_entry(_WEIGHTS_FOLDER, str(folder))
        yield options


def _session_options(threads: int) -> "onnxruntime.SessionOptions":
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _SILENT
    # A thread that spins while it waits takes the core from the event loop, the other workers, or
    # other services of the machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


def _run_options(key: str, value: str) -> "onnxruntime.RunOptions":
    options = onnxruntime.RunOptions()
    options.add_run_config_entry(key, value)
    return options


def _spec(node: "onnxruntime.NodeArg") -> TensorSpec:
    found = _TYPE.fullmatch(node.type)
    if found is None or (found[1] and found[1] not in OF_RUNTIME):
        raise LoadFailed(f"{node.name!r} is a {node.type}, which no protocol here supports")
    if found[2]:
        return TensorSpec(node.name, "FP32", (-1, -1))
    shape = tuple(axis if isinstance(axis, int) else -1 for axis in node.shape)
    return TensorSpec(node.name, OF_RUNTIME[found[1]], shape, node.type.startswith("optional"))


def _problem(device: str) -> str | None:
    """Why a device cannot be used; None if it can."""
    name = provider_name(device)
    if name not in onnxruntime.get_available_providers():
        if device == "cuda":
            return "this build of ONNX Runtime has no CUDA (onnxruntime-gpu is for Linux x86-64)"
        return f"this build of ONNX Runtime has no {name}; it has {', '.join(available_devices())}"
    if device in {"cuda", "tensorrt"}:
        # It prints what it does not find; our own probe reports that.
        with contextlib.redirect_stdout(io.StringIO()):
            onnxruntime.preload_dlls()
        folder = Path(onnxruntime.__file__).parent / "capi"
        return cuda_problem(folder / f"libonnxruntime_providers_{device}.so")
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            Session.open(_SMALLEST, device, 1)
    except LoadFailed as error:
        return str(error)
    return None


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _is_batch(shape: Sequence[int], datatype: str) -> bool:
    """Whether rows along the first axis are a tensor's only free axis."""
    return len(shape) > 1 and shape[0] < 0 and min(shape[1:]) >= 0 and datatype != "BYTES"


def _as_array(output: Any) -> Array:  # noqa: ANN401 - the runtime answers several kinds
    """An output as one array; of a sequence of maps, each becomes a row of its values."""
    if isinstance(output, list):
        classes = len(output[0]) if output else 0
        rows = [list(shares.values()) for shares in output]
        return np.array(rows, np.float32).reshape(len(rows), classes)
    return ABSENT if output is None else np.asarray(output)
