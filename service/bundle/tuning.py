"""How a model runs fastest on one machine: ``models/<name>/tuning.json``.

``onward tune`` writes the file; it may also be written by hand. Without it, the service chooses
when it loads the model.
"""

from typing import Annotated, Literal

from pydantic import Field

from service.bundle.features import StrictModel

TUNING = "tuning.json"

Positive = Annotated[int, Field(ge=1, strict=True)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Machine(StrictModel):
    """The machine that was measured."""

    cpu: str
    cores: Positive
    runtime: str
    """The version of ONNX Runtime."""


class Measured(StrictModel):
    """The median time of a run of ``rows`` on a device with a number of threads."""

    device: str
    threads: Positive
    rows: Positive
    milliseconds: NonNegative
    rows_per_second: NonNegative


class Tuning(StrictModel):
    """The choice for one model; missing values are chosen when the model is loaded.

    ``execution`` is ``inline``, immediately on the event loop, or ``batched``, joined in a thread;
    ``device`` is a value of ``ONWARD_DEVICE`` except ``auto``. ``machine`` and ``measured`` are the
    measurements that the choice is based on.
    """

    device: str | None = None
    threads: Positive | None = None
    execution: Literal["inline", "batched"] | None = None
    max_batch_rows: Positive | None = None
    machine: Machine | None = None
    version: str | None = None
    """The version of the model that was measured."""
    measured: tuple[Measured, ...] = ()
