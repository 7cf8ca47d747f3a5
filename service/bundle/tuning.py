"""How a model is best run on one machine: ``models/<name>/tuning.json``.

``python -m service tune`` measures and writes it beside the versions, and it may be written by
hand. Without it the service chooses by itself when it loads the model.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from service.bundle.disk import flush_folder, parse_document, read_optional, to_json, write_flushed
from service.bundle.features import Part

TUNING = "tuning.json"
_UNFINISHED = ".tuning.json.unfinished"

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


def read_tuning(home: Path) -> Tuning | None:
    """What ``models/<name>`` says about how it is run, or None where it says nothing.

    Raises:
        BundleError: the file cannot be read, or is not valid.
    """
    content = read_optional(home / TUNING)
    return None if content is None else parse_document(Tuning, content, TUNING)


def write_tuning(home: Path, tuning: Tuning) -> Path:
    """Replace the file by one rename, so that a reader meets the old one or the new one.

    Raises:
        OSError: it cannot be written.
    """
    unfinished = home / _UNFINISHED
    write_flushed(unfinished, to_json(tuning))
    unfinished.replace(home / TUNING)
    flush_folder(home)
    return home / TUNING
