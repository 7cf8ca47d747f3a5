"""The types of what users pass to the clients."""

import os
from collections.abc import Mapping
from typing import IO, Any, Protocol, TypedDict, TypeVar

Row = Mapping[str, Any]
Image = str | os.PathLike[str] | bytes | IO[bytes]
Target = str | os.PathLike[str] | IO[bytes]


class DataFrame(Protocol):
    """A DataFrame of pandas or polars."""

    @property
    def columns(self) -> Any:  # noqa: ANN401 - pandas has an index, polars a list
        """The names of the columns."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""


Frame = TypeVar("Frame", bound=DataFrame)


class PredictOptions(TypedDict, total=False):
    """The options of predictions; None is the default of the service.

    Attributes:
        version: a number or an alias, such as ``canary``.
        top: the number of class labels in ``probabilities``, the most probable first.
        probabilities: whether predictions have the probabilities of all class labels.
        interval: the level of prediction intervals, one of ``levels`` of the model's output.
        warnings: whether predictions have warnings.
    """

    version: str | int | None
    top: int | None
    probabilities: bool | None
    interval: float | None
    warnings: bool | None


class ScoreOptions(PredictOptions, total=False):
    """The options of tables.

    Attributes:
        format: ``csv``, ``ndjson``, ``parquet``, ``arrow``, ``xlsx``, ``xls`` or ``ods``, by
            default as the name of the file says.
        decimal: ``point`` or ``comma``, the decimal mark.
    """

    format: str | None
    decimal: str | None


class ExplainOptions(TypedDict, total=False):
    """The options of explanations.

    Attributes:
        version: a number or an alias.
        label: the class label to explain, by default the predicted one; for a DataFrame and a
            model of two class labels, the second one in every row.
        resolution: for images, the grid cells along each side, 2 to 32.
    """

    version: str | int | None
    label: str | None
    resolution: int | None
