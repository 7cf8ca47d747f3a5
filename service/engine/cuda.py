"""Whether CUDA really works here, asked of the libraries themselves.

ONNX Runtime lists CUDA as available wherever it was compiled in, and falls back to the CPU with
alarming lines when a library is missing; this asks first.
"""

import ctypes
from pathlib import Path

_DRIVER = "libcuda.so.1"


def cuda_problem(provider: Path) -> str | None:
    """Why CUDA cannot be used, naming each missing library, or None where it can.

    Args:
        provider: ONNX Runtime's CUDA provider library; loading it loads what it needs.
    """
    driver, libraries = _driver_problem(), _load_problem(provider)
    if driver and libraries and _DRIVER in libraries:
        libraries = None  # the provider misses nothing but the driver, which is told already
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
