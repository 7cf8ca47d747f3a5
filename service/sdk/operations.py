"""What the clients can do, without a connection: `Operation`s, which a client runs.

Everything that both clients have in common is here; `service.client` only sends and waits.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from types import NoneType
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from service.sdk import images
from service.sdk.arrays import is_array, split_array
from service.sdk.columns import SERIES, find_columns
from service.sdk.errors import InvalidData, InvalidRequest, RequestTooLarge, ServiceError
from service.sdk.frames import (
    Columns,
    Table,
    as_row,
    as_table,
    explanation_columns,
    prediction_columns,
)
from service.sdk.results import (
    Json,
    Model,
    read_explanation,
    read_model,
    read_prediction,
)
from service.sdk.tables import MEDIA_TYPES, open_source, response_type
from service.sdk.transfer import Call, Operation
from service.sdk.values import encode, rows_to_json, to_json

R = TypeVar("R")
S = TypeVar("S")

_JSON = {"content-type": MEDIA_TYPES["json"]}
_FILE = {"content-type": "application/octet-stream"}
# Far below the limits of the service, so that other clients wait little.
_MOST_ROWS = 10_000
_MOST_VALUES = 250_000
_MOST_IMAGES = 64
_MOST_IMAGE_BYTES = 16 << 20
# An object has its names too.
_VALUES_PER_FIELD = 3
_TWO_CLASSES = 2
_SUCCESS = 200
# A list with one of these at its beginning is one row, and not a list of rows.
_SCALARS = (bool, int, float, Decimal, date, time, NoneType)
# Names differ between the options of Python and the parameters of the service only here.
_OPTION_TEXTS = {("probabilities", True): "all", ("probabilities", False): "none"}


@dataclass(frozen=True)
class Verb(Generic[R]):
    """A kind of request with rows or images, and what its response contains."""

    name: str
    options: frozenset[str]
    most_rows: int
    read: Callable[[Json, Json], R]
    columns: Callable[[Sequence[Json], Mapping[str, str], Json], Columns]


PREDICT = Verb(
    "predict",
    frozenset({"top", "probabilities", "interval", "warnings"}),
    _MOST_ROWS,
    read_prediction,
    prediction_columns,
)
# The service explains at most a hundred rows of a request by default.
EXPLAIN = Verb(
    "explain", frozenset({"label", "resolution"}), 100, read_explanation, explanation_columns
)
_TABLE_OPTIONS = PREDICT.options | {"decimal"}


def list_models() -> Operation[list[Model]]:
    """Return all models."""
    document = (yield Call("GET", "/models")).document()
    return [read_model(model) for model in document["models"]]


def describe(name: str, version: str | int | None) -> Operation[Json]:
    """Return everything about a model, as the service sends it."""
    return (yield Call("GET", _path(name, version))).document()


def get_model(name: str, version: str | int | None) -> Operation[Model]:
    """Return everything about a model."""
    return read_model((yield from describe(name, version)))


def run(verb: Verb[R], name: str, data: Any, options: Mapping[str, Any]) -> Operation[Any]:  # noqa: ANN401 - see the clients
    """Predict or explain one row or image, several, or a DataFrame."""
    version, query = _split_options(options, verb.options)
    request = _Request(verb, name, version, query)
    if (table := as_table(data)) is not None:
        return (yield from request.run_table(table))
    if (row := as_row(data)) is not None:
        data = request.select((yield from describe(name, version)), row)
    if isinstance(data, Mapping):
        return (yield from request.run_one(encode(to_json(data)), _JSON))
    if images.is_image(data):
        return (yield from request.run_image(data, {}))
    if is_array(data):
        return (yield from request.run_array(data))
    if not isinstance(data, Iterable):
        raise InvalidData(
            f"A value of type {type(data).__name__} cannot be predicted; pass a row as a dict, a "
            "list of rows, a DataFrame, or an image as a path, bytes, an open file or an array."
        )
    return (yield from request.run_list(list(data)))


def score(name: str, source: Any, target: Any, options: Mapping[str, Any]) -> Call:  # noqa: ANN401 - see the clients
    """Return the request that scores a table; its response is to be read in pieces."""
    format_name = options.get("format")
    others = {key: value for key, value in options.items() if key != "format"}
    version, query = _split_options(others, _TABLE_OPTIONS)
    table = open_source(source, format_name)
    headers = {**table.headers, "accept": response_type(target, table.format)}
    return Call("POST", f"{_path(name, version)}/predict", query, headers, table)


class _Request(Generic[R]):
    """The requests for one call of `run`."""

    def __init__(
        self, verb: Verb[R], name: str, version: str | int | None, query: Mapping[str, str]
    ) -> None:
        self._verb = verb
        self._name = name
        self._version = version
        self._query = query

    def features(self, description: Json) -> Sequence[Json]:
        """Return the features; none if the service does not know them."""
        if description.get("input") == "image":
            raise InvalidData(f"Model {self._name!r} takes images, not the rows of a table.")
        found: Sequence[Json] = description.get("features", ())
        return found

    def select(self, description: Json, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the entries of a Series that are features."""
        names = list(row)
        features = self.features(description) or [{"name": name} for name in names]
        found = find_columns(names, features, SERIES)
        return {name: row[names[position]] for name, position in found.items()}

    def run_one(self, body: bytes, headers: Mapping[str, str]) -> Operation[R]:
        """Predict one row or image."""
        document = (yield self._call(body, headers)).document()
        return self._verb.read(document, document)

    def run_image(self, image: object, spec: Json) -> Operation[R]:
        """Predict one image."""
        source = images.to_source(image, spec)
        if isinstance(source, bytes):
            try:
                return (yield from self.run_one(source, _FILE))
            except (InvalidRequest, ServiceError) as error:
                # The service may read a file as a table, and its response is then one too.
                if isinstance(error, ServiceError) and error.status != _SUCCESS:
                    raise
                description = yield from describe(self._name, self._version)
                if description.get("input") == "image":
                    raise
                raise error.replace_message(
                    f"Model {self._name!r} takes rows, not an image or a file. Pass a row as a "
                    "dict, a list of rows or a DataFrame; score() sends the file of a table."
                ) from None
        return (yield from self.run_one(encode(images.to_item(source)), _JSON))

    def run_array(self, array: Any) -> Operation[R | list[R]]:  # noqa: ANN401 - of numpy
        """Predict the image, the images, the row or the rows of an array."""
        description = yield from describe(self._name, self._version)
        if description.get("input") == "image":
            several = split_array(array, description["image"])
            if several is None:
                return (yield from self.run_image(array, description["image"]))
            return (yield from self._run_images(several, description["image"]))
        if array.ndim == 1:
            return (yield from self._run_rows([array]))[0]
        return (yield from self._run_rows(list(array)))

    def run_list(self, items: list[Any]) -> Operation[list[R]]:
        """Predict several rows, or several images."""
        first = items[0] if items else ()
        if isinstance(first, _SCALARS):
            raise InvalidData(
                f"Several rows are a list of rows, and this list begins with {first!r}; pass one "
                f"row as [[{first!r}, …]], and rows of one value as [[{first!r}], …]."
            )
        is_pixels = is_array(first) and getattr(first, "ndim", 0) > 1
        if not is_pixels and not images.is_image(first):
            return (yield from self._run_rows(items))
        spec: Json = {}
        if any(map(is_array, items)):
            spec = (yield from describe(self._name, self._version)).get("image", {})
        return (yield from self._run_images(items, spec))

    def run_table(self, table: Table) -> Operation[Any]:
        """Predict the rows of a DataFrame; returns a DataFrame."""
        description = yield from describe(self._name, self._version)
        features = self.features(description) or [{"name": name} for name in table.names]
        columns = find_columns(table.names, features)
        self._explain_one_label(description)
        most = self._most_rows(_VALUES_PER_FIELD * len(features))
        batches = table.batches(columns, most=most, complete=len(columns) == len(features))
        if len(table) == 0 and (example := _find_example(description)) is not None:
            # The columns and their types are those of a row.
            found = yield from self._send_batches(iter([[example]]), 1, _read_json)
            return table.build_empty(self._verb.columns(found, self._query, description))
        results = yield from self._send_batches(batches, len(table), _read_json)
        return table.build(self._verb.columns(results, self._query, description))

    def _explain_one_label(self, description: Json) -> None:
        """Explain the second of two class labels in every row, unless another is requested.

        The contributions in a column have opposite signs for the one and the other label.
        """
        labels = description.get("output", {}).get("labels", ())
        if "label" in self._verb.options - self._query.keys() and len(labels) == _TWO_CLASSES:
            self._query = {**self._query, "label": labels[1]}

    def _run_images(self, items: Sequence[object], spec: Json) -> Operation[list[R]]:
        most = min(_MOST_IMAGES, self._verb.most_rows)
        batches = images.batches(items, spec, most=most, most_bytes=_MOST_IMAGE_BYTES)
        return (yield from self._send_batches(batches, len(items), self._verb.read))

    def _run_rows(self, rows: Sequence[Any]) -> Operation[list[R]]:
        width = len(rows[0]) if rows and hasattr(rows[0], "__len__") else 1
        most = self._most_rows(_VALUES_PER_FIELD * width)
        starts = range(0, max(len(rows), 1), most)
        batches = (rows_to_json(rows[start : start + most], start) for start in starts)
        return (yield from self._send_batches(batches, len(rows), self._verb.read))

    def _most_rows(self, values: int) -> int:
        """Return how many rows of so many values a request has at most."""
        return max(1, min(self._verb.most_rows, _MOST_VALUES // max(values, 1)))

    def _send_batches(
        self, batches: Iterator[list[Any]], rows: int, read: Callable[[Json, Json], S]
    ) -> Operation[list[S]]:
        """Send batches of rows or images, in order.

        The first response decides the version for the others. A batch that exceeds a limit of the
        service is divided. The rows in an error are those of the data.
        """
        results: list[S] = []
        for batch in batches:
            pending = [batch]
            while pending:
                part = pending.pop()
                try:
                    document = (yield self._call(encode(part), _JSON)).document()
                except RequestTooLarge:
                    if len(part) == 1:
                        raise
                    middle = len(part) // 2
                    pending += [part[middle:], part[:middle]]
                    continue
                except InvalidRequest as error:
                    if rows == len(part):
                        raise
                    raise error.shift_rows(len(results), len(part)) from None
                self._version = document.get("model_version", self._version)
                results += [read(one, document) for one in document["predictions"]]
        return results

    def _call(self, body: bytes, headers: Mapping[str, str]) -> Call:
        path = f"{_path(self._name, self._version)}/{self._verb.name}"
        return Call("POST", path, self._query, headers, body)


def _read_json(prediction: Json, _: Json) -> Json:
    """Return a prediction as it is: the columns of a DataFrame need no objects for each row."""
    return prediction


def _find_example(description: Json) -> dict[str, Any] | None:
    """Return a row that the model accepts; None if the service does not know one."""
    features = description.get("features", ())
    if not features or not all("example" in feature for feature in features):
        return None
    return {feature["name"]: feature["example"] for feature in features}


def _path(name: str, version: str | int | None) -> str:
    path = f"/models/{quote(name, safe='')}"
    return path if version is None else f"{path}/versions/{quote(str(version), safe='')}"


def _split_options(
    options: Mapping[str, Any], known: frozenset[str]
) -> tuple[str | int | None, dict[str, str]]:
    """Return the version, and the other options as parameters of a query; None is the default."""
    query = {}
    for name, value in options.items():
        if name not in known | {"version"}:
            names = ", ".join(sorted(known | {"version"}))
            raise TypeError(f"{name!r} is not an option; the options are {names}.")
        if name != "version" and value is not None:
            text = str(value).lower() if isinstance(value, bool) else str(value)
            query[name] = _OPTION_TEXTS.get((name, value), text)
    return options.get("version"), query
