"""What this machine is, as far as the speed of a model depends on it."""

import platform
from pathlib import Path

from service.bundle.tuning import Machine
from service.engine.devices import available_cores
from service.engine.session import RUNTIME_VERSION

_CPU = Path("/proc/cpuinfo")


def this_machine() -> Machine:
    """The processor, the cores that this process has, and ONNX Runtime's version."""
    return Machine(cpu=_processor(), cores=available_cores(), runtime=RUNTIME_VERSION)


def difference(there: Machine, here: Machine) -> str:
    """How another machine differs from this one; empty where it does not."""
    pairs: list[tuple[str, object, object]] = [
        ("CPU", there.cpu, here.cpu),
        ("cores", there.cores, here.cores),
        ("ONNX Runtime", there.runtime, here.runtime),
    ]
    return "; ".join(f"{what} {then}, here {now}" for what, then, now in pairs if then != now)


def _processor() -> str:
    try:
        lines = _CPU.read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
