"""What this machine computes with: ONNX Runtime's execution providers, CUDA, cores and memory."""

import ctypes
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

Options = Mapping[str, str]

# The devices with a short name; every other provider goes by the name that ONNX Runtime gives it.
_PROVIDERS: Mapping[str, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
_MIB = 1024 * 1024

_DRIVER = "libcuda.so.1"
_PROCESS = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")


def provider_name(device: str) -> str:
    """ONNX Runtime's name of a device."""
    return _PROVIDERS.get(device, device)


def known_devices(available: Sequence[str]) -> list[str]:
    """The devices that a build of ONNX Runtime supports, the CPU first.

    Args:
        available: the execution providers that the build lists.
    """
    short = [device for device, name in _PROVIDERS.items() if name in available]
    return [*short, *(name for name in available if name not in _PROVIDERS.values())]


def providers(device: str, *, gpu_memory_mib: int = 0) -> list[tuple[str, Options]]:
    """The execution providers of a session, with their options, in order of preference.

    Args:
        device: where to compute.
        gpu_memory_mib: limit of one session's arena on the GPU; 0 is no limit.
    """
    cpu = (_PROVIDERS["cpu"], dict[str, str]())
    # By default the arena doubles whenever it grows, and a model takes twice what it needs.
    cuda_options = {"arena_extend_strategy": "kSameAsRequested"}
    if gpu_memory_mib:
        cuda_options["gpu_mem_limit"] = str(gpu_memory_mib * _MIB)
    if device == "cpu":
        return [cpu]
    if device == "cuda":
        return [(_PROVIDERS["cuda"], cuda_options), cpu]
    if device == "tensorrt":
        # Operators that TensorRT lacks stay on the GPU.
        return [(_PROVIDERS["tensorrt"], {}), (_PROVIDERS["cuda"], cuda_options), cpu]
    return [(provider_name(device), {}), cpu]


def cuda_problem(provider: Path) -> str | None:
    """Why CUDA cannot be used, naming each missing library, or None where it can.

    Args:
        provider: ONNX Runtime's CUDA provider library; loading it loads what it needs.
    """
    driver, libraries = _driver_problem(), _load_problem(provider)
    if driver and libraries and _DRIVER in libraries:
        libraries = None  # the provider misses nothing but the driver, which is reported already
    return "; ".join(problem for problem in (driver, libraries) if problem) or None


def _driver_problem() -> str | None:
    try:
        driver = ctypes.CDLL(_DRIVER)
    except OSError as error:
        return f"no NVIDIA driver ({error})"
    devices = ctypes.c_int(0)
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(devices))
    if status != 0:
        return f"the NVIDIA driver reports error {status}"
    return None if devices.value else "the NVIDIA driver sees no GPU"


def _load_problem(provider: Path) -> str | None:
    if not provider.exists():
        return f"this build of ONNX Runtime has no {provider.name}"
    try:
        # The provider takes its host's functions from this sibling.
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


def available_cores(process: Path = _PROCESS, groups: Path = _GROUPS) -> int:
    """The least of the cores that the scheduler allows and the container's limit, rounded up.

    Args:
        process: which control groups the process is in.
        groups: where control groups are mounted, of version 2 or with a folder for each controller.
    """
    limits = [*_limits(process, groups), float(_allowed())]
    return max(1, math.ceil(min(limits)))


def available_memory(process: Path = _PROCESS, groups: Path = _GROUPS) -> int:
    """The least of the machine's memory and the container's limit, in bytes.

    Args:
        process: as `available_cores` has it.
        groups: as `available_cores` has it.
    """
    limits = [
        int(text)
        for folder, file in _memory_files(process, groups)
        if (text := _text(folder / file).strip()).isdecimal()
    ]
    return min([*limits, _machine_memory()])


def _machine_memory() -> int:
    """The machine's memory in bytes; where the system does not say, no limit."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return sys.maxsize


def _memory_files(process: Path, groups: Path) -> Iterator[tuple[Path, str]]:
    """The files with the memory limit of each group that holds the process."""
    for controllers, path in _memberships(process):
        if not controllers:
            yield from ((folder, "memory.max") for folder in _upwards(groups, path))
        elif "memory" in controllers:
            for folder in _upwards(groups / "memory", path):
                yield folder, "memory.limit_in_bytes"


def _allowed() -> int:
    """What the scheduler lets this process run on; not every system can say it."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _limits(process: Path, groups: Path) -> Iterator[float]:
    """The limit, in cores, of each group that holds the process, where it has one."""
    for controllers, path in _memberships(process):
        if not controllers:
            for folder in _upwards(groups, path):
                yield from _limit_of_version_2(folder)
        elif "cpu" in controllers:
            # The folder is named for all controllers that are mounted there; "cpu" is a link to it.
            for folder in _upwards(groups / "cpu", path):
                yield from _limit_of_version_1(folder)


def _memberships(process: Path) -> Iterator[tuple[Sequence[str], str]]:
    """The controllers and the path of each group of the process; version 2 has no controllers."""
    for line in _text(process).splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers or number == "0":
            yield controllers.split(",") if controllers else (), path


def _upwards(root: Path, path: str) -> Iterator[Path]:
    """A group's folder and those above it; within a container the path may lead nowhere."""
    folder = root / path.lstrip("/")
    if ".." in folder.parts:
        folder = root  # the group lies outside what the container sees
    while folder != root:
        yield folder
        folder = folder.parent
    yield root


def _limit_of_version_2(folder: Path) -> Iterator[float]:
    quota, _, period = _text(folder / "cpu.max").partition(" ")
    yield from _share(quota, period)


def _limit_of_version_1(folder: Path) -> Iterator[float]:
    yield from _share(_text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us"))


def _share(quota: str, period: str) -> Iterator[float]:
    """Microseconds of computing a period of microseconds; no limit is "max" or -1."""
    if quota.strip().isdecimal() and period.strip().isdecimal() and int(period) > 0:
        yield int(quota) / int(period)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
