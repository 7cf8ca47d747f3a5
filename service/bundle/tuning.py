"""How a model is best run on one machine: ``models/<name>/tuning.json``.

``onward tune`` measures and writes it, and it may be written by hand. Without it the
service chooses when it loads the model.
"""

from typing import Annotated, Literal

from pydantic import Field

from service.bundle.features import Part

TUNING = "tuning.json"

Count = Annotated[int, Field(ge=1, strict=True)]
Figure = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Machine(Part):
    """What the figures depend on besides the model."""

    cpu: str
    cores: Count
    runtime: str
    """The version of ONNX Runtime."""


class Measured(Part):
    """One setting, and how long a run of ``rows`` took with it: the median."""

    device: str
    threads: Count
    rows: Count
    milliseconds: Figure
    rows_per_second: Figure


class Tuning(Part):
    """The choice for one model; what is not given is chosen when the model is loaded.

    ``execution`` is ``inline``, at once on the event loop, or ``batched``, joined in a thread;
    ``device`` is one of the words of ``ONWARD_DEVICE`` but ``auto``. ``machine`` and ``measured``
    are what the choice was made by.
    """

    device: str | None = None
    threads: Count | None = None
    execution: Literal["inline", "batched"] | None = None
    max_batch_rows: Count | None = None
    machine: Machine | None = None
    version: str | None = None
    """The version of the model that was measured."""
    measured: tuple[Measured, ...] = ()
