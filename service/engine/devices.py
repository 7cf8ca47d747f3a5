"""The resources of this machine: execution providers, CUDA, processor, cores and memory."""

import ctypes
import math
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

Options = Mapping[str, str]

MIB = 1024 * 1024

# The devices with a short name; any other provider is named as in ONNX Runtime.
_PROVIDERS: Mapping[str, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}

_DRIVER = "libcuda.so.1"
_CPU_INFO = Path("/proc/cpuinfo")
_PROCESS = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")


def get_provider_name(device: str) -> str:
    """Return ONNX Runtime's execution provider for a device."""
    return _PROVIDERS.get(device, device)


def list_devices(available: Sequence[str]) -> list[str]:
    """Return the devices of a build with these execution providers, the CPU first."""
    short = [device for device, name in _PROVIDERS.items() if name in available]
    return [*short, *(name for name in available if name not in _PROVIDERS.values())]


def list_providers(device: str, *, gpu_memory_mib: int = 0) -> list[tuple[str, Options]]:
    """Return the execution providers of a session with their options, in order of preference.

    ``gpu_memory_mib`` limits the session's memory arena on the GPU; 0 is no limit.
    """
    # By default the arena doubles whenever it grows, up to twice the memory that a model needs.
    options = {"arena_extend_strategy": "kSameAsRequested"}
    if gpu_memory_mib:
        options["gpu_mem_limit"] = str(gpu_memory_mib * MIB)
    cuda = (_PROVIDERS["cuda"], options)
    # Operators that TensorRT lacks stay on the GPU, and operators that CUDA lacks run on the CPU.
    accelerators: Mapping[str, list[tuple[str, Options]]] = {
        "cpu": [],
        "cuda": [cuda],
        "tensorrt": [(_PROVIDERS["tensorrt"], {}), cuda],
    }
    return [*accelerators.get(device, [(device, {})]), (_PROVIDERS["cpu"], {})]


def find_cuda_problem(provider: Path) -> str | None:
    """Return why CUDA cannot be used, with each missing library; None if it can.

    ``provider`` is ONNX Runtime's CUDA provider library; loading it also loads its dependencies.
    """
    driver, libraries = find_driver_problem(), _find_library_problem(provider)
    if driver and libraries and _DRIVER in libraries:
        libraries = None  # only the driver is missing, and that is reported already
    return "; ".join(problem for problem in (driver, libraries) if problem) or None


def find_driver_problem() -> str | None:
    """Return why the NVIDIA driver cannot be used; None if it can."""
    try:
        driver = ctypes.CDLL(_DRIVER)
    except OSError as error:
        missing = "No such file" in str(error)
        return f"no NVIDIA driver ({f'{_DRIVER} is missing' if missing else error})"
    devices = ctypes.c_int(0)
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(devices))
    if status != 0:
        return f"the NVIDIA driver reports error {status}"
    return None if devices.value else "the NVIDIA driver sees no GPU"


def _find_library_problem(provider: Path) -> str | None:
    if not provider.exists():
        return f"this build of ONNX Runtime has no {provider.name}"
    try:
        # The provider links to functions of this library.
        ctypes.CDLL(str(provider.with_name("libonnxruntime_providers_shared.so")))
        ctypes.CDLL(str(provider))
    except OSError as error:
        if "tensorrt" in provider.name:
            return f"a library is missing ({error}); TensorRT is NVIDIA's own package to install"
        return (
            f"a CUDA library is missing ({error}); this package's extra 'cuda', or the image's "
            "build argument EXTRAS=cuda, brings them"
        )
    return None


def read_processor_name() -> str:
    """Return the name of the processor."""
    lines = _read_text(_CPU_INFO).splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def count_cores(process: Path = _PROCESS, groups: Path = _GROUPS) -> int:
    """Return the number of usable cores: the CPU affinity or the container's limit, rounded up.

    Args:
        process: the file that lists the control groups of the process.
        groups: the mount point of control groups, version 1 or 2.
    """
    limits = [*_read_cpu_limits(process, groups), float(_count_affinity_cores())]
    return max(1, math.ceil(min(limits)))


def read_memory_limit() -> int:
    """Return the usable memory in bytes: the machine's or the container's limit."""
    limits = [
        _read_text(folder / ("memory.max" if is_v2 else "memory.limit_in_bytes")).strip()
        for folder, is_v2 in _find_groups("memory", _PROCESS, _GROUPS)
    ]
    return min([*(int(limit) for limit in limits if limit.isdecimal()), _read_machine_memory()])


def _read_machine_memory() -> int:
    """Return the machine's memory in bytes; a huge number if the system does not report it."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return sys.maxsize


def _count_affinity_cores() -> int:
    """Return the number of cores in the process's CPU affinity, which not every system reports."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _read_cpu_limits(process: Path, groups: Path) -> Iterator[float]:
    """Yield the CPU limits, in cores, of the control groups that contain the process."""
    for folder, is_v2 in _find_groups("cpu", process, groups):
        if is_v2:
            quota, _, period = _read_text(folder / "cpu.max").partition(" ")
        else:
            quota = _read_text(folder / "cpu.cfs_quota_us")
            period = _read_text(folder / "cpu.cfs_period_us")
        # Microseconds of CPU time per microsecond; a quota of "max" or -1 is no limit.
        if quota.strip().isdecimal() and period.strip().isdecimal() and int(period) > 0:
            yield int(quota) / int(period)


def _find_groups(controller: str, process: Path, groups: Path) -> Iterator[tuple[Path, bool]]:
    """Yield the folder of each control group of a controller, and whether it is of version 2."""
    for line in _read_text(process).splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:  # version 2 lists no controllers
            yield from ((folder, True) for folder in _walk_up(groups, path))
        elif controller in controllers.split(","):
            # The folder is named after all controllers mounted in it; "cpu" is a link to it.
            yield from ((folder, False) for folder in _walk_up(groups / controller, path))


def _walk_up(root: Path, path: str) -> Iterator[Path]:
    """Yield a group's folder and its parents; in a container the folder may not exist."""
    folder = root / path.lstrip("/")
    if ".." in folder.parts:
        folder = root  # the group is outside the container's namespace
    while folder != root:
        yield folder
        folder = folder.parent
    yield root


def _read_text(path: Path) -> str:
    """Return the content of a file; empty if it cannot be read."""
    try:
        return path.read_text()
    except OSError:
        return ""
