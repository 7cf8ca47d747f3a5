"""DataFrames of pandas and polars: their rows as JSON, and predictions as a DataFrame.

The libraries are found among the loaded modules: a DataFrame can only exist if one is loaded.
"""

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from service.sdk.errors import InvalidData
from service.sdk.results import Json, flatten, join_warnings
from service.sdk.values import column_to_json

Columns = dict[str, list[Any]]
_TEXTS = ("label", "warnings", "of")


class Table(ABC):
    """A DataFrame: its columns, and a DataFrame of the same library for the same rows."""

    def __init__(self, frame: Any, names: Sequence[object]) -> None:  # noqa: ANN401 - of any library
        self.frame = frame
        self.names = [str(name) for name in names]

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of rows."""

    @abstractmethod
    def column(self, position: int, start: int, stop: int) -> list[Any]:
        """Return cells of a column."""

    @abstractmethod
    def build(self, columns: Columns) -> Any:  # noqa: ANN401 - a DataFrame
        """Return a DataFrame with these columns and the rows of this one."""

    @abstractmethod
    def build_empty(self, columns: Columns) -> Any:  # noqa: ANN401 - a DataFrame
        """Return a DataFrame without rows; its columns have the types of the cells."""

    def batches(
        self, columns: Mapping[str, int], *, most: int, complete: bool
    ) -> Iterator[list[Any]]:
        """Return the rows as JSON, at most ``most`` together.

        Args:
            columns: the position of each feature's column; others are not sent.
            most: rows together.
            complete: whether every feature has a column. A row is then an array, else an object.
        """
        for start in range(0, len(self), most):
            stop = min(start + most, len(self))
            cells = [
                column_to_json(self.column(position, start, stop), name, start)
                for name, position in columns.items()
            ]
            rows = zip(*cells, strict=True)
            if complete:
                yield list(rows)
            else:
                yield [dict(zip(columns, row, strict=True)) for row in rows]


class _PandasTable(Table):
    def __len__(self) -> int:
        return len(self.frame)

    def column(self, position: int, start: int, stop: int) -> list[Any]:
        cells: list[Any] = self.frame.iloc[start:stop, position].tolist()
        return cells

    def build(self, columns: Columns) -> Any:  # noqa: ANN401 - a DataFrame
        return sys.modules["pandas"].DataFrame(columns, index=self.frame.index)

    def build_empty(self, columns: Columns) -> Any:  # noqa: ANN401 - a DataFrame
        found = sys.modules["pandas"].DataFrame(columns).iloc[:0]
        return found.set_index(self.frame.index)


class _PolarsTable(Table):
    def __len__(self) -> int:
        return int(self.frame.height)

    def column(self, position: int, start: int, stop: int) -> list[Any]:
        cells: list[Any] = self.frame.to_series(position).slice(start, stop - start).to_list()
        return cells

    def build(self, columns: Columns) -> Any:  # noqa: ANN401 - a DataFrame
        polars = sys.modules["polars"]
        # A column without any value has no type to infer.
        empty = [name for name, cells in columns.items() if all(cell is None for cell in cells)]
        types = {name: polars.String if name in _TEXTS else polars.Float64 for name in empty}
        return polars.DataFrame(columns, schema_overrides=types, infer_schema_length=None)

    def build_empty(self, columns: Columns) -> Any:  # noqa: ANN401 - a DataFrame
        return self.build(columns).clear()


def as_table(data: object) -> Table | None:
    """Return a DataFrame as a `Table`; None if the data is something else."""
    pandas, polars = sys.modules.get("pandas"), sys.modules.get("polars")
    if pandas is not None and isinstance(data, pandas.DataFrame):
        return _PandasTable(data, list(data.columns))
    if polars is not None and isinstance(data, polars.DataFrame):
        return _PolarsTable(data, data.columns)
    if polars is not None and isinstance(data, polars.LazyFrame):
        raise InvalidData("A LazyFrame has no rows yet; pass what its collect() returns.")
    return None


def as_row(data: object) -> dict[str, Any] | None:
    """Return a Series of pandas as the row of a table; None if the data is something else."""
    pandas = sys.modules.get("pandas")
    if pandas is None or not isinstance(data, pandas.Series):
        return None
    return dict(zip(map(str, data.index), data.tolist(), strict=True))


def prediction_columns(
    predictions: Sequence[Json], query: Mapping[str, str], description: Json
) -> Columns:
    """Return the columns of predictions, named as those of a table that the service scores.

    Args:
        predictions: of all rows, as the service sends them.
        query: the parameters of the request.
        description: of the model, which has the names if there is no row.
    """
    ranked = "top" in query
    rows = [flatten(prediction, ranked=ranked) for prediction in predictions]
    names = dict.fromkeys(chain.from_iterable(rows))
    if not rows:
        labels = description.get("output", {}).get("labels")
        names = dict.fromkeys(["value"] if labels is None else ["label", "probability"])
    columns = {name: [row.get(name) for row in rows] for name in names}
    if query.get("warnings") != "false":
        columns["warnings"] = list(map(join_warnings, predictions))
    return columns


def explanation_columns(
    predictions: Sequence[Json], query: Mapping[str, str], description: Json
) -> Columns:
    """Return the columns of explanations; the arguments are those of `prediction_columns`."""
    columns = prediction_columns(predictions, query, description)
    explanations = [prediction["explanation"] for prediction in predictions]
    columns["of"] = [one["of"] for one in explanations]
    columns["base"] = [one["base"] for one in explanations]
    for name in dict.fromkeys(name for one in explanations for name in one["contributions"]):
        cells = [one["contributions"].get(name) for one in explanations]
        columns[f"contribution_{name}"] = cells
    columns["score"] = [one["score"] for one in explanations]
    return columns
