"""DataFrames of pandas and polars: their rows as JSON, and predictions as a DataFrame.

The libraries are found among the loaded modules: a DataFrame can only exist if one is loaded.
"""

import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from service.sdk.errors import InvalidData
from service.sdk.results import Explanation, Json, Prediction
from service.sdk.values import column_to_json

Columns = dict[str, list[Any]]
_TEXTS = ("label", "warnings", "of")


class Table(ABC):
    """A DataFrame: its columns, and a DataFrame of the same library for the same rows."""

    def __init__(self, frame: Any, names: Sequence[object]) -> None:  # noqa: ANN401 - of any library
        self.frame = frame
        self.names = [str(name) for name in names]
        self._positions = {name: position for position, name in enumerate(self.names)}

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of rows."""

    @abstractmethod
    def column(self, position: int, start: int, stop: int) -> list[Any]:
        """Return cells of a column."""

    @abstractmethod
    def build(self, columns: Columns) -> Any:  # noqa: ANN401 - a DataFrame
        """Return a DataFrame with these columns and the rows of this one."""

    def batches(self, features: Sequence[str], most: int) -> Iterator[list[Any]]:
        """Return the rows as JSON, at most ``most`` together; other columns are dropped.

        A row is an array in the order of the features, or an object if a feature has no column.
        """
        known = [name for name in features if name in self._positions]
        if len(self._positions) < len(self.names):
            self._require_unique(known)
        for start in range(0, len(self), most):
            stop = min(start + most, len(self))
            columns = [
                column_to_json(self.column(self._positions[name], start, stop), name, start)
                for name in known
            ]
            rows = zip(*columns, strict=True) if columns else [()] * (stop - start)
            if len(known) == len(features):
                yield list(rows)
            else:
                yield [dict(zip(known, row, strict=True)) for row in rows]

    def _require_unique(self, features: Sequence[str]) -> None:
        counts = Counter(self.names)
        if (name := next((name for name in features if counts[name] > 1), None)) is not None:
            raise InvalidData(f"The DataFrame has the column {name!r} more than once.")


class _PandasTable(Table):
    def __len__(self) -> int:
        return len(self.frame)

    def column(self, position: int, start: int, stop: int) -> list[Any]:
        cells: list[Any] = self.frame.iloc[start:stop, position].tolist()
        return cells

    def build(self, columns: Columns) -> Any:  # noqa: ANN401 - a DataFrame
        return sys.modules["pandas"].DataFrame(columns, index=self.frame.index)


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
    predictions: Sequence[Prediction], query: Mapping[str, str], description: Json
) -> Columns:
    """Return the columns of predictions, named as those of a table that the service scores.

    Args:
        predictions: of all rows.
        query: the parameters of the request.
        description: of the model, which has the names if there is no row.
    """
    rows = [_flatten(prediction, ranked="top" in query) for prediction in predictions]
    names = dict.fromkeys(name for row in rows for name in row)
    if not rows:
        labels = description.get("output", {}).get("labels")
        names = dict.fromkeys(["value"] if labels is None else ["label", "probability"])
    columns = {name: [row.get(name) for row in rows] for name in names}
    if query.get("warnings") != "false":
        columns["warnings"] = [" ".join(one.warnings) or None for one in predictions]
    return columns


def explanation_columns(
    explanations: Sequence[Explanation], query: Mapping[str, str], description: Json
) -> Columns:
    """Return the columns of explanations; the arguments are those of `prediction_columns`."""
    predictions = [explanation.prediction for explanation in explanations]
    columns = prediction_columns(predictions, query, description)
    columns["of"] = [one.of for one in explanations]
    columns["base"] = [one.base for one in explanations]
    for name in dict.fromkeys(name for one in explanations for name in one.contributions):
        cells = [one.contributions.get(name) for one in explanations]
        columns[f"contribution_{name}"] = cells
    columns["score"] = [one.score for one in explanations]
    return columns


def _flatten(prediction: Prediction, *, ranked: bool) -> dict[str, Any]:
    row: dict[str, Any] = {}
    if prediction.label is not None:
        row = {"label": prediction.label, "probability": prediction.probability}
    elif prediction.value is not None or not prediction.outputs:
        row = {"value": prediction.value}
    for rank, (label, probability) in enumerate((prediction.probabilities or {}).items(), 1):
        if ranked:
            row |= {f"label_{rank}": label, f"probability_{rank}": probability}
        else:
            row[f"probability_{label}"] = probability
    if prediction.interval is not None:
        row |= {"interval_low": prediction.interval.low, "interval_high": prediction.interval.high}
    if prediction.unsure is not None:
        row["unsure"] = prediction.unsure
    return {**row, **prediction.outputs}
