"""What the attributes of a node say: class names, words, and numbers."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx import AttributeProto, NodeProto, TensorProto, helper, numpy_helper

ClassNames = list[str] | list[int]

_CLASS_LISTS = ("classlabels_strings", "classlabels_int64s", "classlabels_ints")


def read_classes(node: NodeProto) -> ClassNames | None:
    """Return the classes that a classifier or a map lists."""
    for attribute in node.attribute:
        if attribute.name in _CLASS_LISTS and (attribute.strings or attribute.ints):
            return [word.decode() for word in attribute.strings] or list(attribute.ints)
    return None


def read_values(attributes: Mapping[str, Any]) -> ClassNames | None:
    """Return the words or numbers of a LabelEncoder, in the order of its keys if they are numbers.

    None if it returns other numbers.
    """
    given = ("values_strings", "values_int64s", "values_tensor", "classes_strings")
    values = next((to_names(attributes[key]) for key in given if key in attributes), None)
    known = (attributes.get(f"keys_{kind}") for kind in ("int64s", "floats", "tensor"))
    keys = np.asarray(next((one for one in known if one is not None), []))
    if values is None or len(keys) != len(values) or keys.dtype.kind not in "iuf":
        return values
    order = keys.argsort(kind="stable").tolist()
    words = [value for value in values if isinstance(value, str)]
    numbers = [value for value in values if not isinstance(value, str)]
    return [words[k] for k in order] if words else [numbers[k] for k in order]


def read_attributes(node: NodeProto) -> dict[str, Any]:
    """Return the values of the attributes; tensors as arrays, without subgraphs."""
    graphs = (AttributeProto.GRAPH, AttributeProto.GRAPHS)
    return {
        attribute.name: decode(helper.get_attribute_value(attribute))
        for attribute in node.attribute
        if attribute.type not in graphs
    }


def decode(value: Any) -> Any:  # noqa: ANN401 - an attribute has any type
    """Return tensors as arrays, and bytes as words."""
    if isinstance(value, TensorProto):
        return numpy_helper.to_array(value)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, list) and value and isinstance(value[0], bytes):
        return [one.decode(errors="replace") for one in value]
    return value


def to_names(values: Any) -> ClassNames | None:  # noqa: ANN401 - an array or a list
    """Return names as words or whole numbers; None if they are other numbers."""
    array = np.asarray(values).ravel()
    if array.dtype.kind in "OUS":
        return [one.decode() if isinstance(one, bytes) else str(one) for one in array.tolist()]
    return [int(one) for one in array.tolist()] if array.dtype.kind in "iub" else None
