"""A loaded ONNX graph and its external weights: the service's only importer of onnxruntime."""

import contextlib
import io
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from service.bundle.errors import BundleError
from service.bundle.onnx_file import GraphSummary
from service.bundle.runtime_messages import describe_runtime_error, explain_unsupported_type
from service.bundle.store import path_inside, read_file, require_regular
from service.engine.devices import (
    MIB,
    find_cuda_problem,
    find_driver_problem,
    get_provider_name,
    list_devices,
    list_providers,
    read_memory_limit,
)
from service.engine.tensors import ABSENT, Array, Arrays, TensorSpec
from service.errors import DeviceUnavailable, LoadFailed

# Builds since 1.29 send telemetry unless this is set before the import.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime

RUNTIME_VERSION: str = onnxruntime.__version__

_LOG_FATAL = 4  # the exceptions raised here describe what went wrong
onnxruntime.set_default_logger_severity(_LOG_FATAL)
# y = x + x, to test whether a device can open any graph.
_SMALLEST_GRAPH = (
    b'\x08\x08:5\n\x0e\n\x01x\n\x01x\x12\x01y"\x03Add\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01'
    b"\x12\x04\n\x02\x08\x01b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)
# The arena grows with the largest run and keeps its memory; with this option it releases free
# memory when a run ends. Small runs skip it, since allocating the memory again takes time
# (docs/decisions/0018-runtime.md).
_SHRINK, _ARENA = "memory.enable_memory_arena_shrinkage", "cpu:0"
_LARGE_BYTES = 16 * 1024 * 1024
_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"
# Without a folder ONNX Runtime would search the current one.
_NO_FOLDER = os.devnull
# External weights are in memory twice while a graph is loaded: the files' content, and the copy of
# ONNX Runtime.
_WEIGHT_COPIES = 2
# A tensor, an optional tensor, or a sequence of maps from class label to probability, which
# `service.bundle.graph_outputs` replaces unless a function of the graph makes it.
_TYPE = re.compile(r"(?:optional\()?tensor\((\w+)\)\)?|(seq\(map\(\w+,tensor\(float\)\)\))")
# The datatype of each element type of ONNX Runtime.
_DATATYPES: Mapping[str, str] = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float": "FP32",
    "double": "FP64",
    "string": "BYTES",
}


@dataclass(frozen=True)
class Weights:
    """External data of a graph: the content of each file, by the name that the graph uses.

    ``initializers`` belong to the main graph. ``nested`` ones belong to its subgraphs, functions
    and attributes, and ONNX Runtime can only read those from files.
    """

    initializers: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    nested: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    @contextlib.contextmanager
    def nested_folder(self) -> Iterator[str]:
        """Write the nested weights to a private folder, from which ONNX Runtime opens them.

        The files are removed on exit; ONNX Runtime keeps its mappings of them until it is closed.
        Raise `OSError` if they cannot be written.
        """
        if not self.nested:
            yield _NO_FOLDER
            return
        with tempfile.TemporaryDirectory(
            prefix="onward-weights-", ignore_cleanup_errors=True
        ) as folder:
            for location, content in self.nested.items():
                path = Path(folder, location)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            yield folder


NO_WEIGHTS = Weights()


def read_weights(folder: Path, graph: GraphSummary) -> Weights:
    """Read the external data of a graph into memory.

    ONNX Runtime itself would map the files: truncating one while it serves would then end the
    process by SIGBUS, and rewriting one would change the predictions. Raise `BundleError` if a file
    is missing, outside the version's folder, or unreadable, or if all are too large for the memory
    of this process.
    """
    paths = {name: path_inside(folder, name) for name in graph.weights | graph.nested_weights}
    size = sum(require_regular(path) for path in set(paths.values()))
    memory = read_memory_limit()
    if _WEIGHT_COPIES * size > memory:
        raise BundleError(
            f"its weights take {size // MIB:,} MiB, loading them twice that, and this process may "
            f"use {memory // MIB:,} MiB"
        )
    contents = {path: read_file(path, size) for path in set(paths.values())}
    return Weights(
        {name: contents[paths[name]] for name in graph.weights},
        {name: contents[paths[name]] for name in graph.nested_weights},
    )


@dataclass(frozen=True)
class SessionConfig:
    """Options for opening a graph.

    Attributes:
        threads: intra-op threads of one run.
        arena_rows: a run of more rows releases its memory when it ends.
        gpu_memory_mib: limit of the session's memory on the GPU; 0 is no limit.
    """

    threads: int = 1
    arena_rows: int = 1024
    gpu_memory_mib: int = 0


@dataclass(frozen=True)
class DeviceChoice:
    """The requested device and the one in use, with the reason if they differ."""

    requested: str
    actual: str
    reason: str | None = None


def choose_device(requested: str) -> DeviceChoice:
    """Return the device to use; raise `DeviceUnavailable` if the requested one cannot be used.

    The device is tested here, because ONNX Runtime would print warnings and fall back silently.
    """
    if requested == "cpu":
        return DeviceChoice(requested, "cpu")
    if requested == "auto":
        # Without a driver, the libraries do not matter, and most machines have none.
        problem = find_driver_problem() or _find_device_problem("cuda")
        return DeviceChoice(requested, "cpu" if problem else "cuda", problem)
    if problem := _find_device_problem(requested):
        raise DeviceUnavailable(requested, problem)
    return DeviceChoice(requested, requested)


def available_devices() -> Sequence[str]:
    """Return the devices that this build of ONNX Runtime supports, working or not."""
    return list_devices(onnxruntime.get_available_providers())


class Session:
    """A graph, ready to run on one device. Thread-safe."""

    def __init__(
        self, session: "onnxruntime.InferenceSession", device: str, config: SessionConfig
    ) -> None:
        self._session = session
        self.device = device
        self.config = config
        self.inputs = tuple(_read_spec(node) for node in session.get_inputs())
        self.outputs = tuple(_read_spec(node) for node in session.get_outputs())
        self._has_optional_inputs = any(spec.optional for spec in self.inputs)
        self._input_names = [spec.name for spec in self.inputs]
        self._output_names = [spec.name for spec in self.outputs]
        self._shrink_options = onnxruntime.RunOptions()
        self._shrink_options.add_run_config_entry(_SHRINK, _ARENA)
        self._has_free_axes = self._has_optional_inputs or any(
            not _has_only_batch_axis(spec.shape, spec.datatype)
            for spec in (*self.inputs, *self.outputs)
        )

    @classmethod
    def open(
        cls,
        model: bytes,
        device: str,
        config: SessionConfig,
        weights: Weights = NO_WEIGHTS,
    ) -> Self:
        """Load the content of ``model.onnx``. ONNX Runtime reads nothing from the models folder.

        Raise `LoadFailed` if ONNX Runtime rejects the graph, or uses another device.
        """
        requested = list_providers(device, gpu_memory_mib=config.gpu_memory_mib)
        try:
            with _create_options(weights, config.threads) as options:
                session = onnxruntime.InferenceSession(model, options, providers=requested)
        except OSError as error:
            reason = f"its weights cannot be copied for the runtime: {error.strerror}"
            raise LoadFailed(reason) from error
        except Exception as error:
            raise LoadFailed(
                f"ONNX Runtime rejects model.onnx: {summarize_error(error)}"
            ) from error
        if session.get_providers()[0] != requested[0][0]:
            raise LoadFailed(
                f"ONNX Runtime uses {session.get_providers()[0]}, not {requested[0][0]}"
            )
        session.disable_fallback()
        # ONNX Runtime stores the file for a fallback to another device, which doubles the memory.
        session._model_bytes = None  # noqa: SLF001 - the library has no public way to release it
        return cls(session, device, config)

    def run(self, arrays: Arrays, control: "onnxruntime.RunOptions | None" = None) -> Arrays:
        """Run the graph; return its outputs in the order of ``outputs``.

        ONNX Runtime's errors share no narrower base class than `Exception`.

        Args:
            arrays: the inputs in the order of ``inputs``; `ABSENT` for an omitted optional one.
            control: from `new_control`; another thread may terminate the run with it.
        """
        if self._is_large(arrays):
            if control is None:
                control = self._shrink_options
            else:
                control.add_run_config_entry(_SHRINK, _ARENA)
        feeds = dict(zip(self._input_names, arrays, strict=True))
        if self._has_optional_inputs:
            feeds = {name: array for name, array in feeds.items() if array is not ABSENT}
        return tuple(map(_to_array, self._session.run(self._output_names, feeds, control)))

    def _is_large(self, arrays: Arrays) -> bool:
        """Return whether a run may need more memory than the arena should keep.

        With a second free axis the memory has no bound: attention needs the square of the sequence
        length, even for a small input.
        """
        if self.device != "cpu":
            return False
        if self._has_free_axes:
            return True
        first = arrays[0] if arrays else ABSENT
        rows = len(first) if first.ndim else 1
        return rows > self.config.arena_rows or first.nbytes > _LARGE_BYTES


def new_control() -> "onnxruntime.RunOptions":
    """Return the control of one run; setting its ``terminate`` in any thread makes the run fail."""
    return onnxruntime.RunOptions()


def terminate(control: "onnxruntime.RunOptions") -> None:
    """Terminate the current and any later run with this control."""
    control.terminate = True


@contextlib.contextmanager
def _create_options(weights: Weights, threads: int) -> "Iterator[onnxruntime.SessionOptions]":
    """Yield session options for a graph with these weights; they must stay open until it is."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _LOG_FATAL
    # A spinning thread takes CPU time from the event loop, other workers and other services.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    if weights.initializers:
        names, contents = zip(*weights.initializers.items(), strict=True)
        sizes = list(map(len, contents))
        options.add_external_initializers_from_files_in_memory(names, contents, sizes)
    with weights.nested_folder() as folder:
        options.add_session_config_entry(_WEIGHTS_FOLDER, folder)
        yield options


def _read_spec(node: "onnxruntime.NodeArg") -> TensorSpec:
    found = _TYPE.fullmatch(node.type)
    if found is None or (found[1] and found[1] not in _DATATYPES):
        raise LoadFailed(explain_unsupported_type(node.name, node.type))
    if found[2]:
        return TensorSpec(node.name, "FP32", (-1, -1))
    shape = tuple(axis if isinstance(axis, int) else -1 for axis in node.shape)
    return TensorSpec(node.name, _DATATYPES[found[1]], shape, node.type.startswith("optional"))


def _find_device_problem(device: str) -> str | None:
    """Return why a device cannot be used; None if it can."""
    name = get_provider_name(device)
    if name not in onnxruntime.get_available_providers():
        if device == "cuda":
            return "this build of ONNX Runtime has no CUDA (onnxruntime-gpu is for Linux x86-64)"
        return f"this build of ONNX Runtime has no {name}; it has {', '.join(available_devices())}"
    if device in {"cuda", "tensorrt"}:
        # It prints the libraries that it cannot load; `find_cuda_problem` reports them instead.
        with contextlib.redirect_stdout(io.StringIO()):
            onnxruntime.preload_dlls()
        folder = Path(onnxruntime.__file__).parent / "capi"
        return find_cuda_problem(folder / f"libonnxruntime_providers_{device}.so")
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            Session.open(_SMALLEST_GRAPH, device, SessionConfig())
    except LoadFailed as error:
        return str(error)
    return None


def summarize_error(error: Exception) -> str:
    """Return what an error of ONNX Runtime means for a client, with the remedy if it is known."""
    return describe_runtime_error(str(error))


def _has_only_batch_axis(shape: Sequence[int], datatype: str) -> bool:
    """Return whether the first axis, the batch, is a tensor's only free axis."""
    return len(shape) > 1 and shape[0] < 0 and min(shape[1:]) >= 0 and datatype != "BYTES"


def _to_array(output: Any) -> Array:  # noqa: ANN401 - ONNX Runtime has no types
    """Return an output as one array; each map of a sequence becomes a row of its values."""
    if isinstance(output, list):
        classes = len(output[0]) if output else 0
        rows = [list(probabilities.values()) for probabilities in output]
        return np.array(rows, np.float32).reshape(len(rows), classes)
    return ABSENT if output is None else np.asarray(output)
