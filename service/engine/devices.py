"""The devices that ONNX Runtime can compute on, by its names and by ours, and how each is set."""

from collections.abc import Mapping, Sequence

from service.settings import ActualDevice

Options = Mapping[str, str]

_NAMES: Mapping[ActualDevice, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "migraphx": "MIGraphXExecutionProvider",
    "rocm": "ROCMExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "dnnl": "DnnlExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "dml": "DmlExecutionProvider",
    "qnn": "QNNExecutionProvider",
    "cann": "CANNExecutionProvider",
    "vitisai": "VitisAIExecutionProvider",
}
_MIB = 1024 * 1024


def provider_name(device: ActualDevice) -> str:
    """What ONNX Runtime calls a device."""
    return _NAMES[device]


def known_devices(available: Sequence[str]) -> list[ActualDevice]:
    """The devices that a build of ONNX Runtime was made with, the CPU first.

    Args:
        available: the names that it lists.
    """
    return [device for device, name in _NAMES.items() if name in available]


def providers(device: ActualDevice, *, gpu_memory_mib: int = 0) -> list[tuple[str, Options]]:
    """What a session is to be opened with: the device, and behind it what it cannot compute.

    Args:
        device: where to compute.
        gpu_memory_mib: most that one session's arena may take on the GPU; 0 is no limit.
    """
    cpu = (_NAMES["cpu"], dict[str, str]())
    # Without this the arena doubles whenever it grows, and a model takes twice what it needs.
    cuda_options = {"arena_extend_strategy": "kSameAsRequested"}
    if gpu_memory_mib:
        cuda_options["gpu_mem_limit"] = str(gpu_memory_mib * _MIB)
    if device == "cpu":
        return [cpu]
    if device == "cuda":
        return [(_NAMES["cuda"], cuda_options), cpu]
    if device == "tensorrt":
        # What TensorRT has no operator for stays on the GPU.
        return [(_NAMES["tensorrt"], {}), (_NAMES["cuda"], cuda_options), cpu]
    return [(_NAMES[device], {}), cpu]
