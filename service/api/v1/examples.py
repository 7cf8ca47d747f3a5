"""``:classify`` and ``:regress``: examples by name, predicted as labeled scores or values."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from service.api.body import RequestHead
from service.api.inference import DecodedRequest, EncodedBody
from service.api.v1.protocol import (
    IMAGE,
    INSTANCE_PREFIX,
    BaseV1Protocol,
    decode_feature_rows,
    example_request,
    read_document,
    read_rows,
    stack_rows,
)
from service.bundle.manifest import ClassesOutput, ValueOutput
from service.codecs.endpoint import Endpoint
from service.codecs.images import KEY
from service.engine.tensors import ABSENT, DTYPES, Array, Arrays, TensorSpec
from service.errors import InvalidRequest
from service.limits import Limits
from service.predictions import scores_by_label
from service.values import format_value

_EXAMPLES, _CONTEXT = "examples", "context"


@dataclass(frozen=True)
class Task:
    """A verb: the outputs that it supports, and how results are made of them."""

    verb: str
    output: type[ClassesOutput] | type[ValueOutput]
    results: Callable[[Endpoint, Arrays, int], Sequence[object]]


class V1ExamplesProtocol(BaseV1Protocol):
    """Requests with ``examples``, each joined with the values of ``context`` that all share."""

    def __init__(self, task: Task, limits: Limits) -> None:
        super().__init__(limits)
        self._task = task

    def decode(self, endpoint: Endpoint, body: bytes, _: RequestHead) -> DecodedRequest[int]:
        """Decode the examples; the response depends on their number."""
        manifest = endpoint.manifest
        if manifest is not None and not isinstance(manifest.output, self._task.output):
            raise InvalidRequest(
                f"Model {endpoint.name!r} is a {manifest.task} model, which cannot "
                f"{self._task.verb}; use :predict."
            )
        document = read_document(
            body, lambda: example_request(endpoint, _EXAMPLES, "…", {KEY: IMAGE})
        )
        examples = list(self._read_examples(document))
        if endpoint.images is not None and endpoint.images.takes(examples):
            return DecodedRequest(endpoint.images.decode(examples, INSTANCE_PREFIX), len(examples))
        if (codec := endpoint.features) is not None:
            scalars = dict.fromkeys(codec.names, 0)
            rows = [_match_ranks(example, scalars) for example in examples]
            matrix = decode_feature_rows(codec, endpoint.inputs[0], rows)
            return DecodedRequest((matrix,), len(rows))
        if (texts := endpoint.texts) is not None:
            scalars = dict.fromkeys(texts.names, 0)
            decoded = texts.decode_rows([_match_ranks(example, scalars) for example in examples])
            return DecodedRequest(texts.to_inputs(decoded), len(examples))
        ranks = {spec.name: len(spec.shape) - 1 for spec in endpoint.inputs}
        rows = [_match_ranks(example, ranks) for example in examples]
        return DecodedRequest(stack_rows(endpoint.inputs, rows)[0], len(rows))

    def encode(self, endpoint: Endpoint, outputs: Arrays, context: int) -> EncodedBody:
        """Encode ``results``, one for each example."""
        results = self._task.results(endpoint, outputs, context)
        return EncodedBody(orjson.dumps({"results": results}, option=orjson.OPT_SERIALIZE_NUMPY))

    def _read_examples(self, document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """Check the limits, and yield each example joined with the values of the context."""
        context = document.get(_CONTEXT, {})
        if not isinstance(context, dict):
            raise InvalidRequest(
                f"'context' must be an object by name, got {format_value(context)}."
            )
        examples = read_rows(document, _EXAMPLES)
        self._limits.require_rows(len(examples))
        self._limits.require_values(len(examples) * len(context))
        for index, example in enumerate(examples):
            if not isinstance(example, dict):
                raise InvalidRequest(
                    f"Example {index} must be an object, got {format_value(example)}."
                )
            if common := context.keys() & example.keys():
                raise InvalidRequest(
                    f"Example {index} and the context both have {format_value(min(common))}; "
                    "send it in one."
                )
            yield {**context, **example}


def _match_ranks(example: Mapping[str, Any], ranks: Mapping[str, int]) -> Mapping[str, Any]:
    """Give each value the rank of its input: in an example, a scalar may be a list of one."""
    return {name: _with_rank(value, ranks.get(name)) for name, value in example.items()}


def _with_rank(value: object, rank: int | None) -> object:
    if rank == 1 and not isinstance(value, list):
        return [value]
    if rank == 0 and isinstance(value, list) and len(value) == 1:
        return value[0]
    return value


def _classify(endpoint: Endpoint, outputs: Arrays, count: int) -> Sequence[object]:
    """Return ``[[label, score], …]`` for each example, in the order of the classes."""
    spec, output = _find_float_output(endpoint, outputs, prefer_labels=True)
    scores = output.reshape(-1, 1) if output.ndim == 1 else output
    if scores.ndim != 2 or len(scores) != count:  # noqa: PLR2004 - examples and classes
        raise _wrong_shape(endpoint, output, "a row of scores", count)
    known = endpoint.class_labels.get(spec.name, ())
    scores = scores_by_label(scores, known)
    labels = _choose_labels(endpoint, outputs, scores, known)
    return [list(zip(names, row, strict=True)) for names, row in zip(labels, scores, strict=True)]


def _regress(endpoint: Endpoint, outputs: Arrays, count: int) -> Sequence[object]:
    """Return one number for each example."""
    _, output = _find_float_output(endpoint, outputs)
    if output.size != count:
        raise _wrong_shape(endpoint, output, "one number", count)
    return list(output.ravel())


CLASSIFY = Task("classify", ClassesOutput, _classify)
REGRESS = Task("regress", ValueOutput, _regress)


def _find_float_output(
    endpoint: Endpoint, outputs: Arrays, *, prefer_labels: bool = False
) -> tuple[TensorSpec, Array]:
    """Return the first floating-point output, or the first one with class names."""
    found = [
        (spec, array)
        for spec, array in zip(endpoint.outputs, outputs, strict=True)
        if DTYPES[spec.datatype].kind == "f" and array is not ABSENT
    ]
    if not found:
        raise InvalidRequest(
            f"Model {endpoint.name!r} has no floating-point output, so it can neither classify nor "
            "regress; use :predict."
        )
    labeled = [each for each in found if prefer_labels and each[0].name in endpoint.class_labels]
    return (labeled or found)[0]


def _choose_labels(
    endpoint: Endpoint, outputs: Arrays, scores: Array, known: Sequence[str]
) -> Sequence[Sequence[str]]:
    """Return a string for each score: class labels, strings of another output, or empty ones."""
    if len(known) == scores.shape[1]:
        return [known] * len(scores)
    for spec, array in zip(endpoint.outputs, outputs, strict=True):
        if spec.datatype == "BYTES" and array.size == scores.size:
            strings: Sequence[Sequence[str]] = array.reshape(scores.shape).tolist()
            return strings
    return [[""] * scores.shape[1]] * len(scores)


def _wrong_shape(endpoint: Endpoint, output: Array, expected: str, count: int) -> InvalidRequest:
    return InvalidRequest(
        f"Model {endpoint.name!r} predicts an array of shape {list(output.shape)}, not {expected} "
        f"for each of {count} examples; use :predict."
    )
