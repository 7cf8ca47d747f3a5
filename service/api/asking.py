"""One request to one model: its body to arrays, and the model's outputs to its answer.

Both drivers use it: `service.api.fast_inference`, which is called back with the response, and
`service.api.inference`, which awaits it.
"""

from collections.abc import Iterable, Mapping
from time import perf_counter
from typing import Generic, NamedTuple, Protocol, TypeVar

from service.api.body import JSON, compressed
from service.api.head import Head
from service.codecs.endpoint import Endpoint
from service.engine.batching import Prediction
from service.engine.dtypes import Arrays, Inputs
from service.engine.model import ServedModel
from service.errors import InvalidRequest
from service.observability.metrics import Metrics, Phases

Context = TypeVar("Context")

# The phases are a Server-Timing header, in milliseconds.
_LINES = (
    b"content-type: %b\r\n"
    b"content-length: %d\r\n"
    b"server-timing: decode;dur=%.3f, queue;dur=%.3f, compute;dur=%.3f, encode;dur=%.3f\r\n"
    b"x-model-version: %b\r\n"
)
_NO_HEADERS: Mapping[str, str] = {}


class Decoded(NamedTuple, Generic[Context]):
    """What the model shall be asked, and what the answer's form depends on."""

    inputs: Inputs
    context: Context


class Encoded(NamedTuple):
    """A body, what it is, and what else its headers say."""

    content: bytes
    media_type: str = JSON
    headers: Mapping[str, str] = _NO_HEADERS


class Dialect(Protocol[Context]):
    """How one protocol writes requests and answers."""

    @property
    def name(self) -> str:
        """As the metrics call it."""

    def media_types(self, endpoint: Endpoint) -> tuple[str, ...]:
        """What it reads for this model."""

    def json_bytes(self, body: bytes, head: Head) -> int:
        """How many of a body's first bytes are JSON."""

    def decode(self, endpoint: Endpoint, body: bytes, head: Head) -> Decoded[Context]:
        """Turn a body into arrays the model can take; raises `InvalidRequest` where it cannot.

        Args:
            endpoint: of the model.
            body: decompressed.
            head: what was said before it.
        """

    def encode(self, endpoint: Endpoint, outputs: Arrays, context: Context) -> Encoded:
        """Turn the model's outputs into a body."""


class Answer(NamedTuple):
    """What goes out: a status, header lines as they are sent, and a body."""

    status: int
    lines: bytes
    content: bytes

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The lines as ASGI has them, by name and value."""
        pairs = [line.partition(b": ") for line in self.lines.split(b"\r\n")[:-1]]
        return [(name, value) for name, _, value in pairs]


def header_lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Headers as they are sent."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])


class Asking(Generic[Context]):
    """A prediction under way.

    Args:
        dialect: how request and answer are written.
        model: that predicts.
        endpoint: of the model.
        head: of the request.
        metrics: told of the answer.
    """

    __slots__ = (
        "_context",
        "_decode_seconds",
        "_dialect",
        "_encode_seconds",
        "_head",
        "_metrics",
        "endpoint",
        "model",
    )

    def __init__(
        self,
        dialect: Dialect[Context],
        model: ServedModel,
        endpoint: Endpoint,
        head: Head,
        metrics: Metrics,
    ) -> None:
        self.model = model
        self.endpoint = endpoint
        self._dialect = dialect
        self._head = head
        self._metrics = metrics
        self._decode_seconds = self._encode_seconds = 0.0

    def decode(self, body: bytes) -> Inputs:
        """What the model shall be asked, or what will have made it.

        Raises:
            InvalidRequest: the body is not what the dialect or the model takes.
        """
        started = perf_counter()
        decoded = decode(self._dialect, self.endpoint, body, self._head)
        self._context = decoded.context
        self._decode_seconds = perf_counter() - started
        return decoded.inputs

    async def made(self, inputs: Inputs) -> Arrays:
        """The arrays, once they are there."""
        started = perf_counter()
        arrays = await made(inputs)
        self._decode_seconds += perf_counter() - started
        return arrays

    def encode(self, outputs: Arrays) -> Encoded:
        """The answer's body, compressed where it is large and the caller accepts that."""
        started = perf_counter()
        encoded = self._dialect.encode(self.endpoint, outputs, self._context)
        content, packing = compressed(encoded.content, self._head.get(b"accept-encoding"))
        if packing:
            encoded = Encoded(content, encoded.media_type, {**encoded.headers, **packing})
        self._encode_seconds = perf_counter() - started
        return encoded

    def answer(self, rows: int, prediction: Prediction, encoded: Encoded) -> Answer:
        """The answer, counted; on the event loop."""
        model = self.model
        _, queue, compute = prediction
        phases = Phases(self._decode_seconds, queue, compute, self._encode_seconds)
        self._metrics.predicted(model.name, model.version, self._dialect.name, rows, phases)
        model.statistics.answered(phases)
        content, media_type, headers = encoded
        lines = _LINES % (
            media_type.encode(),
            len(content),
            1e3 * self._decode_seconds,
            1e3 * queue,
            1e3 * compute,
            1e3 * self._encode_seconds,
            model.version.encode(),
        )
        if headers:
            lines += header_lines((k.encode(), value.encode()) for k, value in headers.items())
        return Answer(200, lines, content)


def decode(
    dialect: Dialect[Context], endpoint: Endpoint, body: bytes, head: Head
) -> Decoded[Context]:
    """What a body asks of a model.

    Args:
        dialect: how it is written.
        endpoint: of the model.
        body: what was sent, unpacked.
        head: what was said before it.

    Raises:
        InvalidRequest: it is not what the dialect or the model takes.
    """
    try:
        return dialect.decode(endpoint, body, head)
    except RecursionError:
        # The parser takes a thousand levels, which is more than Python code may follow.
        raise InvalidRequest(
            "The body is nested too deeply; send arrays with no more levels than the model's "
            "inputs have axes."
        ) from None


async def made(inputs: Inputs) -> Arrays:
    """The arrays, once they are there."""
    return inputs if isinstance(inputs, tuple) else await inputs()
