"""The JSON around binary tensors, which a client sends alike with every request.

What such a document asks depends on its bytes and the model alone, so it is understood once; the
document of the answer depends on that and the answer's shapes, so it is written once.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from service.api.v2.request import Asked, Written
from service.engine.model import ServedModel

_KEPT = "v2 documents"
# Documents with an id are all different; they push out each other, and cost little more.
_MOST_DOCUMENTS = 64
_LONGEST_DOCUMENT = 1024
MOST_SHAPES = 64


class Understood(NamedTuple):
    """What a document asks: the shape and the bytes of its one tensor, and what of the answer.

    ``written`` has the answer's document by the shapes of its arrays.
    """

    shape: tuple[int, ...]
    size: int
    asked: Asked
    written: Written


def known(model: ServedModel, document: bytes) -> Understood | None:
    """What this document is known to ask of this model, or None."""
    documents: dict[bytes, Understood] | None = model.kept.get(_KEPT)
    return None if documents is None else documents.get(document)


def remember(
    model: ServedModel, text: bytes, document: Mapping[str, Any], asked: Asked, inputs: object
) -> Asked:
    """Keep what a document asks, where it is one tensor's that lies in the body.

    Args:
        model: that is asked.
        text: the document's bytes.
        document: what they say.
        asked: as it was understood.
        inputs: as they were read.

    Returns:
        What is asked, with the answer's documents that are known.
    """
    tensors: Sequence[Mapping[str, Any]] = document["inputs"]
    if not isinstance(inputs, tuple) or len(tensors) != 1 or len(text) > _LONGEST_DOCUMENT:
        return asked
    tensor, spec = tensors[0], model.inputs[0]
    parameters = tensor.get("parameters") or {}
    size = inputs[0].nbytes
    # A picture's file is not the model's own tensor, and memory that is shared has other bytes.
    is_own = tensor.get("datatype") == spec.datatype and spec.datatype != "BYTES"
    if not is_own or parameters != {"binary_data_size": size}:
        return asked
    if any(wanted.place or wanted.classes for wanted in asked.outputs):
        return asked
    documents: dict[bytes, Understood] = model.kept.setdefault(_KEPT, {})
    if len(documents) >= _MOST_DOCUMENTS:
        documents.clear()
    understood = Understood(inputs[0].shape, size, asked, {})
    documents[text] = understood
    return asked._replace(written=understood.written)
