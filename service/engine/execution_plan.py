"""How a model runs, decided before it is loaded: by its tuning.json, the settings, or timing."""

import logging
import platform
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from service.bundle.errors import BundleError
from service.bundle.store import read_document
from service.bundle.tuning import TUNING, Machine, Tuning
from service.engine.devices import available_cores
from service.engine.session import RUNTIME_VERSION
from service.settings import Settings

Mode = Literal["inline", "batched"]
ChosenBy = Literal["warm-up", "setting", "tuning.json", "graph"]

_CPU = Path("/proc/cpuinfo")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExecutionPlan:
    """What is decided before a model is loaded.

    ``threads`` is 0, and ``mode`` None, if timing is to choose; no more threads than
    ``most_threads`` are then tried. ``max_batch_rows`` is the model's own, if it has one.
    """

    device: str = "cpu"
    threads: int = 1
    most_threads: int = 1
    mode: Mode | None = None
    mode_by: ChosenBy = "warm-up"
    max_batch_rows: int | None = None
    gpu_memory_mib: int = 0


@dataclass(frozen=True)
class Execution:
    """How a model runs, and what decided it.

    ``row_seconds`` is the shortest run of one row, and ``rows_bitwise`` whether the examples gave
    the same bits in a batch as one by one; of a bare model neither is known.
    """

    mode: Mode
    chosen_by: ChosenBy
    threads: int
    row_seconds: float | None = None
    rows_bitwise: bool = False


def plan_for(settings: Settings, device: str) -> ExecutionPlan:
    """The plan of every model without a tuning.json."""
    cores = available_cores()
    mode = None if settings.execution == "auto" else settings.execution
    return ExecutionPlan(
        device=device,
        threads=settings.threads,
        # This worker's share of the cores.
        most_threads=max(1, cores // (settings.workers or cores)),
        mode=mode,
        mode_by="setting" if mode else "warm-up",
        gpu_memory_mib=settings.gpu_memory_mib,
    )


def apply_tuning(plan: ExecutionPlan, home: Path) -> ExecutionPlan:
    """The service's plan with the overrides of a model's own tuning.json.

    A file that cannot be used is no reason to reject a model: it is logged and ignored.
    """
    facts = {"model": home.name}
    try:
        tuning = read_document(Tuning, home / TUNING)
    except BundleError as error:
        _log.warning("tuning not used", extra=facts | {"reason": str(error)})
        return plan
    if tuning is None:
        return plan
    if tuning.machine and (differs := machine_difference(tuning.machine, this_machine())):
        reason = f"{TUNING} was measured elsewhere ({differs}); it holds, but tune here"
        _log.warning("tuning of another machine", extra=facts | {"reason": reason})
    # The CPU works everywhere; any other device only where the service chose it.
    device = "cpu" if tuning.device == "cpu" else plan.device
    if tuning.device is not None and device != tuning.device:
        reason = f"{TUNING} asks for {tuning.device}, and the service uses {plan.device}"
        _log.warning("tuning not used", extra=facts | {"reason": reason})
        return plan  # what was measured there does not hold here
    return replace(
        plan,
        device=device,
        threads=tuning.threads or plan.threads,
        mode=tuning.execution or plan.mode,
        mode_by="tuning.json" if tuning.execution else plan.mode_by,
        max_batch_rows=tuning.max_batch_rows or plan.max_batch_rows,
    )


def this_machine() -> Machine:
    """The processor, the cores of this process, and ONNX Runtime's version."""
    return Machine(cpu=_processor(), cores=available_cores(), runtime=RUNTIME_VERSION)


def machine_difference(other: Machine, here: Machine) -> str:
    """How another machine differs from this one; empty if it does not."""
    pairs: list[tuple[str, object, object]] = [
        ("CPU", other.cpu, here.cpu),
        ("cores", other.cores, here.cores),
        ("ONNX Runtime", other.runtime, here.runtime),
    ]
    return "; ".join(f"{what} {then}, here {now}" for what, then, now in pairs if then != now)


def _processor() -> str:
    try:
        lines = _CPU.read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
