"""Attributions of the predictions of a graph without a manifest, by the names of its inputs.

Such a graph has no training statistics, so numbers are compared with zero. Strings have no neutral
value, and remain those of the row.
"""

from collections.abc import Sequence

import numpy as np

from service.api.explain.attributions import create_explanation
from service.api.explain.target import Explanation, find_label
from service.bundle.explanations import sum_exactly
from service.codecs.endpoint import Endpoint
from service.codecs.output_rows import GraphOutputs
from service.engine.model import ServedModel
from service.engine.tensors import DTYPES, Array, Arrays
from service.errors import InvalidRequest
from service.explain import plan_mixtures, predict_in_chunks

_MEANING = (
    "base is the prediction for this row with zero for each number and false for each boolean, "
    "since a graph without a manifest has no typical row; score is that for this row. A "
    "contribution is how much the prediction changes when this row's value replaces the zero, "
    "averaged over {orders} orders of replacing one value after another; base and the "
    "contributions add up to score."
)
_WORDS = " Strings remain those of the row, and have no contribution: {names}."


async def explain_columns(
    model: ServedModel,
    endpoint: Endpoint,
    inputs: Arrays,
    joined: Array,
    label: str | None,
) -> tuple[list[Explanation], Explanation]:
    """Explain each row by Shapley values; also return the fields that all rows share.

    Args:
        model: that made the predictions.
        endpoint: of the model.
        inputs: of the graph, each ``[rows]`` or ``[rows, 1]``.
        joined: the rows of its outputs.
        label: the class label to explain; None is the predicted one of each row.

    Raises:
        InvalidRequest: the inputs are no columns or all of them are strings, no output can be
            explained, or there is no such class label.
    """
    outputs = endpoint.require_graph_outputs()
    if endpoint.columns is None:
        raise InvalidRequest(
            f"Model {endpoint.name!r} has no explanations: they are for the features of a table, "
            "and for images of a bundle."
        )
    numeric = [k for k, spec in enumerate(endpoint.inputs) if spec.datatype != "BYTES"]
    words = [spec.name for spec in endpoint.inputs if spec.datatype == "BYTES"]
    if not numeric:
        raise InvalidRequest(
            f"Model {endpoint.name!r} has no explanations: its features are strings, and a graph "
            "without a manifest has no other string to compare one with. Import it as a bundle "
            "with its categories."
        )
    scores = outputs.select(joined)
    positions = _choose_positions(outputs, joined, label)
    plan = plan_mixtures(len(numeric))
    mixed = await _predict_mixtures(model, outputs, inputs, numeric, plan.masks[:-1])
    numbers = np.concatenate([mixed, scores[:, np.newaxis]], axis=1).astype(np.float64)
    names = [endpoint.inputs[k].name for k in numeric]
    explanations: list[Explanation] = []
    for row, position in enumerate(positions):
        line = numbers[row, :, position]
        _require_finite(line, row)
        total = sum_exactly(float(line[0]), (line @ plan.weights).tolist())
        quantity = outputs.quantity(position)
        explanations.append(create_explanation(quantity, names, total))
    meaning = _MEANING.format(orders=plan.orders)
    if words:
        meaning += _WORDS.format(names=", ".join(map(repr, words)))
    zeros = {endpoint.inputs[k].name: _zero(endpoint.inputs[k].datatype) for k in numeric}
    return explanations, {"method": "shapley", "meaning": meaning, "reference": zeros}


def _choose_positions(outputs: GraphOutputs, joined: Array, label: str | None) -> Sequence[int]:
    """Return the position of the explained class of each row; zero if there are no classes."""
    if label is None:
        return outputs.positions(joined)
    return [find_label(outputs.classes, label)] * len(joined)


async def _predict_mixtures(
    model: ServedModel, outputs: GraphOutputs, inputs: Arrays, numeric: Sequence[int], masks: Array
) -> Array:
    """Predict each mixture of each row with zeros, ``[rows, mixtures, width]``."""
    rows, count = len(inputs[0]), len(masks)

    def mix(start: int, end: int) -> Arrays:
        row, mask = np.divmod(np.arange(start, end), count)
        mixed = [array[row] for array in inputs]
        for column, k in enumerate(numeric):
            own = masks[mask, column].reshape(-1, *[1] * (mixed[k].ndim - 1))
            mixed[k] = np.where(own, mixed[k], np.zeros((), mixed[k].dtype))
        return tuple(mixed)

    parts = [
        outputs.select(outputs.join(arrays, size))
        async for arrays, size in predict_in_chunks(model, rows * count, mix)
    ]
    table = np.concatenate(parts)
    return table.reshape(rows, count, table.shape[1])


def _require_finite(numbers: Array, row: int) -> None:
    if not np.isfinite(numbers).all():
        raise InvalidRequest(
            f"Row {row} has no explanation: its prediction, or the one with zero for some of its "
            "numbers, is not a finite number."
        )


def _zero(datatype: str) -> object:
    return np.zeros((), DTYPES[datatype]).item()
