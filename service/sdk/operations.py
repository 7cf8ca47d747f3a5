"""What the clients can do, without a connection: `Operation`s, which a client runs.

Everything that both clients have in common is here; `service.client` only sends and waits.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from service.sdk import images
from service.sdk.errors import InvalidData, InvalidRequest, RequestTooLarge
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

_JSON = {"content-type": MEDIA_TYPES["json"]}
_FILE = {"content-type": "application/octet-stream"}
# Far below the limits of the service, so that other clients wait little.
_MOST_ROWS = 10_000
_MOST_VALUES = 250_000
_MOST_IMAGES = 64
_MOST_IMAGE_BYTES = 16 << 20
# An object has its names too.
_VALUES_PER_FIELD = 3
# Names differ between the options of Python and the parameters of the service only here.
_OPTION_TEXTS = {("probabilities", True): "all", ("probabilities", False): "none"}


@dataclass(frozen=True)
class Verb(Generic[R]):
    """A kind of request with rows or images, and what its response contains."""

    name: str
    options: frozenset[str]
    most_rows: int
    read: Callable[[Json, Json], R]
    columns: Callable[[Sequence[R], Mapping[str, str], Json], Columns]


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
        features = request.features((yield from describe(name, version)))
        data = {key: cell for key, cell in row.items() if key in features or not features}
    if isinstance(data, Mapping):
        return (yield from request.run_one(encode(to_json(data)), _JSON))
    if images.is_image(data):
        return (yield from request.run_image(data, {}))
    if images.is_array(data):
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

    def features(self, description: Json) -> list[str]:
        """Return the names of the features; none if the service does not know them."""
        if description.get("input") == "image":
            raise InvalidData(f"Model {self._name!r} takes images, not the rows of a table.")
        return [feature["name"] for feature in description.get("features", ())]

    def run_one(self, body: bytes, headers: Mapping[str, str]) -> Operation[R]:
        """Predict one row or image."""
        document = (yield self._call(body, headers)).document()
        return self._verb.read(document, document)

    def run_image(self, image: object, spec: Json) -> Operation[R]:
        """Predict one image."""
        source = images.to_source(image, spec)
        if isinstance(source, bytes):
            return (yield from self.run_one(source, _FILE))
        return (yield from self.run_one(encode(images.to_item(source)), _JSON))

    def run_array(self, array: Any) -> Operation[R | list[R]]:  # noqa: ANN401 - of numpy
        """Predict the image, the images, the row or the rows of an array."""
        description = yield from describe(self._name, self._version)
        if description.get("input") == "image":
            several = images.split_array(array)
            if several is None:
                return (yield from self.run_image(array, description["image"]))
            return (yield from self._run_images(several, description["image"]))
        if array.ndim == 1:
            return (yield from self._run_rows([array]))[0]
        return (yield from self._run_rows(list(array)))

    def run_list(self, items: list[Any]) -> Operation[list[R]]:
        """Predict several rows, or several images."""
        first = items[0] if items else None
        is_pixels = images.is_array(first) and getattr(first, "ndim", 0) > 1
        if not is_pixels and not images.is_image(first):
            return (yield from self._run_rows(items))
        spec: Json = {}
        if any(map(images.is_array, items)):
            spec = (yield from describe(self._name, self._version)).get("image", {})
        return (yield from self._run_images(items, spec))

    def run_table(self, table: Table) -> Operation[Any]:
        """Predict the rows of a DataFrame; returns a DataFrame."""
        description = yield from describe(self._name, self._version)
        features = self.features(description) or table.names
        most = self._most_rows(_VALUES_PER_FIELD * len(features))
        results = yield from self._send_batches(table.batches(features, most), len(table))
        return table.build(self._verb.columns(results, self._query, description))

    def _run_images(self, items: Sequence[object], spec: Json) -> Operation[list[R]]:
        most = min(_MOST_IMAGES, self._verb.most_rows)
        batches = images.batches(items, spec, most=most, most_bytes=_MOST_IMAGE_BYTES)
        return (yield from self._send_batches(batches, len(items)))

    def _run_rows(self, rows: Sequence[Any]) -> Operation[list[R]]:
        width = len(rows[0]) if rows and hasattr(rows[0], "__len__") else 1
        most = self._most_rows(_VALUES_PER_FIELD * width)
        starts = range(0, max(len(rows), 1), most)
        batches = (rows_to_json(rows[start : start + most], start) for start in starts)
        return (yield from self._send_batches(batches, len(rows)))

    def _most_rows(self, values: int) -> int:
        """Return how many rows of so many values a request has at most."""
        return max(1, min(self._verb.most_rows, _MOST_VALUES // max(values, 1)))

    def _send_batches(self, batches: Iterator[list[Any]], rows: int) -> Operation[list[R]]:
        """Send batches of rows or images, in order.

        The first response decides the version for the others. A batch that exceeds a limit of the
        service is divided. The rows in an error are those of the data.
        """
        results: list[R] = []
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
                results += [self._verb.read(one, document) for one in document["predictions"]]
        return results

    def _call(self, body: bytes, headers: Mapping[str, str]) -> Call:
        path = f"{_path(self._name, self._version)}/{self._verb.name}"
        return Call("POST", path, self._query, headers, body)


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
