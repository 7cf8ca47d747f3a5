"""What surrounds the tensors of a request: JSON and bytes apart, and the outputs wanted."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

from service.api.body import may_hold_booleans
from service.api.v2.shared_memory import Place, place_of
from service.engine.session import TensorSpec
from service.errors import InvalidRequest
from service.limits import Limits
from service.values import nearest_of, shown


class Wanted(NamedTuple):
    """One output: which it is, its form, how many classes where it is ranked, and where it goes."""

    output: int
    binary: bool = False
    classes: int = 0
    place: Place | None = None


# The answer's document by the shapes of its arrays.
Written = dict[tuple[tuple[int, ...], ...], bytes]


class Asked(NamedTuple):
    """What a request says about its answer.

    ``level`` is that of the interval's ends, which follow the graph's own outputs; ``written`` has
    the documents of answers to the very same words.
    """

    id: str | None
    outputs: tuple[Wanted, ...]
    level: float | None = None
    written: Written | None = None

    @property
    def all_binary(self) -> bool:
        """Whether the answer's document depends on nothing but shapes."""
        return self.level is None and all(wanted.binary for wanted in self.outputs)


class Payload:
    """A body in two parts: a JSON document, or None where all is raw, and bytes taken in order."""

    def __init__(self, document: bytes | None, binary: memoryview, limits: Limits) -> None:
        self._limits = limits
        self.document = document
        self._binary = binary
        self._taken = 0

    @property
    def may_hold_booleans(self) -> bool:
        """Whether a boolean can be among the document's values."""
        return self.document is not None and may_hold_booleans(self.document)

    def require_size(self, shape: Sequence[int], *, strings: bool) -> None:
        """Reject a tensor of too many rows or strings, before it is read.

        Raises:
            TooManyRows: its first axis is too long.
            TooManyJsonMembers: it has too many strings.
        """
        self._limits.require_rows(shape[0] if shape else 1)
        if strings:
            self._limits.require_values(prod(shape))

    def take(self, size: object, name: str) -> memoryview:
        """The next ``size`` bytes.

        Raises:
            InvalidRequest: ``size`` is no length, or more than is left.
        """
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise InvalidRequest(
                f"Input {name!r}: binary_data_size is {shown(size)}, not a number of bytes."
            )
        left = len(self._binary) - self._taken
        if size > left:
            raise InvalidRequest(
                f"Input {name!r}: binary_data_size is {size}, and the body has {left} bytes left."
            )
        self._taken += size
        return self._binary[self._taken - size : self._taken]

    def rest(self) -> memoryview:
        """All bytes that are left."""
        return self._binary[self._taken :]

    def require_consumed(self) -> None:
        """Refuse bytes that no input has taken.

        Raises:
            InvalidRequest: some are left.
        """
        if left := len(self.rest()):
            raise InvalidRequest(f"{left} bytes of the body belong to no input.")


def json_length(body: bytes, stated: str | None) -> int:
    """How many of a body's first bytes are JSON, as the header says.

    Args:
        body: the whole body, decompressed.
        stated: the header's text; None is a body of JSON alone, 0 a body without JSON.

    Raises:
        InvalidRequest: the header is no length, or longer than the body.
    """
    if stated is None:
        return len(body)
    if not stated.isascii() or not stated.isdecimal() or len(stated) > 15:  # noqa: PLR2004 - longer than any body
        raise InvalidRequest(
            f"Inference-Header-Content-Length is {stated[:60]!r}; it is the number of bytes "
            "of the JSON part."
        )
    length = int(stated)
    if length > len(body):
        raise InvalidRequest(
            f"Inference-Header-Content-Length is {length}, and the body has {len(body)} bytes."
        )
    return length


def split(body: bytes, stated: str | None, limits: Limits) -> Payload:
    """Take a body apart where the header says that its JSON ends.

    Args:
        body: the whole body, decompressed.
        stated: the header's text, as `json_length` has it.
        limits: what its tensors are checked against.

    Raises:
        InvalidRequest: the header is no length, or longer than the body.
    """
    if stated is None:
        return Payload(body, memoryview(b""), limits)
    length = json_length(body, stated)
    return Payload(body[:length] if length else None, memoryview(body)[length:], limits)


def wanted_outputs(document: Mapping[str, Any], specs: Sequence[TensorSpec]) -> tuple[Wanted, ...]:
    """The outputs a request asks for, in its order; all of them where it names none.

    Raises:
        InvalidRequest: one is unknown, given twice, or asked for in a form that there is not.
    """
    binary = _flag(parameters_of(document), "binary_data_output", default=False)
    given = document.get("outputs")
    if given is None or given == []:
        return _all_of(len(specs), binary=binary)
    if not isinstance(given, list):
        raise InvalidRequest("'outputs' must be a list of objects, each with a 'name'.")
    names = [spec.name for spec in specs]
    found: dict[str, Wanted] = {}
    for output in given:
        name = output.get("name") if isinstance(output, dict) else None
        if not isinstance(name, str):
            raise InvalidRequest("Each output is an object with a 'name', a string.")
        if name not in names:
            raise InvalidRequest(f"Unknown output {name[:100]!r}; {nearest_of(name, names)}")
        if name in found:
            raise InvalidRequest(f"Output {name!r} is given twice.")
        found[name] = _wanted(names.index(name), name, parameters_of(output), binary=binary)
    return tuple(found.values())


@lru_cache(maxsize=64)
def _all_of(count: int, *, binary: bool) -> tuple[Wanted, ...]:
    return tuple(Wanted(index, binary) for index in range(count))


def _wanted(index: int, name: str, parameters: Mapping[str, Any], *, binary: bool) -> Wanted:
    classes = parameters.get("classification", 0)
    if not isinstance(classes, int) or isinstance(classes, bool) or classes < 0:
        raise InvalidRequest(f"'classification' must be a number of classes, got {shown(classes)}.")
    own = _flag(parameters, "binary_data", default=binary)
    place = place_of(parameters, name)
    return Wanted(index, own and place is None, classes, place)


def _flag(parameters: Mapping[str, Any], key: str, *, default: bool) -> bool:
    value = parameters.get(key, default)
    if not isinstance(value, bool):
        raise InvalidRequest(f"{key!r} must be true or false, got {shown(value)}.")
    return value


def parameters_of(owner: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters of a request, an input or an output.

    Raises:
        InvalidRequest: they are no object.
    """
    parameters = owner.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise InvalidRequest(f"'parameters' must be an object, got {shown(parameters)}.")
    return parameters
