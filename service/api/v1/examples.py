"""``:classify`` and ``:regress``: examples by name in, labelled scores or single values out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from service.api.body import RequestHead
from service.api.inference import DecodedRequest, EncodedBody
from service.api.v1.protocol import (
    MEDIA_TYPES,
    feature_rows,
    instance,
    read_document,
    read_list,
    stacked,
)
from service.bundle.manifest import ClassesOutput, ValueOutput
from service.codecs.endpoint import Endpoint
from service.codecs.images import KEY
from service.codecs.outputs import scores_by_label
from service.engine.tensors import ABSENT, DTYPES, Array, Arrays, TensorSpec
from service.errors import InvalidRequest
from service.limits import Limits
from service.values import shown

_EXAMPLES, _CONTEXT = "examples", "context"


@dataclass(frozen=True)
class Task:
    """What an answer is made of, and which bundles can give it."""

    verb: str
    output: type[ClassesOutput] | type[ValueOutput]
    results: Callable[[Endpoint, Arrays, int], Sequence[object]]


class V1ExamplesProtocol:
    """``examples``, each joined with ``context``, what they have in common."""

    name = "v1"

    def __init__(self, task: Task, limits: Limits) -> None:
        self._limits = limits
        self._task = task

    def media_types(self, _: Endpoint) -> tuple[str, ...]:
        """JSON, however it is called."""
        return MEDIA_TYPES

    def json_bytes(self, body: bytes, head: RequestHead) -> int:  # noqa: ARG002 - the protocol's own parameter
        """All of them."""
        return len(body)

    def decode(self, endpoint: Endpoint, body: bytes, head: RequestHead) -> DecodedRequest[int]:  # noqa: ARG002 - the protocol's own parameter
        """Read the examples, whose number the answer needs."""
        if endpoint.manifest is None:
            template: Mapping[str, object] = {spec.name: "…" for spec in endpoint.inputs}
            examples = self._examples(read_document(body, lambda: {_EXAMPLES: [template]}))
            rows = [_fitted(example, endpoint.inputs) for example in examples]
            return DecodedRequest(stacked(endpoint.inputs, rows).arrays, len(rows))
        if not isinstance(endpoint.manifest.output, self._task.output):
            raise InvalidRequest(
                f"Model {endpoint.name!r} is a {endpoint.manifest.task} model, which cannot "
                f"{self._task.verb}; use :predict."
            )
        if (images := endpoint.images) is not None:
            template = {KEY: {"b64": "the image's file in base64"}}
            shown_images = list(
                self._examples(read_document(body, lambda: {_EXAMPLES: [template]}))
            )
            return DecodedRequest(images.decode(shown_images, instance), len(shown_images))
        codec = endpoint.require_features()
        examples = self._examples(read_document(body, lambda: {_EXAMPLES: [codec.example]}))
        known = {feature.name for feature in codec.features}
        rows = [_unlisted(example, known) for example in examples]
        return DecodedRequest((feature_rows(codec, endpoint.inputs[0], rows),), len(rows))

    def encode(self, endpoint: Endpoint, outputs: Arrays, context: int) -> EncodedBody:
        """``results``, one an example, in their order."""
        results = self._task.results(endpoint, outputs, context)
        return EncodedBody(orjson.dumps({"results": results}, option=orjson.OPT_SERIALIZE_NUMPY))

    def _examples(self, document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """Each example with the context's values, of which every one has a copy."""
        context = document.get(_CONTEXT, {})
        if not isinstance(context, dict):
            raise InvalidRequest(f"'context' must be an object by name, got {shown(context)}.")
        examples = read_list(document, _EXAMPLES)
        self._limits.require_rows(len(examples))
        self._limits.require_values(len(examples) * len(context))
        return _joined(context, examples)


def _joined(context: Mapping[str, Any], examples: Sequence[object]) -> Iterator[Mapping[str, Any]]:
    """Each example with the context's values."""
    for place, example in enumerate(examples):
        if not isinstance(example, dict):
            raise InvalidRequest(f"Example {place} must be an object, got {shown(example)}.")
        if twice := context.keys() & example.keys():
            raise InvalidRequest(
                f"Example {place} and the context both have {shown(min(twice))}; send it in one."
            )
        yield {**context, **example}


def _fitted(example: Mapping[str, Any], specs: Sequence[TensorSpec]) -> Mapping[str, Any]:
    """The example with each value as the graph has it: an example's value is a list of one."""
    ranks = {spec.name: len(spec.shape) for spec in specs}
    return {name: _of_rank(value, ranks.get(name, 0) - 1) for name, value in example.items()}


def _of_rank(value: object, rank: int) -> object:
    if rank == 1 and not isinstance(value, list):
        return [value]
    if rank == 0 and isinstance(value, list) and len(value) == 1:
        return value[0]
    return value


def _unlisted(example: Mapping[str, Any], known: set[str]) -> Mapping[str, Any]:
    return {name: _of_rank(value, 0) if name in known else value for name, value in example.items()}


def _classes(endpoint: Endpoint, outputs: Arrays, count: int) -> Sequence[object]:
    """``[[label, score], …]`` for each example, in the order of the model's classes."""
    spec, found = _numbers(endpoint, outputs)
    scores = found.reshape(-1, 1) if found.ndim == 1 else found
    if scores.ndim != 2 or len(scores) != count:  # noqa: PLR2004 - examples and classes
        raise _unfit(endpoint, found, "a row of scores", count)
    named = endpoint.class_labels.get(spec.name, ())
    scores = scores_by_label(scores, named)
    labels = _labels(endpoint, outputs, scores, named)
    return [list(zip(names, row, strict=True)) for names, row in zip(labels, scores, strict=True)]


def _values(endpoint: Endpoint, outputs: Arrays, count: int) -> Sequence[object]:
    """One number for each example."""
    _, found = _numbers(endpoint, outputs)
    if found.size != count:
        raise _unfit(endpoint, found, "one number", count)
    return list(found.ravel())


CLASSIFY = Task("classify", ClassesOutput, _classes)
REGRESS = Task("regress", ValueOutput, _values)


def _numbers(endpoint: Endpoint, outputs: Arrays) -> tuple[TensorSpec, Array]:
    """The first floating-point output, which a bare model has nothing else to tell by."""
    for spec, array in zip(endpoint.outputs, outputs, strict=True):
        if DTYPES[spec.datatype].kind == "f" and array is not ABSENT:
            return spec, array
    raise InvalidRequest(
        f"Model {endpoint.name!r} answers no floating-point numbers, so it can neither classify "
        "nor regress; use :predict."
    )


def _labels(
    endpoint: Endpoint, outputs: Arrays, scores: Array, named: Sequence[str]
) -> Sequence[Sequence[str]]:
    """A string for each score: the model's, those that it answers beside them, or empty ones."""
    if len(named) == scores.shape[1]:
        return [named] * len(scores)
    for spec, array in zip(endpoint.outputs, outputs, strict=True):
        if spec.datatype == "BYTES" and array.size == scores.size:
            strings: Sequence[Sequence[str]] = array.reshape(scores.shape).tolist()
            return strings
    return [[""] * scores.shape[1]] * len(scores)


def _unfit(endpoint: Endpoint, found: Array, wanted: str, count: int) -> InvalidRequest:
    return InvalidRequest(
        f"Model {endpoint.name!r} answers an array of shape {list(found.shape)}, not {wanted} for "
        f"each of {count} examples; use :predict."
    )
